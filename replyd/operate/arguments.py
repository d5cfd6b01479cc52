"""What the commands' arguments may be, and those that several commands share."""

import argparse
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replyd.domain import address

if TYPE_CHECKING:
    from replyd.flows.desk import Desk
    from replyd.operate.people import Counter

# `argparse` has no public name for what `add_subparsers` returns.
Commands = Any
Run = Callable[[argparse.Namespace], int]
# Adds a command with what all operators' commands have in common.
Add = Callable[..., argparse.ArgumentParser]
OpenDesk = Callable[[argparse.Namespace], "AbstractAsyncContextManager[Desk]"]
OpenCounter = Callable[[argparse.Namespace], "AbstractAsyncContextManager[Counter]"]

# Exit codes.
OK = 0
NOTHING_FOUND = 1
USAGE = 2

# The queues whose dead letters are looked after.
REPLIES, HANDOFF = "replies", "handoff"
# What is said before a customer is erased.
SHARED_RECORDS = (
    "The records are shared with whoever starts conversations: they go as a whole, with that "
    "one's attributes."
)

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


def add_twilio(commands: Commands, run: Run) -> None:
    group = commands.add_parser("twilio", help="look after Twilio's side").add_subparsers(
        required=True, metavar="COMMAND"
    )
    configure = group.add_parser(
        "configure",
        help="point the numbers' webhooks at replyd",
        description="Shows which numbers' webhooks would change, old and new, and changes them "
        "with --yes: those that lead to the host of server.public_url in another way than they "
        "should, and those that lead nowhere. The fallback URL and all else stay. Exit code 2 "
        "when there is something to change and no --yes, 1 when there is no such number.",
    )
    configure.add_argument(
        "--number",
        type=number,
        metavar="TEL",
        help="this one alone, wherever it leads now, such as +447700900100: its WhatsApp sender, "
        "or its SMS where it has none",
    )
    configure.add_argument("--yes", action="store_true", help="really")
    add_settings(configure)
    configure.set_defaults(run=run)


def add_forget(commands: Commands, run: Run) -> None:
    forget = commands.add_parser(
        "forget",
        help="erase a customer",
        description="Shows what there is of a customer in the table, at Twilio and at OpenAI, and "
        "erases it with --yes; then prints a receipt. A run that was cut off can be repeated. "
        f"{SHARED_RECORDS} Exit code 2 when there is something and no --yes, 1 when there is "
        "nothing, 69 when something is left: run it again.",
    )
    forget.add_argument(
        "tel", type=customer, metavar="TEL", help="such as +447700900001, or an id as US.ABC123"
    )
    forget.add_argument("--yes", action="store_true", help="really, and for good")
    forget.add_argument(
        "--even-unanswered",
        action="store_true",
        help="also while messages wait for their answer: they get none, and people do not learn "
        "of them",
    )
    forget.add_argument(
        "--forget-opt-out",
        action="store_true",
        help="erase also that the customer has said STOP: whoever starts a conversation with them "
        "then does not know",
    )
    forget.add_argument(
        "--wait",
        type=count,
        default=60,
        metavar="SECONDS",
        help="for turns under way to end (default 60)",
    )
    forget.add_argument("--json", action="store_true", help="for scripts")
    add_settings(forget)
    forget.set_defaults(run=run)


def add_consent(parent: Commands, add: Add, run: Any, open_desk: OpenDesk) -> None:
    """Below `conversation`; `add` and what it is given as `commands.add_to` has them."""
    parser = add(
        parent,
        "consent",
        run,
        open_desk,
        help="when a customer said STOP and START",
        description="For each record of a customer, newest first: whether the AI may write, and "
        "the newest 100 times that the customer changed it. Exit code 1 when there is no record.",
    )
    parser.add_argument("tel", type=customer, metavar="TEL", help="such as +447700900001")


def add_people(
    parent: Commands, add: Add, run: Any, *, open_desk: OpenDesk, open_counter: OpenCounter
) -> None:
    """The commands with which people act, as `add_consent`: `act` tells `run` which one it is."""
    listed = add(
        parent,
        "list",
        run,
        open_desk,
        help="conversations, such as those whose customer waits for a person",
        description="A page of the table, in no order; each costs the reading of up to 1,000 "
        "items. Says how to see the next one.",
    )
    listed.set_defaults(act="list")
    listed.add_argument("--waiting", action="store_true", help="only where the customer waits")
    listed.add_argument("--limit", type=count, default=50, metavar="N", help="default 50")
    listed.add_argument("--cursor", default="", help="of the page before")
    handoff = add(
        parent,
        "handoff",
        run,
        open_counter,
        help="take a conversation from the AI",
        description="Sets handoff_to_human: no AI reply starts from now on, and new messages go to "
        "the handoff queue.",
    )
    handoff.add_argument("--reason", default="", metavar="TEXT", help="kept in the record")
    release = add(
        parent,
        "release",
        run,
        open_counter,
        help="give a conversation back to the AI",
        description="Lowers handoff_to_human: the AI answers what comes next.",
    )
    reply = add(
        parent,
        "reply",
        run,
        open_counter,
        help="answer as a person",
        description="Sends the text to the customer, once, and takes the conversation from the AI. "
        "Waits up to 20 s for the AI to end its turn; exit code 75 when it does not.",
    )
    for parser, act in ((handoff, "handoff"), (release, "release"), (reply, "reply")):
        parser.set_defaults(act=act)
        parser.add_argument("tel", type=customer, metavar="TEL", help="such as +447700900001")
        parser.add_argument(
            "conversation_id",
            nargs="?",
            default="",
            metavar="CONVERSATION",
            help="default: the one that takes new messages, where there is one",
        )
        parser.add_argument("--author", type=name, required=True, metavar="NAME", help="who acts")
    reply.add_argument("--text", required=True, help="what is sent")
    reply.add_argument(
        "--key",
        type=sid,
        metavar="KEY",
        help="of an earlier try: sends nothing that was sent under it (default: a new one, shown)",
    )
    reply.add_argument(
        "--account", default="", metavar="SID", help="Twilio's, where the record does not tell"
    )


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


def number(value: str) -> str:
    if not address.is_address(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no number such as +447700900100")
    return address.bare(value)
