"""After CLAIM: which effect the turn has, and when the AI has had its chance (FAIL).

Functions of the conversation and the time, epoch milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from replyd.domain.limits import LimitPolicy, loops, over_budget
from replyd.domain.record import Conversation, Outbox, Pending
from replyd.domain.turn import (
    AMBIGUOUS,
    FAILED,
    FOR_PEOPLE,
    LOOP,
    MAX_TAKEN,
    OPTED_OUT,
    OVER_LIMIT,
    REQUESTED,
    TOO_OLD,
    TurnPolicy,
)
from replyd.domain.usage import Usage, as_of

# Kinds of outbox that settle no message: a word to the customer; what is pending goes to people.
AHEAD_OF_HANDOFF = frozenset({"apology", "notice", "person"})
# In the history entry of a word to the customer ahead of a handoff: which handoff.
ANNOUNCED = "handoff"


@dataclass(frozen=True, slots=True)
class AskModel:
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    """Give `taken` to people. `maybe_sent` is a reply that has reached the customer in part, or
    may have. `apologise`: tell the customer first; `farewell`: with these words. `summary`: what
    people need to know. `raise_flag`: they keep the conversation. `silent`: nobody gets anything,
    the messages are only recorded. `confirm_stop`: the customer is told first that STOP was
    understood."""

    reason: str
    taken: tuple[Pending, ...]
    detail: str = ""
    maybe_sent: Outbox | None = None
    apologise: bool = False
    farewell: str = ""
    summary: str = ""
    raise_flag: bool = False
    silent: bool = False
    confirm_stop: bool = False


@dataclass(frozen=True, slots=True)
class SayText:
    """Answer `taken` with a fixed text, without the model."""

    taken: tuple[Pending, ...]
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recover:
    """A reply was about to be sent when its worker ended: find out how far it came."""

    outbox: Outbox
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class FinishApology:
    """An apology, a notice or a person's answer was about to be sent when its process ended. It may
    have gone out, and nobody sends it again: settle it, and look again."""

    outbox: Outbox


@dataclass(frozen=True, slots=True)
class RepeatHandoff:
    """A handoff was about to happen when its worker ended: repeat its effect. Also of kind
    `silence`, whose effect is none."""

    outbox: Outbox
    taken: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class LetGo:
    """Nothing to do, though the claim held."""


Next = AskModel | SayText | HandOver | Recover | FinishApology | RepeatHandoff | LetGo


def next_effect(conversation: Conversation, *, now: int, policy: TurnPolicy) -> Next:
    outbox = conversation.outbox
    if outbox is not None:
        taken = conversation.pending[: len(outbox.seqs)]
        if outbox.kind in FOR_PEOPLE:
            return RepeatHandoff(outbox, taken)
        if outbox.kind in AHEAD_OF_HANDOFF:
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
        confirm = any(p.confirm for p in taken) and not has_apologised(conversation)
        return HandOver(OPTED_OUT, taken, confirm_stop=confirm)
    return (
        given_up(conversation, taken, now=now, policy=policy)
        or _had_enough(conversation, taken, now=now, policy=policy.limits)
        or AskModel(taken)
    )


def _had_enough(
    conversation: Conversation, taken: tuple[Pending, ...], *, now: int, policy: LimitPolicy
) -> HandOver | SayText | None:
    if why := loops(conversation, taken, now=now, policy=policy):
        return HandOver(LOOP, taken, f"this looks like two bots: {why}", raise_flag=True)
    usage = usage_now(conversation, now=now, policy=policy)
    if not (why := over_budget(usage, policy)):
        return None
    if policy.at_limit == "handoff":
        return HandOver(OVER_LIMIT, taken, why)
    if policy.at_limit == "text" and usage.told != usage.day:
        return SayText(taken, policy.text, OVER_LIMIT)
    return HandOver(OVER_LIMIT, taken, why, silent=True)


def usage_now(conversation: Conversation, *, now: int, policy: LimitPolicy) -> Usage:
    """What is spent, as a claim of the conversation begins."""
    return as_of(
        conversation.usage, attempts=conversation.attempts, now=now, reserve=policy.reserve
    )


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
        return _as_announced(conversation, taken)
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


def _as_announced(conversation: Conversation, taken: tuple[Pending, ...]) -> HandOver:
    """The handoff that the customer was told of, as the history has it."""
    said = [e for e in conversation.messages if e.get("turn_id") == conversation.last_turn]
    noted = said[-1].get(ANNOUNCED) if said else None
    if not isinstance(noted, Mapping):
        return HandOver(FAILED, taken, "the customer was told that no reply will come")
    return HandOver(
        str(noted.get("reason") or FAILED),
        taken,
        str(noted.get("detail") or ""),
        summary=str(noted.get("summary") or ""),
        raise_flag=noted.get("raise_flag") is True,
    )


def has_apologised(conversation: Conversation) -> bool:
    # Its COMMIT settles no message, and the next one that does names another turn.
    return bool(conversation.pending) and conversation.last_turn == apology_id(conversation)
