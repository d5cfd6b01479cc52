"""`replyd forget`: erase a customer, and say what was erased where, and what cannot be."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from replyd.flows.forget import Choice, Forget, Reach, Receipt
from replyd.operate import progress, render
from replyd.operate.arguments import SHARED_RECORDS

OK = 0
NOTHING_FOUND = 1
USAGE = 2
UNAVAILABLE = 69

OpenReach = Callable[[argparse.Namespace], AbstractAsyncContextManager[Reach]]

_WHERE = {"table": "DynamoDB", "twilio": "Twilio", "openai": "OpenAI"}

# Where data of a customer may be that this command does not reach, what, and for how long.
NOT_REACHED = (
    ("SQS", "messages in the replies and the handoff queue", "4 days, the queues' retention"),
    ("SQS", "messages in the dead-letter queues", "14 days; replyd dlq shows them"),
    ("DynamoDB", "point-in-time recovery of the table", "35 days; backups of yours, as you set"),
    ("DynamoDB", "words of a voice note that was being read just now", "1 day"),
    ("Twilio", "texts in its backups", "30 days"),
    ("Twilio", "messages of accounts and channels that the settings do not have", "as set there"),
    (
        "OpenAI",
        "responses whose ids nobody keeps: drafts, those in conversations (conv_…)",
        "30 days",
    ),
    ("OpenAI", "its logs for abuse monitoring", "30 days, by its terms"),
    (
        "replyd",
        "log lines: masked numbers, SIDs; texts with logging.bodies",
        "as your logs are kept",
    ),
    ("people", "what their tools took from the handoff queue or the operator API", "as set there"),
    ("customer", "what is on their own phone", "theirs"),
)


def run(arguments: argparse.Namespace, open_reach: OpenReach) -> int:
    """The command, to its exit code."""
    return asyncio.run(_forget(arguments, open_reach))


async def _forget(arguments: argparse.Namespace, open_reach: OpenReach) -> int:
    choice = Choice(
        even_unanswered=arguments.even_unanswered,
        forget_opt_out=arguments.forget_opt_out,
        wait_seconds=arguments.wait,
    )
    async with open_reach(arguments) as reach:
        with progress.stages() as tell:
            forget = Forget(reach, choice, tell)
            if arguments.yes:
                receipt = await forget.erase(arguments.tel)
            else:
                receipt = await forget.look(arguments.tel)
    if arguments.json:
        render.show_json(as_json(receipt, erasing=arguments.yes))
    elif not receipt.nothing or receipt.kept:
        render.show_table(_shown(receipt, erasing=arguments.yes))
    return _told(receipt, arguments)


def _told(receipt: Receipt, arguments: argparse.Namespace) -> int:
    """The exit code, and on standard error what to do about it."""
    if receipt.refused:
        print(f"nothing is erased: {receipt.refused}", file=sys.stderr)
        return UNAVAILABLE
    if receipt.nothing:
        but = " but that they have said STOP: see --forget-opt-out" if receipt.kept else ""
        hint = "" if receipt.customer.startswith("+") else ": a phone number starts with + here"
        print(f"there is nothing of {receipt.customer}{but or hint}", file=sys.stderr)
        return NOTHING_FOUND
    if arguments.yes:
        if receipt.left:
            print("something is left: run this again", file=sys.stderr)
        return UNAVAILABLE if receipt.left else OK
    if receipt.waiting and not arguments.even_unanswered:
        some = "1 message waits" if receipt.waiting == 1 else f"{receipt.waiting} messages wait"
        print(
            f"{some} for an answer: --yes erases nothing before that, but with --even-unanswered",
            file=sys.stderr,
        )
    print(f"nothing is erased without --yes. {SHARED_RECORDS}", file=sys.stderr)
    if receipt.left:
        return UNAVAILABLE
    return USAGE


def as_json(receipt: Receipt, *, erasing: bool) -> dict[str, Any]:
    return {
        "customer": receipt.customer,
        "names": list(receipt.names),
        "refused": receipt.refused or None,
        "unanswered": receipt.waiting,
        "items": [
            {"where": where, "what": what, "found": found}
            | ({"erased": erased, "gone": gone} if erasing else {})
            for where, what, found, erased, gone in receipt.rows()
        ],
        "kept_opt_outs": receipt.kept,
        "left": [
            {"where": left.where, "what": left.what, "count": left.count, "why": left.why}
            for left in receipt.left
        ],
        "not_reached": [
            {"where": where, "what": what, "lasts": lasts} for where, what, lasts in NOT_REACHED
        ],
    }


def _shown(receipt: Receipt, *, erasing: bool) -> RenderableType:
    return Group(*_parts(receipt, erasing=erasing))


def _parts(receipt: Receipt, *, erasing: bool) -> Iterator[RenderableType]:
    also = f", also {', '.join(receipt.names[1:])}" if receipt.names[1:] else ""
    yield render.text(f"{receipt.customer}{also}", "bold")
    columns = ("erased", "gone before") if erasing else ("there is",)
    table = _table("where", "what", *columns)
    for where, what, found, erased, gone in receipt.rows():
        counts = (erased, gone) if erasing else (found,)
        table.add_row(_WHERE[where], what, *(str(c) for c in counts))
    if table.row_count:
        yield _indented(table)
    if receipt.kept:
        yield render.text(
            "kept: the customer has said STOP, and that alone stays, so that nobody writes to them",
            "yellow",
        )
    if receipt.left:
        yield render.text("left, run this again:" if erasing else "not read:", "red")
        rest = _table("where", "what", "how many", "why")
        for left in receipt.left:
            rest.add_row(_WHERE[left.where], left.what, str(left.count), render.text(left.why))
        yield _indented(rest)
    if erasing and not receipt.refused:
        yield render.text("what this does not reach, and how long it lasts:", "dim")
        others = _table("where", "what", "how long")
        for row in NOT_REACHED:
            others.add_row(*row)
        yield _indented(others)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def _indented(table: Table) -> Padding:
    return Padding(table, (0, 0, 1, 2), expand=False)
