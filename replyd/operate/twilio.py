"""`replyd twilio configure`: the webhooks of Twilio's numbers, as replyd needs them.

Numbers are shown in full: they are the business's own, and whoever changes one must know which.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from replyd.adapters.twilio import webhook_url
from replyd.adapters.twilio.numbers import MAX_NUMBERS, Found, Number
from replyd.domain import address
from replyd.errors import DependencyError

OK = 0
NOTHING_FOUND = 1
USAGE = 2
UNAVAILABLE = 69


class ChangedNumbers(Protocol):
    """`adapters.twilio.numbers.TwilioNumbers`."""

    async def read(self, account_sid: str) -> Found: ...

    async def lead(self, number: Number, url: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TwilioSide:
    """The accounts' numbers. `target`: where messages to them should go, an origin and a path."""

    numbers: ChangedNumbers
    account_sids: Sequence[str]
    target: str


@dataclass(frozen=True, slots=True)
class Change:
    """`url`: the new one."""

    number: Number
    url: str


OpenSide = Callable[[argparse.Namespace], AbstractAsyncContextManager[TwilioSide]]


def changes(numbers: Iterable[Number], target: str) -> Iterator[Change]:
    """What is to change of these, wherever they lead now."""
    for number in numbers:
        own, decided = number.own, number.decided
        if decided is not None and webhook_url.leads_to(decided.url, target):
            continue
        url = webhook_url.wanted(own.url, target)
        if url != own.url or own.method != "POST":
            yield Change(number, url)


def is_ours(number: Number, target: str) -> bool:
    """Whether a number may be changed without being named: its messages come to our host, or to
    nobody."""
    urls = (number.own.url, number.decided.url if number.decided else "")
    return not number.own.url or any(webhook_url.same_host(url, target) for url in urls)


def named(numbers: Sequence[Number], number: str) -> list[Number]:
    """The WhatsApp senders of a bare number, or its SMS where it has none."""
    found = [n for n in numbers if address.bare(n.address) == number]
    return [n for n in found if n.is_whatsapp] or found


def run(arguments: argparse.Namespace, open_side: OpenSide) -> int:
    """The command, to its exit code."""
    return asyncio.run(_configure(arguments, open_side))


async def _configure(arguments: argparse.Namespace, open_side: OpenSide) -> int:
    async with open_side(arguments) as side:
        accounts = await asyncio.gather(*map(side.numbers.read, side.account_sids))
        known = [number for found in accounts for number in found.numbers]
        _say_what_is_missing(accounts)
        if arguments.number:
            chosen = named(known, arguments.number)
        else:
            chosen = [number for number in known if is_ours(number, side.target)]
        whole = not any(found.unread for found in accounts)
        if not known or (arguments.number and not chosen):
            print("no such number" if arguments.number else "no numbers found", file=sys.stderr)
            return NOTHING_FOUND if whole else UNAVAILABLE
        planned = list(changes(chosen, side.target))
        _show(planned)
        if right := len(chosen) - len(planned):
            print(f"{_count(right)} already as wanted")
        if not arguments.number and (others := len(known) - len(chosen)):
            print(f"{_count(others)} left alone: --number changes one that leads elsewhere")
        if not planned:
            return OK
        if not arguments.yes:
            print("nothing is changed without --yes", file=sys.stderr)
            return USAGE
        failed = [change for change in planned if not await _done(side.numbers, change)]
    return UNAVAILABLE if failed else OK


async def _done(numbers: ChangedNumbers, change: Change) -> bool:
    try:
        await numbers.lead(change.number, change.url)
    except DependencyError as error:
        print(f"{_who(change.number)}: not changed: {error.reason}", file=sys.stderr)
        return False
    print(f"{_who(change.number)}: changed")
    return True


def _say_what_is_missing(accounts: Iterable[Found]) -> None:
    for found in accounts:
        for problem in found.unread:
            print(f"not read: {problem}", file=sys.stderr)
        if found.more:
            print(f"not read: what goes beyond {MAX_NUMBERS} numbers", file=sys.stderr)


def _show(planned: Iterable[Change]) -> None:
    for change in planned:
        own = change.number.own
        old = f"{own.method} {webhook_url.shown(own.url)}" if own.url else "no webhook"
        print(f"{_who(change.number)}\n  old  {old}\n  new  POST {webhook_url.shown(change.url)}")
        if by := change.number.decided_by:
            print(f"  but  {by} decides, until it no longer does")


def _who(number: Number) -> str:
    return f"{address.bare(number.address)} ({'WhatsApp' if number.is_whatsapp else 'SMS'})"


def _count(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"
