"""What the commands' arguments may be, and those that several commands share."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replyd.domain import address

# `argparse` has no public name for what `add_subparsers` returns.
Commands = Any
Run = Callable[[argparse.Namespace], int]

_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def add_demo(commands: Commands, run: Run) -> None:
    demo = commands.add_parser(
        "demo",
        help="try it with nothing but Python",
        description="The whole of replyd against doubles of AWS, Twilio and OpenAI on this "
        "machine, and a page to play with it. Uses the real OpenAI when OPENAI_API_KEY is set.",
    )
    demo.add_argument(
        "--say",
        action="append",
        metavar="TEXT",
        help="say this as a customer, print what came of it and exit; repeat it for a burst",
    )
    demo.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings to try: their AI, tools, limits and so on, with the demo's table, queues "
        "and Twilio. A customer named Lee is answered by [ai.profiles.lee], if there is one",
    )
    demo.add_argument("--port", type=int, default=8088, help="port of the page (default 8088)")
    demo.add_argument("--no-browser", action="store_true", help="do not open the page")
    demo.set_defaults(run=run, set=[])


def add_simulate(commands: Commands, run: Run) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="look for a run in which a promise breaks",
        description="Whole instances on a virtual clock, with seeded faults, and an oracle that "
        "knows what was sent and what was accepted. Needs nothing, touches nothing.",
    )
    simulate.add_argument("--seed", type=int, default=0, help="the first one (default 0)")
    simulate.add_argument("--seeds", type=positive, default=100, help="how many (default 100)")
    simulate.add_argument(
        "--workers", type=positive, help="instances in each run (default: 2 to 4, as the seed says)"
    )
    simulate.add_argument("--jobs", type=positive, help="processes (default: one for each core)")
    simulate.add_argument(
        "--timeline", action="store_true", help="run the one seed and print all that happens"
    )
    simulate.set_defaults(run=run)


def add_init(commands: Commands, run: Run) -> None:
    init = commands.add_parser(
        "init",
        help="create the table and the queues that are missing",
        description="Creates the table, both queues and their dead-letter queues where they are "
        "missing, changes nothing that exists, and prints the settings to use.",
    )
    init.add_argument("--prefix", default="replyd", help="of the names (default replyd)")
    init.add_argument("--table", help="name of the table, instead of PREFIX-conversations")
    add_settings(init)
    init.set_defaults(run=run)


def add_check(commands: Commands, run: Run) -> None:
    check = commands.add_parser(
        "check",
        help="look whether everything needed is there",
        description="Validates the settings, reaches every dependency, and says how to mend what "
        "is wrong. Sends nothing and changes nothing.",
    )
    how = check.add_mutually_exclusive_group()
    how.add_argument(
        "--offline",
        action="store_true",
        help="reach nobody: the settings and the tools' modules alone; secrets need not be there",
    )
    how.add_argument(
        "--assistants",
        action="store_true",
        help="read up to 10,000 items of the table for assistants and profiles that the settings "
        "do not know; without the flag only where they speak of assistants",
    )
    check.add_argument("--json", action="store_true", help="for scripts")
    add_settings(check)
    check.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the settings (default config/replyd.toml, where there is one)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=override,
        metavar="SECTION.KEY=VALUE",
        help="one setting, above file and environment; repeatable",
    )


def add_bodies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bodies", action="store_true", help="with texts, which are personal data")


def override(text: str) -> tuple[str, str]:
    """SECTION.KEY=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not SECTION.KEY=VALUE")
    return name, value


def positive(text: str) -> int:
    """1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def count(value: str) -> int:
    """0 or more."""
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is not a number")
    return int(value)


def customer(value: str) -> str:
    """An address, without the channel prefix."""
    if not address.is_address(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no address such as +447700900001")
    return address.bare(value)


def sid(value: str) -> str:
    if _SID.fullmatch(value) is None:
        raise argparse.ArgumentTypeError(f"{value!r} is no SID")
    return value


def name(value: str) -> str:
    """Who acts."""
    if not (0 < len(value) <= 100 and value.isprintable()):
        raise argparse.ArgumentTypeError("a name has 1 to 100 characters")
    return value
