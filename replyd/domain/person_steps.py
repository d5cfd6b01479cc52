"""A person's answer as a turn, and who has the conversation: the steps of people.

Each is ONE conditional update of the conversation item. A person's answer settles no message: what
is pending goes to people by the worker, as the flag is up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replyd.domain import record as r
from replyd.domain import turn
from replyd.domain.delivery import ACCEPTED, NOT_SENT, UNKNOWN
from replyd.domain.effects import has_apologised
from replyd.domain.expressions import (
    Action,
    All,
    AnyOf,
    Append,
    Applied,
    Compare,
    Condition,
    ItemExists,
    Missing,
    Not,
    Remove,
    Set,
    Step,
    StepResult,
)
from replyd.domain.record import Conversation, Entry, Outbox
from replyd.domain.steps import NOT_OPTED_OUT, armed, holds, is_about, is_free, ours_as_seen

# The kind of outbox, and the role in the history.
PERSON = "person"
HUMAN = "human"


def turn_of(idempotency_key: str) -> str:
    """The turn of a person's answer: the same for each request with this key."""
    return f"{PERSON}-{idempotency_key}"


def entries_of(parts: Iterable[str], *, author: str, turn_id: str, now: int) -> tuple[Entry, ...]:
    """As they will stand in the history; `now` in epoch ms."""
    return tuple(
        {
            "role": HUMAN,
            "content": text,
            "author": author,
            "timestamp": r.iso(now),
            "turn_id": turn_id,
        }
        for text in parts
    )


def said_in(conversation: Conversation, turn_id: str) -> list[Entry]:
    """The entries of this turn in the history."""
    return [e for e in conversation.messages if e.get("turn_id") == turn_id]


# --- the steps -----------------------------------------------------------------------------------


def take(token: str, owner: str, now: int, *, lease_ms: int, skew_ms: int) -> Step:
    """CLAIM by a person: without a window, and no attempt of the AI's. Not while something is
    about to be sent, but for a person's answer whose process has ended."""
    nothing_to_send = AnyOf((Missing((r.OUTBOX,)), Compare((r.OUTBOX, "kind"), "=", PERSON)))
    lease = {"owner": owner, "token": token, "expires_at": now + lease_ms}
    return Step(
        "take",
        All((ItemExists(), is_free(now, skew_ms), nothing_to_send)),
        (Set((r.LEASE,), lease),),
        returns="item",
    )


def intend_person(token: str, outbox: Outbox, expires_at: int, now: int, *, known: int) -> Step:
    """Write the answer down before it is sent, and take the conversation from the AI. `known`: how
    many entries the history had when this turn was not among them; refused when it has more, or a
    request that comes once more could bring a turn back that has ended."""
    terms: tuple[Condition, ...] = (
        holds(token),
        NOT_OPTED_OUT,
        Missing((r.OUTBOX,)),
        Not(Compare((r.LAST_TURN,), "=", outbox.turn_id)),
        Missing((r.MESSAGES, known)),
    )
    actions = (
        Set((r.OUTBOX,), outbox.as_attribute()),
        Set((r.LEASE, "expires_at"), expires_at),
        Set((r.HANDOFF,), True),
        Set((r.STATUS,), r.HANDED_TO_HUMAN),
        Set((r.UPDATED_AT,), r.iso(now)),
    )
    return Step("intend_person", All(terms), actions)


def arm_person(
    token: str,
    turn_id: str,
    entry: int,
    expires_at: int,
    *,
    accepted: Mapping[int, str] | None = None,
) -> Step:
    """As `steps.arm`, but for the flag, which is up."""
    place = (r.OUTBOX, "entries", entry, "message_id")
    condition = All((holds(token), is_about(turn_id), NOT_OPTED_OUT, Missing(place)))
    return Step("arm_person", condition, armed(expires_at, accepted))


def commit_person(
    token: str,
    outbox: Outbox,
    entries: Sequence[Entry],
    now: int,
    *,
    kept: Iterable[Action] = (),
) -> Step:
    """Settle a person's answer. Messages, attempts and what tools did stay as they are. `kept`: as
    `steps.renewed`."""
    actions: tuple[Action, ...] = (
        *([Append((r.MESSAGES,), tuple(dict(e) for e in entries))] if entries else []),
        Set((r.STATUS,), r.HANDED_TO_HUMAN),
        Set((r.UPDATED_AT,), r.iso(now)),
        Set((r.LAST_TURN,), outbox.turn_id),
        Remove((r.LEASE,)),
        Remove((r.OUTBOX,)),
        *kept,
    )
    return Step("commit_person", ours_as_seen(token, outbox), actions)


def take_over(author: str, reason: str, now: int) -> Step:
    """People have the conversation: no AI reply starts from now on."""
    who = {"author": author, "reason": reason, "at": r.iso(now)}
    actions = (Set((r.HANDOFF,), True), Set((r.TAKEN_OVER,), who), Set((r.UPDATED_AT,), r.iso(now)))
    return Step("take_over", ItemExists(), actions)


def give_back(now: int) -> Step:
    """The AI answers what comes next."""
    actions = (
        Set((r.HANDOFF,), False),
        Remove((r.TAKEN_OVER,)),
        Set((r.UPDATED_AT,), r.iso(now)),
    )
    return Step("give_back", ItemExists(), actions)


def is_to_be_had(conversation: Conversation, *, now: int, skew_ms: int) -> bool:
    """Whether a TAKE has a point: a lease of the AI's that is refused here costs it no time, while
    one that is taken for nothing keeps it waiting until that ends."""
    lease, outbox = conversation.lease, conversation.outbox
    if lease is not None and lease.expires_at >= now - skew_ms:
        return False
    # A handoff that the customer was told of comes first: the worker knows it by its last turn.
    return not has_apologised(conversation) and (outbox is None or outbox.kind == PERSON)


# --- what their answers mean ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """The history has grown meanwhile: look at it, and intend again."""

    conversation: Conversation


def after_take(
    result: StepResult, conversation: Conversation | None, *, token: str, now: int, skew_ms: int
) -> turn.Claimed | turn.NoSuchConversation | turn.HeldElsewhere:
    if conversation is None:
        return turn.NoSuchConversation()
    if isinstance(result, Applied) or turn.is_ours(conversation, token):
        return turn.Claimed(conversation)
    lease = conversation.lease
    return turn.HeldElsewhere(lease.expires_at + skew_ms + 1 if lease else now)


def after_intend_person(
    result: StepResult, conversation: Conversation | None, *, token: str, turn_id: str
) -> turn.Holds | turn.LeaseLost | turn.Silenced | Changed:
    if isinstance(result, Applied):
        return turn.Holds()
    if not turn.is_ours(conversation, token):
        return turn.LeaseLost()
    if conversation.outbox is not None:
        return turn.Holds() if conversation.outbox.turn_id == turn_id else turn.LeaseLost()
    if conversation.opted_out:
        return turn.Silenced(turn.OPTED_OUT)
    return Changed(conversation)


def with_fates(outbox: Outbox, sids: Mapping[int, str], *, unsure: int | None = None) -> Outbox:
    """The outbox with what became of each part: accepted as one of `sids` (entry index to SID),
    perhaps sent (`unsure`), else not sent."""

    def fate(index: int) -> dict[str, Any]:
        if index in sids:
            return {"message_id": sids[index], "delivery": ACCEPTED}
        return {"delivery": UNKNOWN if index == unsure else NOT_SENT}

    return replace(outbox, entries=tuple({**e, **fate(i)} for i, e in enumerate(outbox.entries)))
