"""What the flows need of the outside world. Real adapters and in-memory twins implement these,
and one contract suite (`tests/contract/`) runs on both."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from replyd.domain.catch_up import Inbox
from replyd.domain.events import Event
from replyd.domain.expressions import Step, StepResult
from replyd.domain.messages import (
    ConversationKey,
    InboundMessage,
    Media,
    OutboundPart,
    Params,
    SentMessage,
)
from replyd.domain.record import Candidate
from replyd.domain.tools import ToolCall, ToolResult

# --- conversations -----------------------------------------------------------------------------


class ConversationStore(Protocol):
    """The table. Every method raises Temporary, DependencyDown or Permanent."""

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        """All records of a customer; `seen` tells whether one has accepted this SID."""
        ...

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        """One conditional update. A refusal brings the item as it was, at no further read."""
        ...

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        """The item, strongly consistent."""
        ...

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        """Put a new item; false when one is there already."""
        ...

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        """Put an item under a partition key of its own, such as `inbound#<sid>`. `expires_at`:
        epoch seconds after which the table may drop it, None to keep it. `part`: one of several
        items of that name, in their order."""
        ...

    async def get_side(self, name: str) -> dict[str, Any] | None: ...

    async def delete_side(self, name: str) -> None: ...

    async def once_per(self, name: str, now: int, period: int) -> bool:
        """True for one caller per `period`, for all instances; times in epoch seconds."""
        ...


# --- queues ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A queue message in our hands until its visibility timeout ends."""

    message_id: str
    receipt: str
    body: str
    receives: int = 1


class WakeupQueue(Protocol):
    """The replies queue. Every method raises Temporary or DependencyDown."""

    async def send(self, body: str, delay_seconds: int) -> None:
        """`delay_seconds`: 0 to 900."""
        ...

    async def receive(self) -> Sequence[Received]:
        """Long poll for up to ten messages. Never cancel it: a dead poll can swallow a message."""
        ...

    async def delete(self, messages: Sequence[Received]) -> None:
        """Up to ten at a time. What could not be deleted comes again."""
        ...

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        """Stay, or become (0), invisible or visible. Up to ten at a time; failures come again."""
        ...


class HandoffQueue(Protocol):
    """Where people's tools take conversations from."""

    async def send(self, bodies: Sequence[str]) -> None:
        """All of them, in order; raises Temporary or DependencyDown unless all are stored."""
        ...


# --- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the conversation: `role` is user or assistant."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class File:
    """The contents of a file that came with a message."""

    name: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One user turn. `unseen` are lines the thread at the vendor does not know, `history` all of
    them, for when there is no thread or the vendor no longer knows it.

    `files`: what the turn's text calls file 1, 2, …, for models that take them. `sids`: the
    messages of the turn. `customer`: their address, which must not reach the vendor as it is.
    `business`: the company's number, whose customers share limits fairly. `profile`: which model
    and settings, empty for the default. `again`: the thread at the vendor may hold an answer to
    this turn that the customer has not seen.

    `results` answer the `calls` of the last reply to this request, whose `state` comes along: the
    model goes on from there, and only `state` and `results` are new to it."""

    turn: str
    thread_id: str
    unseen: tuple[Line, ...]
    history: tuple[Line, ...]
    conversation_id: str
    sids: tuple[str, ...] = ()
    customer: str = ""
    business: str = ""
    profile: str = ""
    files: tuple[File, ...] = ()
    again: bool = False
    state: Any = None
    results: tuple[ToolResult, ...] = ()


# How an answer ended: as it should, without any text, with a refusal, at the token limit, or
# stopped by the vendor's content filter.
Finish = Literal["complete", "empty", "refused", "truncated", "filtered"]


@dataclass(frozen=True, slots=True)
class ModelReply:
    """`thread_id`: what continues the conversation at the vendor, empty where nothing does.
    `input_tokens` include the `cached_tokens`; `output_tokens` include thinking.

    `calls`: the model waits for these before it answers; `state` is for the request that brings
    their results, and means nothing to anybody else."""

    text: str
    thread_id: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    finish: Finish = "complete"
    calls: tuple[ToolCall, ...] = ()
    state: Any = None


class ReplyModel(Protocol):
    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer, or the tools it waits for. Raises Temporary, Busy, DependencyDown, or
        Permanent for a request that the vendor will never answer. Has no effect that the customer
        sees."""
        ...


class Transcriber(Protocol):
    async def transcribe(self, recording: File) -> str:
        """The words of a voice note, empty when there are none. Raises as a model does."""
        ...


class Moderator(Protocol):
    async def flagged(self, text: str) -> Sequence[str]:
        """The names of the categories that a text falls into, none for a harmless one. Raises as
        a model does."""
        ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs. `turn`: the same for all attempts at a turn, so that a tool that is
    asked again can know it."""

    conversation_id: str
    customer: str
    business: str
    turn: str


class Toolbox(Protocol):
    async def run(self, name: str, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """The result of a tool, for the model to read. Raises Temporary or DependencyDown when it
        failed for now, Permanent when these arguments will never do, Ambiguous when it may have
        happened. Ends within the tool's time limit."""
        ...

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        """The arguments, read and compared with the tool's schema. Raises ValueError with a
        sentence that the model can act on."""
        ...


# --- the channel -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A webhook as it came: the target as on the wire, every parameter in order."""

    target: str
    fields: Sequence[tuple[str, str]]
    signature: str
    signature_settings: str = ""


class Channel(Protocol):
    def knows_account(self, account_sid: str) -> bool: ...

    def is_authentic(self, request: SignedRequest) -> bool:
        """Whether the account named in the parameters signed exactly this. Constant time."""
        ...

    def parse(self, params: Params) -> InboundMessage:
        """Raises ValueError, which names the field, when this is no inbound message."""
        ...

    async def send(self, part: OutboundPart) -> str:
        """The SID once the vendor has accepted the message.

        Raises Ambiguous when it may have been accepted; Temporary, Busy or DependencyDown when
        it was certainly not and may be sent again; Permanent when it never will be."""
        ...

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        """What the vendor has accepted from `sender` to `recipient`, oldest first: all of it that
        was created at `since` (epoch ms, to the second) or later, perhaps also older messages.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        """What the vendor took from customers from `since` up to `until` (epoch ms, to the
        second), as far as its list tells it.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def state_of(self, account_sid: str, sid: str) -> str:
        """How far a message of ours has come: the vendor's word for it, `queued` or `accepted`
        first, then `sending`, `sent`, `delivered`, `read`, or `undelivered`, `failed`.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        """Mark a customer's message, and those before it, as read, and show that an answer is
        being written: until it comes, or for 25 seconds, WhatsApp's limit.

        Raises Temporary, Busy or DependencyDown when it could not be shown for now, Permanent when
        it never will be. Never Ambiguous: it may be repeated."""
        ...


class MediaLibrary(Protocol):
    async def fetch(self, media: Media, account_sid: str) -> File:
        """A file that a customer sent. Raises Temporary, Busy or DependencyDown when it cannot be
        had for now; Permanent when it never can: gone, too large, of a kind that is not wanted, or
        not the vendor's to give."""
        ...


# --- the process -------------------------------------------------------------------------------


class Clock(Protocol):
    def now(self) -> int:
        """Wall clock, epoch milliseconds. Instances may differ by up to `turn.clock_skew`."""
        ...

    def elapsed(self) -> float:
        """Seconds from an arbitrary start, never standing still, not even in suspend."""
        ...


class Ids(Protocol):
    def fresh(self) -> str:
        """A new unique id."""
        ...

    def jitter(self) -> float:
        """A random number in [0, 1)."""
        ...


class Telemetry(Protocol):
    def emit(self, event: Event) -> None:
        """Never raises, never blocks."""
        ...


class LocalBuffer(Protocol):
    """The worker half of the same process, where there is one."""

    def staged(self, key: ConversationKey, seq: int, closes_at: int) -> None:
        """A message was staged here as `seq`: a wake-up held for its conversation waits until
        `closes_at`, and a turn under way may have to start over with it."""
        ...

    def wake(self, key: ConversationKey, seq: int, at: int) -> None:
        """The queue did not take the wake-up: look at the conversation at `at` without one."""
        ...


# --- operators ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a table's items; `units`: the read capacity that it has cost."""

    items: tuple[tuple[ConversationKey, dict[str, Any]], ...]
    units: float = 0.0


@dataclass(frozen=True, slots=True)
class TableSize:
    """An estimate, hours old."""

    items: int
    size_bytes: int


class WholeTable(Protocol):
    """What no key can find. Every method raises Temporary, DependencyDown or Permanent."""

    async def size(self) -> TableSize: ...

    def pages(self, after: ConversationKey | None = None) -> AsyncIterator[Page]:
        """Every item, replyd's own among them, perhaps some seconds old. In no order, but the same
        one each time: what comes behind the key `after` can be read later."""
        ...

    def archive(self, conversation_id: str) -> AsyncIterator[Page]:
        """The archive items of a conversation, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """The dead-letter queue of the queue `source`, both URLs; the counts are estimates."""

    source: str
    url: str
    name: str
    visible: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """`sent_at`: when it came to its first queue, epoch ms; `receives`: how often it was
    received; `attributes`: what its sender put beside the body."""

    message_id: str
    receipt: str
    body: str
    sent_at: int = 0
    receives: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


class DeadLetterQueues(Protocol):
    """Every method raises Temporary, DependencyDown or Permanent."""

    async def of(self, source: str) -> DeadQueue | None:
        """None where the queue has no redrive policy."""
        ...

    async def receive(self, queue: DeadQueue) -> Sequence[DeadMessage]:
        """Up to ten, kept from others for a minute; none when the queue seems empty."""
        ...

    async def give_back(self, queue: DeadQueue, messages: Sequence[DeadMessage]) -> None:
        """Others may have them at once."""
        ...

    async def move_back(self, queue: DeadQueue, message: DeadMessage) -> None:
        """To the queue it came from: sent, then deleted, so that it is never in none."""
        ...

    async def purge(self, queue: DeadQueue) -> None: ...


# --- secrets -----------------------------------------------------------------------------------


class Secrets(Protocol):
    async def get(self, name: str) -> str:
        """The text of a secret, by its name or ARN. Raises Temporary, Busy or DependencyDown when
        it cannot be read for now, Permanent, with a reason that follows the secret's name, for one
        that is missing, that we may not read or that is no text. Nothing is changed."""
        ...
