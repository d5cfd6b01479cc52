"""After CLAIM: which effect the turn has, and when the AI has had its chance (FAIL).

Functions of the conversation and the time, epoch milliseconds.
"""

from dataclasses import dataclass

from replyd.domain.record import Conversation, Outbox, Pending
from replyd.domain.turn import (
    AMBIGUOUS,
    FAILED,
    MAX_TAKEN,
    OPTED_OUT,
    REQUESTED,
    TOO_OLD,
    TurnPolicy,
)


@dataclass(frozen=True, slots=True)
class AskModel:
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    """Give `taken` to people. `maybe_sent` is a reply that has reached the customer in part, or
    may have. `apologise`: tell the customer first."""

    reason: str
    taken: tuple[Pending, ...]
    detail: str = ""
    maybe_sent: Outbox | None = None
    apologise: bool = False


@dataclass(frozen=True, slots=True)
class Recover:
    """A reply was about to be sent when its worker ended: find out how far it came."""

    outbox: Outbox
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class FinishApology:
    """An apology was about to be sent when its worker ended. It may have gone out, and one that
    did not is no loss: settle it, and look again."""

    outbox: Outbox


@dataclass(frozen=True, slots=True)
class RepeatHandoff:
    """A handoff was about to happen when its worker ended: repeat its effect."""

    outbox: Outbox
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class LetGo:
    """Nothing to do, though the claim held."""


Next = AskModel | HandOver | Recover | FinishApology | RepeatHandoff | LetGo


def next_effect(conversation: Conversation, *, now: int, policy: TurnPolicy) -> Next:
    outbox = conversation.outbox
    if outbox is not None:
        taken = conversation.pending[: len(outbox.seqs)]
        if outbox.kind == "handoff":
            return RepeatHandoff(outbox, taken)
        if outbox.kind == "apology":
            return FinishApology(outbox)
        if outbox.kind == "reply" and taken and outbox.parts:
            return Recover(outbox, taken)
        return HandOver(AMBIGUOUS, taken, "an earlier worker ended while sending", outbox)
    taken = conversation.pending[:MAX_TAKEN]
    if not taken:
        return LetGo()
    if conversation.handoff:
        return HandOver(REQUESTED, taken)
    if conversation.opted_out:
        return HandOver(OPTED_OUT, taken)
    return given_up(conversation, taken, now=now, policy=policy) or AskModel(taken)


def given_up(
    conversation: Conversation,
    taken: tuple[Pending, ...],
    *,
    now: int,
    policy: TurnPolicy,
    further: int = 0,
) -> HandOver | None:
    """FAIL: whether the AI has had its chance. `further`: attempts since CLAIM."""
    if has_apologised(conversation):
        return HandOver(FAILED, taken, "the customer was told that no reply will come")
    last = f", the last one: {conversation.failure}" if conversation.failure else ""
    if conversation.attempts + further > policy.max_attempts:
        detail = f"no reply after {policy.max_attempts} attempts{last}"
        return give_up(conversation, taken, FAILED, detail, policy)
    if taken and now - taken[0].received_at > policy.give_up_ms:
        detail = f"no reply within {policy.give_up_ms // 1000} s{last}"
        return give_up(conversation, taken, TOO_OLD, detail, policy)
    return None


def give_up(
    conversation: Conversation,
    taken: tuple[Pending, ...],
    reason: str,
    detail: str,
    policy: TurnPolicy,
) -> HandOver:
    """The AI has no answer: people get the messages, and the customer is told so, once."""
    apologise = policy.apology and not has_apologised(conversation)
    return HandOver(reason, taken, detail, apologise=apologise)


def apology_id(conversation: Conversation) -> str:
    """The turn of the apology for what is pending: always the same, so that there is one."""
    return f"apology-{conversation.pending[0].sid}" if conversation.pending else "apology"


def has_apologised(conversation: Conversation) -> bool:
    # Its COMMIT settles no message, and the next one that does names another turn.
    return bool(conversation.pending) and conversation.last_turn == apology_id(conversation)
