"""All records of a customer, and what happens next in each."""

from collections.abc import Mapping, Sequence
from typing import Any

from replyd.domain import address, prompt, record, recovery, routing
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.record import Candidate, Entry, Item, Outbox, Pending
from replyd.flows.desk import Desk, iso_or_none

# The lookup wants a SID to look for; no message has this one.
_NO_SID = "none"
_KEPT = ("message_id", "role", "author", "timestamp", "turn_id", "delivery", "delivery_error")


async def show(desk: Desk, customer: str, *, history: int, bodies: bool) -> list[dict[str, Any]]:
    """The customer's records, newest first, as JSON has them. `history`: how many of the
    newest entries; `bodies`: with texts. Raises as the store does."""
    candidates = await lookup(desk, customer)
    takers = taking(candidates)
    records = []
    for candidate in sorted(candidates, key=lambda c: c.created_at, reverse=True):
        item = await desk.store.read(candidate.key)
        if item is not None:
            found = await _record(desk, item, candidate.key, history=history, bodies=bodies)
            records.append({**found, "takes_new_messages": candidate.key in takers})
    return records


async def show_one(
    desk: Desk, customer: str, conversation_id: str, *, history: int, bodies: bool
) -> dict[str, Any] | None:
    """One of them; None when there is no such record."""
    candidates = await lookup(desk, customer)
    key = next((c.key for c in candidates if c.conversation_id == conversation_id), None)
    item = await desk.store.read(key) if key is not None else None
    if key is None or item is None:
        return None
    found = await _record(desk, item, key, history=history, bodies=bodies)
    return {**found, "takes_new_messages": key in taking(candidates)}


async def lookup(desk: Desk, customer: str) -> list[Candidate]:
    """A customer's records. Raises as the store does."""
    return await desk.store.lookup(customer, _NO_SID)


def taking(candidates: Sequence[Candidate]) -> set[ConversationKey]:
    """Those that take new messages, one for each business number."""
    businesses = {address.bare(c.company_tel) for c in candidates}
    routes = [routing.choose(candidates, business) for business in businesses]
    return {route.target.key for route in routes if route is not None}


async def _record(
    desk: Desk, item: Item, key: ConversationKey, *, history: int, bodies: bool
) -> dict[str, Any]:
    conversation, now = desk.conversation(item, key), desk.now()
    lease = conversation.lease
    tail = conversation.messages[-history:] if history else ()
    return {
        "key": {"partition": key.partition, "sort": key.sort},
        "conversation_id": conversation.conversation_id,
        "company_tel": conversation.company_tel,
        "created_at": item.get(record.CREATED_AT),
        "updated_at": item.get(record.UPDATED_AT),
        "conversation_status": item.get(record.STATUS),
        "thread_id": conversation.thread_id,
        "handoff_to_human": conversation.handoff,
        "taken_over": _map(item.get(record.TAKEN_OVER)),
        "opted_out_since": item.get(record.OPTED_OUT),
        "next": desk.next(conversation),
        "pending": [await _pending(desk, p, now, bodies=bodies) for p in conversation.pending],
        "lease": None
        if lease is None
        else {
            "owner": lease.owner,
            "expires_at": iso_or_none(lease.expires_at),
            "seconds_left": max(0.0, (lease.expires_at - now) / 1000),
        },
        "outbox": conversation.outbox and _outbox(conversation.outbox, bodies=bodies),
        "attempts": conversation.attempts,
        "max_attempts": desk.policy.max_attempts,
        "reply_failure": _map(item.get(record.FAILURE)),
        "last_turn": conversation.last_turn,
        "history": {
            "entries": len(conversation.messages),
            "tail": [_entry(e, bodies=bodies) for e in tail],
        },
        "accepted": {"messages": conversation.seq, "settled": conversation.settled},
    }


def _map(value: object) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None


async def _pending(desk: Desk, pending: Pending, now: int, *, bodies: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seq": pending.seq,
        "sid": pending.sid,
        "received_at": iso_or_none(pending.received_at),
        "age_seconds": max(0.0, (now - pending.received_at) / 1000),
    }
    message = pending.message
    if bodies and message is None and pending.body_ref:
        side = await desk.store.get_side(pending.body_ref)
        message = _message(side.get("message")) if side else None
    readable = prompt.readable(message) if message else None
    return found | _text(readable, bodies=bodies)


def _message(raw: Any) -> InboundMessage | None:
    try:
        return InboundMessage.from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _outbox(outbox: Outbox, *, bodies: bool) -> dict[str, Any]:
    known = recovery.known_sids(outbox)
    reported = outbox.delivery or {}
    parts = []
    for index, entry in outbox.parts:
        report = reported.get(str(index))
        told = report.get("delivery") if isinstance(report, Mapping) else None
        parts.append(
            {
                "message_id": known.get(index),
                "accepted": index in known,
                "delivery": told or entry.get("delivery"),
                **_text(entry.get("content"), bodies=bodies),
            }
        )
    return {
        "turn_id": outbox.turn_id,
        "kind": outbox.kind,
        "seqs": list(outbox.seqs),
        "at": iso_or_none(outbox.at),
        "reason": outbox.reason,
        "detail": outbox.detail,
        "parts": parts,
    }


def _entry(entry: Entry, *, bodies: bool) -> dict[str, Any]:
    return {name: entry.get(name) for name in _KEPT} | _text(entry.get("content"), bodies=bodies)


def _text(text: object, *, bodies: bool) -> dict[str, Any]:
    """A text's length, and itself where texts are wanted; None where it is not at hand."""
    known = isinstance(text, str)
    found: dict[str, Any] = {"characters": len(str(text)) if known else None}
    return found | {"text": text if known else None} if bodies else found
