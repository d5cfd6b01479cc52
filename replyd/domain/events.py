"""What happened, as values: the one stream that logs, metrics and the demo page are made from.

Only `TurnEnded` can carry message texts, when `logging.bodies` is true. Addresses are there for
whoever may show them; the log masks them. `at` is epoch milliseconds, durations are milliseconds.
"""

from dataclasses import dataclass

from replyd.domain.messages import ConversationKey
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """STAGE holds and its wake-up is on the queue. `again`: an earlier delivery had staged it."""

    key: ConversationKey
    conversation_id: str
    sid: str
    customer: str
    seq: int
    received_at: int
    closes_at: int
    again: bool
    at: int


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """Nothing was staged. `reason`: unknown_sender, already_settled."""

    sid: str
    customer: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The webhook server refused a request. `reason` is a short fixed word."""

    endpoint: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnClaimed:
    """A worker has the lease. `window_wait_ms`: since the first message of the burst; `late_ms`:
    since its window closed."""

    key: ConversationKey
    conversation_id: str
    sids: tuple[str, ...]
    attempt: int
    window_wait_ms: int
    at: int
    late_ms: int = 0


@dataclass(frozen=True, slots=True)
class ModelAsked:
    key: ConversationKey
    sids: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    key: ConversationKey
    sids: tuple[str, ...]
    model: str
    duration_ms: int
    input_tokens: int
    output_tokens: int
    at: int
    cached_tokens: int = 0
    microdollars: int = 0


@dataclass(frozen=True, slots=True)
class ModelSwitched:
    """The circuit breaker of a profile's model opened (`down`), or closed again. Until then its
    fallback answers, where it has one."""

    profile: str
    down: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ToolRan:
    """A call of a tool by the model. `outcome`: done, refused (its arguments), failed, unknown (it
    may have happened), repeated (it has effects and ran before in this turn)."""

    key: ConversationKey
    sids: tuple[str, ...]
    tool: str
    outcome: str
    duration_ms: int
    at: int


@dataclass(frozen=True, slots=True)
class FileRead:
    """A customer's file was read for the model. `kind`: audio, image, document, contact. `outcome`:
    read, failed, late (the turn went on without it)."""

    kind: str
    outcome: str
    duration_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelInterrupted:
    """A call was cancelled because its answer would have been thrown away. `reason`:
    newer_messages, silenced, lease_lost."""

    key: ConversationKey
    sids: tuple[str, ...]
    reason: str
    duration_ms: int
    at: int


@dataclass(frozen=True, slots=True)
class PartSent:
    """Twilio accepted one part of the reply."""

    key: ConversationKey
    sids: tuple[str, ...]
    part: int
    parts: int
    part_sid: str
    duration_ms: int
    at: int


@dataclass(frozen=True, slots=True)
class SendReconciled:
    """It was looked up whether a reply had gone out. `accepted`: how many of its `parts`.

    `outcome`: accepted (all of it), resumed (the other parts are sent now), sent_again (nothing
    had gone out), sent_again_unsure (it could not be read, and the settings say resend),
    handed_over."""

    key: ConversationKey
    conversation_id: str
    turn_id: str
    parts: int
    accepted: int
    outcome: str
    at: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The end of a worker's hold on a conversation; one wide log line.

    `outcome`: replied, handed_over, withheld (settled without an answer), partly_sent, retry,
    lease_lost, nothing_to_do, bug.
    `reason`: the handoff's, or what failed.
    """

    key: ConversationKey
    conversation_id: str
    customer: str
    outcome: str
    at: int
    turn_id: str = ""
    reason: str = ""
    detail: str = ""
    sids: tuple[str, ...] = ()
    reply_sids: tuple[str, ...] = ()
    attempt: int = 0
    restarts: int = 0
    window_wait_ms: int = 0
    model_ms: int = 0
    send_ms: int = 0
    total_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    microdollars: int = 0
    tool_calls: int = 0
    model: str = ""
    profile: str = ""
    retry_in_ms: int = 0
    question: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryReported:
    """A status callback for a message that replyd sent. `recorded`: its state is new in the
    record; `people_told`: the report put a body on people's queue."""

    sid: str
    status: str
    error_code: str
    recorded: bool
    at: int
    people_told: bool = False


@dataclass(frozen=True, slots=True)
class PersonActed:
    """A person did something with a conversation. `action`: reply, handoff, release. `author`: who,
    as they call themselves. `outcome`: done; of a reply accepted, partly_sent, unknown (it may have
    been sent), not_delivered, again (an earlier request had sent it), failed, or why it was
    declined."""

    key: ConversationKey
    conversation_id: str
    action: str
    author: str
    outcome: str
    at: int
    turn_id: str = ""


@dataclass(frozen=True, slots=True)
class DependencyFailed:
    """A call that did not succeed, after the adapter's own retries. `down`: nobody can use the
    dependency now, as against one call that failed. `unwell`: it failed on its side, or did not
    answer, as against refusing this one request."""

    dependency: str
    operation: str
    reason: str
    code: str = ""
    down: bool = False
    unwell: bool = False

    @classmethod
    def of(cls, error: DependencyError, operation: str) -> "DependencyFailed":
        down, unwell = isinstance(error, DependencyDown), not isinstance(error, Busy | Permanent)
        return cls(error.dependency, operation, error.reason, error.code, down, unwell)


@dataclass(frozen=True, slots=True)
class PoisonReceived:
    """A queue body that cannot be read; redrive takes it to the dead-letter queue."""

    message_id: str
    reason: str
    receives: int


@dataclass(frozen=True, slots=True)
class MessageAdopted:
    """A message that another webhook handler had queued was accepted here. `waited_ms`: since it
    came to the queue, a delay that its sender asked for included."""

    message_id: str
    waited_ms: int
    at: int


@dataclass(frozen=True, slots=True)
class QueueMeasured:
    """How many messages a queue has, by SQS's estimate. `queue`: replies, handoff, and each with
    `_dlq`. `known` false: it could not be read, or there is no such queue."""

    queue: str
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0
    known: bool = True


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A round of CATCH-UP through the list of an account has ended. Of `listed` messages so many
    were staged for the AI, staged for people because they are `too_old`, `known`, or `failed`; the
    others are from unknown senders, or the round broke off. `seen_until`: everything before this
    is dealt with, epoch ms, 0 before the first round that got on."""

    account: str
    listed: int
    staged: int
    known: int
    too_old: int
    failed: int
    seen_until: int
    duration_ms: int
    at: int


@dataclass(frozen=True, slots=True)
class NoticeSent:
    """The text for unknown senders went out, or failed to (`sent` false)."""

    customer: str
    sent: bool
    reason: str
    at: int


Event = (
    MessageAccepted
    | MessageDropped
    | RequestRefused
    | TurnClaimed
    | ModelAsked
    | ModelAnswered
    | ModelSwitched
    | ToolRan
    | FileRead
    | ModelInterrupted
    | PartSent
    | SendReconciled
    | TurnEnded
    | DeliveryReported
    | PersonActed
    | DependencyFailed
    | PoisonReceived
    | NoticeSent
    | MessageAdopted
    | QueueMeasured
    | CaughtUp
)
