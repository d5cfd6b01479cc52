"""The turn protocol's decisions: what a step's answer means and what comes next.

Everything here is a function of state and time. `docs/turn-protocol.md` explains the protocol.
Times are epoch milliseconds, pauses milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from replyd.domain import record as r
from replyd.domain.expressions import Applied, StepResult
from replyd.domain.limits import LimitPolicy
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Outbox
from replyd.domain.window import WindowPolicy

# At most this many pending messages are taken into one turn.
MAX_TAKEN = 50
LONGEST_PAUSE_MS = 30_000

# Why people get a conversation: the `handoff_reason` of a queue message.
REQUESTED = "requested"
OPTED_OUT = "opted_out"
FAILED = "failed"
AMBIGUOUS = "ambiguous"
TOO_OLD = "too_old"
UNDELIVERED = "undelivered"
BY_AI = "ai_handed_over"
OVER_LIMIT = "over_limit"
LOOP = "loop"
FLAGGED = "moderation"
WINDOW_CLOSED = "window_closed"
# Nothing went wrong: the conversation was meant to go to people.
INTENDED = frozenset({REQUESTED, OPTED_OUT, BY_AI})
# Kinds of outbox whose turn needs no answer of the customer's phone.
FOR_PEOPLE = frozenset({"handoff", "silence"})


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    lease_ms: int = 60_000
    skew_ms: int = 2_000
    max_attempts: int = 5
    give_up_ms: int = 180_000
    max_restarts: int = 2
    # Where it cannot be known whether a reply was sent, or attempts are used up over it.
    on_ambiguous: Literal["resend", "handoff"] = "handoff"
    # Whether the customer is told when the AI gives up.
    apology: bool = False
    limits: LimitPolicy = field(default_factory=LimitPolicy)


# --- STAGE -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Staged:
    """The message is pending under `seq`: just now, or since an earlier delivery (`again`)."""

    seq: int
    pending: int
    first_received_at: int
    last_at: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class AlreadySettled:
    """A turn that has ended contains the message."""


@dataclass(frozen=True, slots=True)
class NoSuchConversation:
    """The item is gone."""


@dataclass(frozen=True, slots=True)
class OtherForm:
    """The guess about the `reply_seen` map was wrong: try the step's other form."""


def after_stage(
    result: StepResult, sid: str
) -> Staged | AlreadySettled | NoSuchConversation | OtherForm:
    if result.item is None:
        return NoSuchConversation()
    item = result.item
    if isinstance(result, Applied):
        return _staged(item, len(item[r.PENDING]) - 1, again=False)
    pending = item.get(r.PENDING) or []
    for index, entry in enumerate(pending):
        if isinstance(entry, Mapping) and entry.get("sid") == sid:
            return _staged(item, index, again=True)
    if sid in (item.get(r.SEEN) or {}):
        return AlreadySettled()
    return OtherForm()


def _staged(item: dict[str, Any], index: int, *, again: bool) -> Staged:
    # The same reading as everywhere: what other writers left must not stop a message.
    conversation = r.conversation_from(item, ConversationKey(""))
    pending = conversation.pending
    return Staged(
        seq=pending[index].seq,
        pending=len(pending),
        first_received_at=pending[0].received_at,
        last_at=conversation.last_at or pending[-1].received_at,
        again=again,
    )


# --- CLAIM -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """Everything up to `settled` is in a committed turn and nothing is about to happen."""

    settled: int


@dataclass(frozen=True, slots=True)
class WindowOpen:
    closes_at: int


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """Another worker has the lease. `free_at`: the first moment at which a CLAIM can hold."""

    free_at: int


@dataclass(frozen=True, slots=True)
class ClaimAgain:
    """The refusal's reason has passed already."""


ClaimAnswer = Claimed | NothingLeft | WindowOpen | HeldElsewhere | ClaimAgain


def after_claim(
    result: StepResult,
    conversation: Conversation | None,
    *,
    token: str,
    seq: int,
    now: int,
    policy: TurnPolicy,
    window: WindowPolicy,
) -> ClaimAnswer:
    """`conversation` is the item of the result, read; `seq` is the wake-up's."""
    if conversation is None:
        return NothingLeft(settled=seq)
    lease = conversation.lease
    if isinstance(result, Applied) or (lease is not None and lease.token == token):
        return Claimed(conversation)
    if conversation.outbox is None and seq <= conversation.settled:
        return NothingLeft(conversation.settled)
    if lease is not None and lease.expires_at + policy.skew_ms >= now:
        return HeldElsewhere(lease.expires_at + policy.skew_ms + 1)
    if not conversation.unfinished:
        # A higher seq than ever was: the wake-up is of a record that was replaced.
        return NothingLeft(max(seq, conversation.settled))
    closes_at = window_closes_at(conversation, window)
    return WindowOpen(closes_at) if closes_at > now else ClaimAgain()


def window_closes_at(conversation: Conversation, window: WindowPolicy) -> int:
    """0 when nothing is to be waited for."""
    at_once = conversation.handoff or conversation.opted_out or conversation.outbox is not None
    if at_once or not conversation.pending:
        return 0
    return window.closes_at(
        last_at=conversation.last_at,
        first_received_at=conversation.pending[0].received_at,
        pending=len(conversation.pending),
    )


# --- RUN ---------------------------------------------------------------------------------------


def after_renewal(
    conversation: Conversation | None, *, token: str, seq: int | None = None
) -> "Holds | LeaseLost | Silenced | NewerMessages":
    """Whether the model's answer is still wanted, by the item that a renewal showed. `seq`: the
    newest message that it will answer, where a newer one means to ask again."""
    if not is_ours(conversation, token):
        return LeaseLost()
    if stopped := silenced(conversation):
        return stopped
    newer = seq is not None and conversation.seq != seq
    return NewerMessages(conversation) if newer else Holds()


# --- INTENT, ARM, COMMIT -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holds:
    """The step is in the item, whichever answer was lost on the way."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another worker has taken over. Stop, touch nothing."""


@dataclass(frozen=True, slots=True)
class Silenced:
    """People have taken over, or the customer opted out: no AI reply may start."""

    reason: str


@dataclass(frozen=True, slots=True)
class NewerMessages:
    """The draft answers too little: ask again with these."""

    conversation: Conversation


def after_intent(
    result: StepResult,
    conversation: Conversation | None,
    *,
    token: str,
    turn_id: str,
    seq: int | None = None,
) -> Holds | LeaseLost | Silenced | NewerMessages:
    """`seq`: what the step insisted on, if it did."""
    if isinstance(result, Applied):
        return Holds()
    answer = after_renewal(conversation, token=token, seq=seq)
    if isinstance(answer, LeaseLost):
        return answer
    outbox = conversation.outbox if conversation is not None else None
    if outbox is not None and outbox.turn_id == turn_id:
        return Holds()
    # A refusal without a reason must not ask the model again, and again.
    return LeaseLost() if isinstance(answer, Holds) else answer


def after_arm(
    result: StepResult, conversation: Conversation | None, *, token: str
) -> Holds | LeaseLost | Silenced:
    if isinstance(result, Applied):
        return Holds()
    if not is_ours(conversation, token):
        return LeaseLost()
    return silenced(conversation) or LeaseLost()


def is_ours(conversation: Conversation | None, token: str) -> TypeGuard[Conversation]:
    """Whether we still hold the lease."""
    lease = conversation.lease if conversation is not None else None
    return lease is not None and lease.token == token


def silenced(conversation: Conversation) -> Silenced | None:
    """Why no AI reply may start, if so."""
    if conversation.handoff:
        return Silenced(REQUESTED)
    return Silenced(OPTED_OUT) if conversation.opted_out else None


@dataclass(frozen=True, slots=True)
class DeliveryChanged:
    """Callbacks wrote into the outbox meanwhile: carry it over and commit again."""

    outbox: Outbox


def after_commit(
    result: StepResult, conversation: Conversation | None, *, token: str, turn_id: str
) -> Holds | LeaseLost | DeliveryChanged:
    if isinstance(result, Applied):
        return Holds()
    if conversation is None:
        return LeaseLost()
    if conversation.last_turn == turn_id:
        return Holds()
    lease, outbox = conversation.lease, conversation.outbox
    if lease is None or lease.token != token or outbox is None or outbox.turn_id != turn_id:
        return LeaseLost()
    return DeliveryChanged(outbox)


def after_handoff_intent(
    result: StepResult, conversation: Conversation | None, *, token: str
) -> Holds | LeaseLost | DeliveryChanged:
    """Only another's token, or more from callbacks in the outbox that it replaces, refuse it."""
    if isinstance(result, Applied):
        return Holds()
    if not is_ours(conversation, token):
        return LeaseLost()
    if conversation.outbox is None:
        return LeaseLost()
    if conversation.outbox.kind in FOR_PEOPLE:
        return Holds()
    return DeliveryChanged(conversation.outbox)


def pause_ms(attempt: int, jitter: float) -> int:
    """How long to wait before attempt + 1: 1 s doubling up to 30 s, less up to half of it.

    `jitter` is a random number in [0, 1)."""
    full = min(LONGEST_PAUSE_MS, 1_000 * 2 ** min(max(attempt, 1) - 1, 10))
    return int(full * (1 - jitter / 2))
