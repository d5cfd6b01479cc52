"""The conversation item under the shipped steps, evaluated as the in-memory store does."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from replyd.adapters.memory.store import holds, perform
from replyd.domain import record as r
from replyd.domain import recovery, steps
from replyd.domain.expressions import Step
from replyd.errors import Permanent
from tests.model.bounds import BEFORE, LEASE_MS, NOW, SKEW_MS, Bounds
from tests.model.requests import Apply, Json, frozen, outbox_from

# They decide nothing.
_WORDS = (r.STATUS, r.UPDATED_AT, r.FAILURE, r.THREAD_ID)
_EXPIRED = BEFORE + LEASE_MS
_LONG_AGO = NOW - 3 * LEASE_MS + 1

EMPTY: Json = frozen({r.HANDOFF: False})


def sid_of(number: int) -> str:
    return f"q{number}"


def built(request: Apply, token: str, now: int, bounds: Bounds) -> Step:
    """The shipped step of a worker's request. Looked up by name at each call, so that a test can
    put another one in its place."""
    expires_at, args = now + LEASE_MS, request.args
    match request.step:
        case "claim":
            return steps.claim(
                token, "me", now, lease_ms=LEASE_MS, skew_ms=SKEW_MS, window=bounds.quiet
            )
        case "renew":
            return steps.renew(token, expires_at)
        case "release":
            return steps.release(token, give_back_attempt=args[0], drop_outbox=args[1])
        case "intend_reply":
            over = outbox_from(args[3]) if args[3] else None
            return steps.intend_reply(
                token, outbox_from(args[0]), expires_at, head=args[1], seq=args[2], over=over
            )
        case "intend_handoff":
            outbox = outbox_from(args[0])
            over = outbox if args[2] else None
            return steps.intend_handoff(token, outbox, expires_at, head=args[1], over=over)
        case "arm":
            return steps.arm(token, args[0], args[1], expires_at, accepted=dict(args[2]))
        case "commit":
            outbox = outbox_from(args[0])
            entries = recovery.history_of(outbox)
            return steps.commit(token, outbox, entries, now, status="")
        case "commit_apology":
            outbox = outbox_from(args[0])
            return steps.commit_apology(token, outbox, recovery.history_of(outbox), expires_at)
    raise ValueError(request.step)


def staging(item: Json, number: int, bounds: Bounds) -> Step:
    """STAGE, by a webhook that knows the item."""
    entry = {"sid": sid_of(number), "received_at": NOW}
    stop = bounds.stop and number == bounds.messages
    first = r.SEEN not in json.loads(item)
    return steps.stage(sid_of(number), entry, NOW, first=first, opt_out=stop)


def executed(item: Json, step: Step, bounds: Bounds) -> tuple[Json, bool, Json]:
    """The item afterwards, whether the step held, and the item that its answer shows."""
    attributes = json.loads(item)
    if not holds(step.condition, attributes):
        return item, False, item
    try:
        touched = perform(step.actions, attributes)
    except Permanent:
        # Nothing of an update that the table finds invalid takes place.
        return item, False, item
    shown = {
        "item": attributes,
        "touched": {k: v for k, v in attributes.items() if k in touched},
        "nothing": {},
    }[step.returns]
    return _reduced(attributes, bounds), True, _reduced(shown, bounds)


def _reduced(attributes: dict[str, Any], bounds: Bounds) -> Json:
    """Without what decides nothing: words, and attempts beyond the last one."""
    kept = {k: v for k, v in attributes.items() if k not in _WORDS}
    if r.OUTBOX in kept:
        kept[r.OUTBOX] = kept[r.OUTBOX] | {"detail": "", "summary": ""}
    if r.ATTEMPTS in kept:
        kept[r.ATTEMPTS] = min(kept[r.ATTEMPTS], bounds.max_attempts + 2)
    return frozen(kept)


def aged(item: Json, bounds: Bounds) -> Json:
    """After a lease and the skew: the lease has run out, the window has closed."""
    attributes = json.loads(window_closed(item) if bounds.window else item)
    if r.LEASE in attributes:
        attributes[r.LEASE]["expires_at"] = _EXPIRED
    return frozen(attributes)


def window_closed(item: Json) -> Json:
    attributes = json.loads(item)
    if r.LAST_AT in attributes:
        attributes[r.LAST_AT] = _LONG_AGO
    for entry in attributes.get(r.PENDING, ()):
        entry["received_at"] = _LONG_AGO
    return frozen(attributes)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of an item again and again. `holder`: the token of a lease that has not run
    out. `at_rest`: nothing is left to do."""

    holder: str
    handoff: bool
    silenced: bool
    pending: tuple[str, ...]
    settled: tuple[str, ...]
    seen: frozenset[str]
    seq: int
    at_rest: bool
    turn_id: str


@cache
def facts(item: Json) -> Facts:
    has = json.loads(item)
    lease, handoff = has.get(r.LEASE), has.get(r.HANDOFF) is True
    pending = tuple(entry["sid"] for entry in has.get(r.PENDING, ()))
    users = (e for e in has.get(r.MESSAGES, ()) if e["role"] == "user")
    return Facts(
        holder=str(lease["token"]) if lease and lease["expires_at"] > NOW else "",
        handoff=handoff,
        silenced=handoff or r.OPTED_OUT in has,
        pending=pending,
        settled=tuple(e["message_id"] for e in users),
        seen=frozenset(has.get(r.SEEN, ())),
        seq=has.get(r.SEQ, 0),
        at_rest=not pending and r.OUTBOX not in has and r.LEASE not in has,
        turn_id=has.get(r.OUTBOX, {}).get("turn_id", ""),
    )
