"""After the run: waits until nothing is left to do, then balances the books."""

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

from replyd.domain import record as r
from replyd.domain.turn import BY_AI, OVER_LIMIT
from replyd.simulation.ledger import Ledger, short
from replyd.simulation.table import Item
from replyd.simulation.vendors import is_farewell, said

if TYPE_CHECKING:
    from replyd.simulation.world import World

# From the end of the faults: lease and skew, the visibility of a dead holder's wake-up, the
# longest pause, a window and a turn with its restarts.
_SETTLED_WITHIN_SECONDS = 32.0 + 30.0 + 30.0 + 10.0 + 60.0
# The same after CATCH-UP: the wait for its first round, and two intervals, one of them of an
# instance that has ended.
_FOUND_WITHIN_SECONDS = _SETTLED_WITHIN_SECONDS + 15.0 + 2 * 25.0
# A window, and the turns that may be ahead of a message.
_CALM_WITHIN_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 5.0
_LOOKS = 180


async def settle(world: "World") -> None:
    """The busy time, then fair weather until everything has come to rest, then the books."""
    await asyncio.sleep(world.busy_seconds + 80)
    world.weather.over = True
    world.trace.note("weather", "", "no more faults")
    clear_since = world.time()
    for _ in range(_LOOKS):
        if _at_rest(world):
            break
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    balance(world, clear_since)


def _at_rest(world: "World") -> bool:
    return (
        not world.queue.messages
        and world.ledger.sent.keys() <= world.ledger.settled.keys() | _parked(world)
        and not any(_left_in(world, i) for i in _expected_done(world).values())
    )


def _left_in(world: "World", item: Item) -> list[str]:
    """What nobody has cleared away. With nothing pending, a person's answer and their lease may
    stay where a process ended or the table was away, and the wake-up was lost too: whoever comes
    next settles it, and waits for no more than the end of the lease."""
    outbox, lease = item.get(r.OUTBOX), item.get(r.LEASE)
    theirs = lease is None or lease["token"] in world.ledger.people.tokens
    if not item.get(r.PENDING) and theirs and (outbox is None or outbox["kind"] == "person"):
        return []
    return [name for name in (r.LEASE, r.OUTBOX) if name in item]


def _expected_done(world: "World") -> dict[str, Item]:
    """The conversations, all of which somebody has to bring to an end."""
    return {key.sort: item for key, item in world.table.items.items()}


def _parked(world: "World") -> set[str]:
    """What lies in the dead-letter queue as another webhook handler had put it on the queue."""
    return {_sid(body) for body in world.queue.dead if '"seq"' not in body}


def balance(world: "World", clear_since: float) -> None:
    _nothing_lost(world, clear_since)
    _nothing_stuck(world)
    _everything_recorded(world)
    world.ledger.ai.balance({key.sort: item for key, item in world.table.items.items()})


def _nothing_lost(world: "World", clear_since: float) -> None:
    """P1, and P5 for what came in the end, but late."""
    ledger = world.ledger
    parked, where = _parked(world), _where(ledger)
    _everything_found(world, parked, where, clear_since)
    for sid, at in ledger.acked.items():
        name = where.get(sid, "?")
        settled_at = ledger.settled.get(sid)
        if settled_at is None:
            if sid not in parked:
                state = "pending" if sid in where else "never staged"
                what = f"{short([sid])} got 200 at {at:.3f} s and is still {state}"
                ledger.broke("P1", name, "nobody", what)
            continue
        limit = max(at, clear_since) + _SETTLED_WITHIN_SECONDS
        if world.weather.calm:
            limit = at + _CALM_WITHIN_SECONDS
        if settled_at > limit:
            what = f"{short([sid])} got 200 at {at:.3f} s and was settled at {settled_at:.3f} s"
            ledger.broke("P5", name, "nobody", what)
    for body in world.queue.dead:
        if '"seq"' in body:
            ledger.broke("P1", _sid(body), "queue", "a wake-up used up its receives")


def _everything_found(
    world: "World", parked: set[str], where: dict[str, str], clear_since: float
) -> None:
    """P1 for what got no 200: CATCH-UP finds it."""
    ledger = world.ledger
    for sid, at in ledger.sent.items():
        if sid in ledger.acked or sid in parked:
            continue
        settled_at = ledger.settled.get(sid)
        if settled_at is None:
            state = "pending" if sid in where else "never staged"
            what = f"{short([sid])} was written at {at:.3f} s, got no 200 and is still {state}"
            ledger.broke("P1", where.get(sid, "?"), "nobody", what)
        elif settled_at > max(at, clear_since) + _FOUND_WITHIN_SECONDS:
            what = f"{short([sid])} was written at {at:.3f} s and settled at {settled_at:.3f} s"
            ledger.broke("P5", where.get(sid, "?"), "nobody", what)


def _nothing_stuck(world: "World") -> None:
    for conversation, item in _expected_done(world).items():
        for name in _left_in(world, item):
            world.ledger.broke("P5", conversation, "nobody", f"{name} was left: {item[name]}")
    where = _where(world.ledger)
    if world.weather.calm:
        for sid, reasons in world.ledger.handed.items():
            if odd := set(reasons) - {"requested", "opted_out", BY_AI, OVER_LIMIT}:
                what = f"{short([sid])} went to people for {odd}, though nothing failed"
                world.ledger.broke("P5", where.get(sid, "?"), "nobody", what)


def _everything_recorded(world: "World") -> None:
    """Every text that the channel took is in exactly one record, once."""
    entries = [e for books in world.ledger.conversations.values() for e in books.entries]
    for item in world.table.items.values():
        entries += (item.get(r.OUTBOX) or {}).get("entries", [])
    world.ledger.people.balance(entries)
    recorded = Counter(e["content"] for e in entries if e.get("role") == "assistant")
    for text, name in world.ledger.texts.items():
        if recorded.get(text, 0) != 1 and text not in world.ledger.unrecorded:
            words = said(text)
            label = f"r{words.answer} part {words.part}" if words else "a text"
            what = f"{label} was sent and is {recorded.get(text, 0)} times in the record"
            world.ledger.broke("P2", name, "nobody", what)
    turns = Counter(e["turn_id"] for e in entries if is_farewell(e.get("content", "")))
    for turn_id, name in world.ledger.apologies.items():
        if turns[turn_id] != 1:
            what = f"an apology was sent and is {turns[turn_id]} times in the record"
            world.ledger.broke("P2", name, "nobody", what)


def _where(ledger: Ledger) -> dict[str, str]:
    """The conversation that each SID was staged in."""
    return {sid: name for name, c in ledger.conversations.items() for sid in c.staged}


def _sid(body: str) -> str:
    return str(json.loads(body)["message"]["sid"])
