"""`replyd conversation consent`: when a customer said STOP and START, and what holds now."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from replyd.domain import record
from replyd.flows import show
from replyd.flows.desk import Desk
from replyd.operate.arguments import customer
from replyd.operate.people import NOTHING_FOUND, OK, OpenDesk

_KEPT = ("at", "sid", "change", "by")


def add_to(parent: Any, add: Any, *, open_desk: OpenDesk) -> None:
    """Add the command below `conversation`; `add` as `commands.add_to` has it."""
    parser = add(
        parent,
        "consent",
        _consent,
        open_desk,
        help="when a customer said STOP and START",
        description="For each record of a customer, newest first: whether the AI may write, and "
        "the newest 100 times that the customer changed it. Exit code 1 when there is no record.",
    )
    parser.add_argument("tel", type=customer, metavar="TEL", help="such as +447700900001")


async def consent(desk: Desk, customer: str) -> list[dict[str, Any]]:
    """The customer's records, newest first, as JSON has them; each ledger in its own order, the
    oldest entry first. Raises as the store does."""
    candidates = await show.lookup(desk, customer)
    found = []
    for candidate in sorted(candidates, key=lambda c: c.created_at, reverse=True):
        item = await desk.store.read(candidate.key)
        if item is not None:
            found.append(
                {
                    "conversation_id": candidate.conversation_id,
                    "company_tel": candidate.company_tel,
                    "opted_out_since": item.get(record.OPTED_OUT),
                    "ledger": _ledger(item.get(record.CONSENT)),
                }
            )
    return found


def _ledger(raw: object) -> list[dict[str, Any]]:
    """The table is shared: what is no entry is left out."""
    entries = raw if isinstance(raw, list) else []
    return [{n: e.get(n) for n in _KEPT} for e in entries if isinstance(e, Mapping)]


async def _consent(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
    from replyd.operate import render

    async with open_desk(arguments) as desk:
        found = await consent(desk, arguments.tel)
    if arguments.json:
        render.show_json({"customer": arguments.tel, "records": found})
    elif found:
        render.show_table(render.consent(found))
    if found:
        return OK
    print(f"no record of {arguments.tel} in the table", file=sys.stderr)
    return NOTHING_FOUND
