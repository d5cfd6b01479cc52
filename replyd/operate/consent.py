"""`replyd conversation consent`: when a customer said STOP and START, and what holds now."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from replyd.domain import record
from replyd.flows import show
from replyd.flows.desk import Desk
from replyd.operate import render
from replyd.operate.arguments import NOTHING_FOUND, OK, OpenDesk

_KEPT = ("at", "sid", "change", "by")


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


async def run(arguments: argparse.Namespace, open_desk: OpenDesk) -> int:
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
