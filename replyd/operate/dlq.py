"""`replyd dlq`: what has ended in the dead-letter queues, why, and the way back."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replyd.adapters.twilio.inbound import parse
from replyd.domain.address import masked
from replyd.domain.wakeup import BodyCodec, Foreign
from replyd.errors import PoisonMessage
from replyd.flows.desk import iso_or_none
from replyd.operate.arguments import HANDOFF
from replyd.ports import DeadLetterQueues, DeadMessage, DeadQueue

# How many messages a listing looks at.
LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Morgue:
    """The dead-letter queues of both queues. `urls`: `replies` or `handoff` to the URL of the
    queue; `now`: epoch ms."""

    queues: DeadLetterQueues
    urls: dict[str, str]
    codec: BodyCodec
    now: Callable[[], int]

    async def named(self, wanted: str | None = None) -> list[tuple[str, DeadQueue | None]]:
        """`wanted`: one of the two, by default both."""
        names = [name for name in self.urls if wanted in (None, name)]
        return [(name, await self.queues.of(self.urls[name])) for name in names]


async def listing(morgue: Morgue) -> list[dict[str, Any]]:
    """For each queue: counts (SQS's, approximate), and what a look at the first messages tells."""
    rows: list[dict[str, Any]] = []
    for name, queue in await morgue.named():
        if queue is None:
            rows.append({"queue": name, "name": None})
            continue
        messages = await _look(morgue, queue, LOOKED_AT)
        sent = min((m.sent_at for m in messages if m.sent_at), default=0)
        unreadable = [m for m in messages if not _read(morgue, name, m.body)["readable"]]
        rows.append(
            {
                "queue": name,
                "name": queue.name,
                "visible": max(queue.visible, len(messages)),
                "in_flight": queue.in_flight,
                "looked_at": len(messages),
                "oldest_seconds": (morgue.now() - sent) / 1000 if sent else None,
                "unreadable": len(unreadable),
            }
        )
    return rows


async def show(
    morgue: Morgue, wanted: str | None = None, *, limit: int, bodies: bool
) -> list[dict[str, Any]]:
    """Up to `limit` messages of each queue, oldest first. `bodies`: with the bodies, which hold
    numbers and texts."""
    rows = []
    for name, queue in await morgue.named(wanted):
        if queue is None:
            continue
        messages = await _look(morgue, queue, limit)
        for message in sorted(messages, key=lambda m: m.sent_at):
            row = {
                "queue": name,
                "message_id": message.message_id,
                "sent_at": iso_or_none(message.sent_at),
                "age_seconds": (morgue.now() - message.sent_at) / 1000,
                "receives": message.receives,
                **_read(morgue, name, message.body),
            }
            rows.append(row | ({"body": message.body} if bodies else {}))
    return rows


async def _look(morgue: Morgue, queue: DeadQueue, limit: int) -> list[DeadMessage]:
    """Everybody else gets them again at once, whatever happens here."""
    taken: list[DeadMessage] = []
    try:
        while found := await morgue.queues.receive(queue):
            taken += found
            if len(taken) >= min(limit, queue.visible):
                break
    finally:
        await morgue.queues.give_back(queue, taken)
    return taken[:limit]


def _read(morgue: Morgue, name: str, body: str) -> dict[str, Any]:
    """What a body is, without its texts, and why it may lie where it lies."""
    try:
        content = morgue.codec.decode(body)
        if isinstance(content, Foreign):
            message = content.message or parse(content.params)
            why = "another webhook handler's message, which replyd could not stage"
            return _row("foreign", why, sid=message.sid, customer=masked(message.customer))
    # What a consumer would say of it.
    except (PoisonMessage, ValueError) as error:
        return _row("poison", f"{error}: nobody can read it, redriven it comes back here")
    data = json.loads(body)
    known: dict[str, Any] = {
        "sid": content.sid,
        "seq": content.seq,
        "customer": masked(_inner(data, "message", "from") or content.key.partition),
        "conversation_id": _inner(data, "conversation", "conversation_id") or content.key.sort,
    }
    if name == HANDOFF:
        reason = data.get("handoff_reason") or "none"
        why = f"for people (reason {reason}), whose tool received it and did not delete it"
        return _row("handoff", why, **known)
    why = "a wake-up that was never settled: its workers ended, or a dependency was away"
    return _row("wakeup", why, **known)


def _row(kind: str, why: str, **known: Any) -> dict[str, Any]:
    empty = {"sid": None, "seq": None, "customer": None, "conversation_id": None}
    return {"kind": kind, "readable": kind != "poison", "why": why} | empty | known


def _inner(data: dict[str, Any], outer: str, inner: str) -> str:
    value = data.get(outer)
    found = value.get(inner) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


async def redrive(morgue: Morgue, queue: DeadQueue, progress: Callable[[int], None]) -> int:
    """Move what is there now back to the queue it came from; how many that were.

    Each is sent and then deleted, so that none is lost. A crash in between leaves it in both
    queues: a wake-up only says "look at this conversation", and one too many finds everything
    settled; people's tools drop repeats by SID and reason. `progress` is told how many were moved.
    Raises as the queue does; what was not moved stays."""
    moved = 0
    # SQS's count can be a minute behind; a message that dies again must not keep us here for ever.
    most = max(queue.visible, LOOKED_AT)
    while moved < most and (batch := await morgue.queues.receive(queue)):
        results = await asyncio.gather(
            *(morgue.queues.move_back(queue, message) for message in batch),
            return_exceptions=True,
        )
        failures = [r for r in results if isinstance(r, BaseException)]
        moved += len(batch) - len(failures)
        progress(moved)
        if failures:
            left = [m for m, r in zip(batch, results, strict=True) if isinstance(r, BaseException)]
            await morgue.queues.give_back(queue, left)
            raise failures[0]
    return moved
