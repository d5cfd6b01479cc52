"""What the commands' arguments may be, and those that several commands share."""

import argparse
import re
from pathlib import Path

from replyd.domain import address

_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
