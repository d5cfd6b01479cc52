"""The steps of the turn protocol, each ONE conditional update of the conversation item.

This is the only place where the item's working state is changed; `docs/turn-protocol.md` says
what each step is for. Times are epoch milliseconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replyd.domain import record as r
from replyd.domain.expressions import (
    Action,
    Add,
    All,
    AnyOf,
    Append,
    Compare,
    Condition,
    DropHead,
    Exists,
    IsNull,
    ItemExists,
    Missing,
    Not,
    Path,
    Remove,
    Set,
    Step,
)
from replyd.domain.messages import InboundMessage
from replyd.domain.window import WindowPolicy

# A handful of requests are pruned at each COMMIT, so that the expression stays under 4 KB.
MAX_PRUNED = 100

FLAG_DOWN: Condition = AnyOf(
    (Missing((r.HANDOFF,)), Compare((r.HANDOFF,), "=", False), IsNull((r.HANDOFF,)))
)
NOT_OPTED_OUT: Condition = Missing((r.OPTED_OUT,))
UNFINISHED: Condition = AnyOf((Exists((r.PENDING, 0)), Exists((r.OUTBOX,))))


def holds(token: str) -> Condition:
    """The lease is ours."""
    return Compare((r.LEASE, "token"), "=", token)


def is_free(now: int, skew_ms: int) -> Condition:
    """Nobody has a lease, or one that no number ends: nothing waits for a stuck lock."""
    return Not(Compare((r.LEASE, "expires_at"), ">=", now - skew_ms))


def is_about(turn_id: str) -> Condition:
    """The outbox is this turn's."""
    return Compare((r.OUTBOX, "turn_id"), "=", turn_id)


def pending_entry(
    message: InboundMessage, now: int, body_ref: str = "", *, confirm: bool = False
) -> dict[str, Any]:
    """`confirm`: it is a STOP that the customer should be told was understood."""
    entry: dict[str, Any] = {"sid": message.sid, "received_at": now}
    if confirm:
        entry["confirm"] = True
    return entry | ({"body_ref": body_ref} if body_ref else {"message": message.as_dict()})


def stage(
    sid: str,
    entry: Mapping[str, Any],
    now: int,
    *,
    first: bool,
    opt_out: bool = False,
    opt_in: bool = False,
    consent: Mapping[str, str] | None = None,
    expires_at: int | None = None,
) -> Step:
    """Accept a message. `first`: the item has no `reply_seen` yet, whose parent map a nested
    path would need; a wrong guess is refused and tried the other way. `consent`: what goes into
    the ledger. `expires_at`: as of `renewed`."""
    seen: tuple[Condition, Action] = (
        (Missing((r.SEEN,)), Set((r.SEEN,), {sid: now}))
        if first
        else (All((Exists((r.SEEN,)), Missing((r.SEEN, sid)))), Set((r.SEEN, sid), now))
    )
    actions: list[Action] = [
        Append((r.PENDING,), (dict(entry),)),
        seen[1],
        Add((r.SEQ,), 1),
        Set((r.LAST_AT,), now),
        Set((r.STATUS,), r.USER_REPLY_RECEIVED),
        Set((r.UPDATED_AT,), r.iso(now)),
    ]
    if opt_out:
        actions.append(Set((r.OPTED_OUT,), r.iso(now)))
    if opt_in:
        actions.append(Remove((r.OPTED_OUT,)))
    actions += renewed(expires_at, opted_out=opt_out)
    if consent is not None:
        actions.append(Append((r.CONSENT,), (dict(consent),)))
    return Step("stage", All((ItemExists(), seen[0])), tuple(actions), returns="touched")


def renewed(expires_at: int | None, *, opted_out: bool) -> tuple[Action, ...]:
    """Until when the table keeps the record, epoch s; None leaves that alone. For ever where the
    customer has opted out: nobody may write to them because it was forgotten."""
    if expires_at is None:
        return ()
    return (Remove((r.EXPIRES_AT,)) if opted_out else Set((r.EXPIRES_AT,), expires_at),)


def mark_opt_out(now: int, *, opted_out: bool, expires_at: int | None = None) -> Step:
    """Copy STOP or START to another record of the same customer and business number; the ledger
    is where the message is."""
    change: Action = Set((r.OPTED_OUT,), r.iso(now)) if opted_out else Remove((r.OPTED_OUT,))
    kept = renewed(expires_at, opted_out=opted_out)
    return Step("mark_opt_out", ItemExists(), (change, *kept))


def set_handoff(up: bool) -> Step:
    """What people's tools do: take the conversation, or give it back."""
    return Step("set_handoff", ItemExists(), (Set((r.HANDOFF,), up),))


def claim(
    token: str, owner: str, now: int, *, lease_ms: int, skew_ms: int, window: WindowPolicy
) -> Step:
    """Take the conversation for one turn. Not on the flag: what the flag silences still has to
    reach people."""
    closed = AnyOf(
        (
            Compare((r.LAST_AT,), "<=", now - window.quiet_ms),
            Compare((r.PENDING, 0, "received_at"), "<=", now - window.max_wait_ms),
            Exists((r.PENDING, window.max_messages - 1)),
            Not(FLAG_DOWN),
            Not(NOT_OPTED_OUT),
            Exists((r.OUTBOX,)),
        )
    )
    lease = {"owner": owner, "token": token, "expires_at": now + lease_ms}
    return Step(
        "claim",
        All((is_free(now, skew_ms), UNFINISHED, closed)),
        (Set((r.LEASE,), lease), Add((r.ATTEMPTS,), 1)),
        returns="item",
    )


def renew(token: str, expires_at: int) -> Step:
    """Keep the conversation, and see what has come of it meanwhile. A request that arrives late,
    behind its own repetition, must not shorten the lease."""
    place: Path = (r.LEASE, "expires_at")
    condition = All((holds(token), Compare(place, "<=", expires_at)))
    return Step("renew", condition, (Set(place, expires_at),), returns="item")


def release(
    token: str,
    *,
    give_back_attempt: bool,
    drop_outbox: bool = False,
    failure: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Step:
    """Let go of the conversation. `drop_outbox` only when nothing of it can have been sent.
    `failure`: why the attempt did not succeed, for operators. `usage`: what is spent by now,
    where that has changed."""
    actions: list[Action] = [Remove((r.LEASE,))]
    if failure is not None:
        actions.append(Set((r.FAILURE,), dict(failure)))
    if usage is not None:
        actions.append(Set((r.USAGE,), dict(usage)))
    if give_back_attempt:
        actions.append(Add((r.ATTEMPTS,), -1))
    if drop_outbox:
        actions.append(Remove((r.OUTBOX,)))
    return Step("release", holds(token), tuple(actions))


def intend_reply(
    token: str,
    outbox: r.Outbox,
    expires_at: int,
    *,
    head: str,
    seq: int | None,
    over: r.Outbox | None = None,
) -> Step:
    """Write the reply down before it is sent. `head`: the SID of the oldest message pending.
    `seq`: refuse when a newer message has come. `over`: the outbox of which nothing was sent, and
    that this one replaces; otherwise there must be none, or a request that arrives late would
    take back what has become of the turn since."""
    replaced: Condition = Missing((r.OUTBOX,)) if over is None else is_about(over.turn_id)
    # An apology settles no message: only this tells that it has been committed.
    afresh = Not(Compare((r.LAST_TURN,), "=", outbox.turn_id))
    terms = [holds(token), *pending_from(head), FLAG_DOWN, NOT_OPTED_OUT, replaced, afresh]
    if seq is not None:
        terms.append(Compare((r.SEQ,), "=", seq))
    return intend("intend_reply", All(tuple(terms)), outbox, expires_at)


def intend_handoff(
    token: str, outbox: r.Outbox, expires_at: int, *, head: str, over: r.Outbox | None = None
) -> Step:
    """`head`: the SID of the oldest message pending. `over`: the outbox that this one replaces;
    refused when callbacks have written more into it than is known."""
    terms = [holds(token), *pending_from(head)]
    if over is not None:
        place: Path = (r.OUTBOX, "delivery")
        terms.append(AnyOf((Missing(place), Compare(place, "=", dict(over.delivery or {})))))
    return intend("intend_handoff", All(tuple(terms)), outbox, expires_at)


def pending_from(head: str) -> list[Condition]:
    """Without this, requests that arrive once more after their turn has ended could bring it back
    to life, CLAIM with its old token first, and settle what it has never seen."""
    return [Compare((r.PENDING, 0, "sid"), "=", head)] if head else []


def intend(name: str, condition: Condition, outbox: r.Outbox, expires_at: int) -> Step:
    """INTENT under this condition."""
    return Step(
        name,
        condition,
        (Set((r.OUTBOX,), outbox.as_attribute()), Set((r.LEASE, "expires_at"), expires_at)),
    )


def arm(
    token: str,
    turn_id: str,
    entry: int,
    expires_at: int,
    *,
    accepted: Mapping[int, str] | None = None,
) -> Step:
    """Look at flag, opt-out and token once more before a further part goes out, and note the
    SIDs of the parts that were accepted (entry index to SID)."""
    condition = All(
        (
            holds(token),
            is_about(turn_id),
            FLAG_DOWN,
            NOT_OPTED_OUT,
            Missing((r.OUTBOX, "entries", entry, "message_id")),
        )
    )
    return Step("arm", condition, armed(expires_at, accepted))


def armed(expires_at: int, accepted: Mapping[int, str] | None) -> tuple[Action, ...]:
    """What an ARM writes: the lease, and the SIDs so far."""
    noted = (
        Set((r.OUTBOX, "entries", index, "message_id"), sid)
        for index, sid in (accepted or {}).items()
    )
    return (Set((r.LEASE, "expires_at"), expires_at), *noted)


def commit(
    token: str,
    outbox: r.Outbox,
    entries: Iterable[Mapping[str, Any]],
    now: int,
    *,
    status: str,
    thread_id: str = "",
    failure: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    prune: Iterable[str] = (),
    prune_consent: int = 0,
    kept: Iterable[Action] = (),
) -> Step:
    """Settle the turn. `entries` go to the history; `outbox.delivery` is what callbacks were seen
    to have written, and the step is refused when they have written more since. `failure`: why
    people have to look at it, if they do. `usage`: what is spent by now. `kept`: as `renewed`."""
    history = tuple(dict(e) for e in entries)
    actions: list[Action] = [
        *([Append((r.MESSAGES,), history)] if history else []),
        Set((r.STATUS,), status),
        Set((r.UPDATED_AT,), r.iso(now)),
        Set((r.LAST_TURN,), outbox.turn_id),
        Remove((r.LEASE,)),
        Remove((r.OUTBOX,)),
        Remove((r.ATTEMPTS,)),
        Remove((r.TOOLS,)),
        Set((r.FAILURE,), dict(failure)) if failure else Remove((r.FAILURE,)),
        DropHead((r.PENDING,), len(outbox.seqs)),
        *kept,
    ]
    if thread_id:
        actions.append(Set((r.THREAD_ID,), thread_id))
    if outbox.raise_flag:
        actions.append(Set((r.HANDOFF,), True))
    if usage is not None:
        actions.append(Set((r.USAGE,), dict(usage)))
    if prune_consent:
        actions.append(DropHead((r.CONSENT,), prune_consent))
    actions += [Remove((r.SEEN, sid)) for sid in prune]
    return Step("commit", ours_as_seen(token, outbox), tuple(actions))


def commit_apology(
    token: str, outbox: r.Outbox, entries: Iterable[Mapping[str, Any]], expires_at: int
) -> Step:
    """Settle an apology, which answers nothing: messages, attempts and lease stay, for the
    handoff that follows."""
    actions: list[Action] = [
        Append((r.MESSAGES,), tuple(dict(e) for e in entries)),
        Set((r.LAST_TURN,), outbox.turn_id),
        Set((r.LEASE, "expires_at"), expires_at),
        Remove((r.OUTBOX,)),
    ]
    return Step("commit_apology", ours_as_seen(token, outbox), tuple(actions))


def ours_as_seen(token: str, outbox: r.Outbox) -> Condition:
    """The lease and the outbox are ours, and callbacks have written no more than we know."""
    as_seen = Compare((r.OUTBOX, "delivery"), "=", dict(outbox.delivery or {}))
    return All((holds(token), is_about(outbox.turn_id), as_seen))


def roll_over(token: str, head: Sequence[Any]) -> Step:
    """Take the oldest entries out of the history, once they are in the archive; refused when one
    of them has changed since it was read."""
    same = [Compare((r.MESSAGES, i), "=", entry) for i, entry in enumerate(head)]
    return Step("roll_over", All((holds(token), *same)), (DropHead((r.MESSAGES,), len(head)),))


def prunable(seen: Mapping[str, int], now: int, *, horizon_ms: int, keep: int) -> tuple[str, ...]:
    """SIDs that a COMMIT may forget: beyond the horizon, and all but the newest `keep`."""
    oldest_first = sorted(seen, key=lambda sid: seen[sid])
    surplus = max(0, len(oldest_first) - keep)
    return tuple(
        sid for i, sid in enumerate(oldest_first) if i < surplus or seen[sid] < now - horizon_ms
    )[:MAX_PRUNED]
