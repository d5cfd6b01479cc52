"""What every flow of a turn works with: ports, policies, and the account of one turn."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from replyd.domain import effects, prompt, record, routing, session_window, usage
from replyd.domain.events import DependencyFailed, TurnEnded
from replyd.domain.expressions import Step, StepResult
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.profile import Profile, Profiles
from replyd.domain.record import Conversation, Outbox, Pending, conversation_from
from replyd.domain.retention import FOR_EVER, Retention
from replyd.domain.turn import TurnPolicy, pause_ms
from replyd.domain.wakeup import BodyCodec
from replyd.domain.window import WindowPolicy
from replyd.errors import DependencyError, Temporary
from replyd.flows.account import Account
from replyd.flows.contents import ContentReader
from replyd.flows.lease import Lease
from replyd.flows.send_pace import SendPace
from replyd.ports import (
    Channel,
    Clock,
    ConversationStore,
    HandoffQueue,
    Ids,
    Moderator,
    ReplyModel,
    Telemetry,
    Toolbox,
)


@dataclass(frozen=True, slots=True)
class Moderation:
    """`input`, `output`: off, handoff, or text, which is sent instead."""

    moderator: Moderator
    input: str = "off"
    output: str = "off"
    text: str = ""

    def outcome(self, which: str) -> str:
        return self.input if which == "input" else self.output


@dataclass(frozen=True, slots=True)
class Workbench:
    store: ConversationStore
    handoffs: HandoffQueue
    model: ReplyModel
    channel: Channel
    clock: Clock
    ids: Ids
    telemetry: Telemetry
    codec: BodyCodec
    window: WindowPolicy
    policy: TurnPolicy
    owner: str
    # A send starts only while this much of the lease is left: watchdog + HTTP timeout.
    send_margin_seconds: float
    # What each business number may send; a part waits for it before it looks at its lease.
    pace: SendPace
    # A send whose answer was lost has arrived, or never will, and shows in the channel's list,
    # this long after it was written.
    grace_seconds: float
    # (key, turn id, entry index) -> URL, or empty where there is none.
    status_callback: Callable[[ConversationKey, str, int], str]
    toolbox: Toolbox
    # None where files are not read.
    contents: ContentReader | None = None
    profiles: Profiles = field(default_factory=Profiles)
    prices: Mapping[str, usage.Price] = field(default_factory=dict)
    moderation: Moderation | None = None
    address_attribute: str = record.RECIPIENT_TEL
    profile_attribute: str = record.PROFILE
    assistant_attribute: str = record.ASSISTANT_ID
    history_messages: int = 50
    keep_messages: int = 50
    seen_keep: int = 500
    seen_horizon_ms: int = 15 * 24 * 60 * 60 * 1000
    retention: Retention = FOR_EVER
    # What a customer is told when the AI gives up; empty for nothing.
    apology_text: str = ""
    # How long a part waits until the one before it is on its way.
    part_wait_seconds: float = 0
    # What confirms STOP; empty for nothing.
    stop_text: str = ""
    # Whether the customer sees that an answer is being written.
    typing: bool = False
    session: session_window.SessionPolicy = session_window.NO_TEMPLATE
    # Whether message texts may go into the account of a turn, and so into the log.
    bodies: bool = False

    def read(self, key: ConversationKey, result: StepResult) -> Conversation | None:
        """The item that a step's answer shows; None where there is none."""
        if result.item is None:
            return None
        return conversation_from(
            result.item,
            key,
            address_attribute=self.address_attribute,
            profile_attribute=self.profile_attribute,
            assistant_attribute=self.assistant_attribute,
        )

    def failed(self, operation: str, error: DependencyError) -> None:
        """Tell operators of a call that did not succeed."""
        self.telemetry.emit(DependencyFailed.of(error, operation))


# Of a step on which the rest of the turn depends.
_TRIES = 3
# What stands for a text that people should still hear of.
NO_LONGER_STORED = "[a message whose text is no longer stored]"


async def stored_message(store: ConversationStore, pending: Pending) -> InboundMessage | None:
    """With everything that Twilio sent, also where it lies in an item of its own; None when that
    has expired or was removed."""
    if pending.message is None and pending.body_ref:
        side = await store.get_side(pending.body_ref)
        return InboundMessage.from_dict(side["message"]) if side is not None else None
    return pending.message


@dataclass(frozen=True, slots=True)
class Taken:
    """A pending message with its body at hand. `lost`: what it said is no longer stored."""

    pending: Pending
    message: InboundMessage
    text: str
    lost: bool = False


def _readable(taken: Taken, known: Mapping[str, str], notes: Mapping[int, str]) -> str:
    if taken.lost:
        return NO_LONGER_STORED
    reply_to = prompt.quoted_text(taken.message, known)
    return prompt.readable(taken.message, reply_to=reply_to, notes=notes)


class News:
    """`seq`: up to which messages were staged in a conversation, as far as this process has heard.
    Hearsay: a wake-up may be of an earlier life of the record."""

    def __init__(self) -> None:
        self.seq = 0
        self._changed = asyncio.Event()

    def tell(self, seq: int) -> None:
        if seq > self.seq:
            self.seq = seq
            self._changed.set()

    async def beyond(self, seq: int) -> None:
        """Returns once a later message than this one is heard of."""
        while self.seq <= seq:
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True)
class Turn:
    """One worker's hold on a conversation, from CLAIM to COMMIT or release."""

    bench: Workbench
    lease: Lease
    conversation: Conversation
    account: Account
    news: News = field(default_factory=News)
    taken: tuple[Taken, ...] = ()
    # The kind of outbox that we may have put into the item, and whether something of it may have
    # reached the customer: together they say what a release has to leave behind.
    intended: str = ""
    may_have_sent: bool = False
    # The outbox in the item of which nothing was sent, until another one takes its place.
    unsent: Outbox | None = None
    # Tools with effects that were called under this lease, as `reply_tools` has them.
    tools: dict[str, record.Entry] = field(default_factory=dict)
    # Sent instead of asking the model, and why.
    fixed: effects.SayText | None = None

    @property
    def key(self) -> ConversationKey:
        return self.conversation.key

    @property
    def sids(self) -> tuple[str, ...]:
        return tuple(t.message.sid for t in self.taken)

    @property
    def pending(self) -> tuple[Pending, ...]:
        return tuple(t.pending for t in self.taken)

    @property
    def seqs(self) -> tuple[int, ...]:
        return tuple(t.pending.seq for t in self.taken)

    def user_entries(self, turn_id: str) -> list[record.Entry]:
        """The messages taken, as they will stand in the history."""
        rows = [(t.message.sid, t.pending.received_at, t.text) for t in self.taken]
        entries = routing.user_entries(rows, turn_id)
        for entry, taken in zip(entries, self.taken, strict=True):
            if taken.message.channel != "whatsapp":
                entry[record.CHANNEL] = taken.message.channel
        return entries

    @property
    def head(self) -> str:
        """The SID of the oldest message that the turn takes."""
        return self.taken[0].pending.sid if self.taken else ""

    @property
    def profile(self) -> Profile:
        return self.bench.profiles.of(self.conversation)

    async def insist(self, operation: str, step: Callable[[], Step]) -> StepResult:
        """Apply a step, made anew for each of a few tries; then raises as the store does."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self.bench.store.apply(self.key, step())
            except Temporary as error:
                if attempt >= _TRIES:
                    raise
                self.bench.failed(operation, error)
                await asyncio.sleep(pause_ms(attempt, self.bench.ids.jitter()) / 1000)

    def read(self, result: StepResult) -> Conversation | None:
        """The item that a step's answer shows."""
        return self.bench.read(self.key, result)

    def usage(
        self, *, counted: int, replied: bool = False, told: bool = False
    ) -> dict[str, Any] | None:
        """What is spent by now, for the record; None where it has that already. `counted`: the
        attempts that are in it. `told`: the customer learnt of the limit."""
        limits, kept = self.bench.policy.limits, self.conversation.usage
        before = effects.usage_now(self.conversation, now=self.account.claimed_at, policy=limits)
        spent = self.account.spent(limits.reserve) + usage.Spent(turns=int(replied))
        if spent == usage.Spent() and before.total == kept.total and counted == kept.counted:
            return None
        after = before.plus(spent)
        told_on = before.day if told else before.told
        return replace(after, counted=counted, told=told_on).as_attribute()

    def read_as(self, notes: Mapping[str, Mapping[int, str]]) -> None:
        """The texts of the messages, now that their files were read: notes by SID and place."""
        quotes = any(prompt.quoted_sid(t.message) for t in self.taken)
        known = self._texts_by_sid() if quotes else {}
        self.taken = tuple(
            replace(t, text=_readable(t, known, notes.get(t.message.sid, {}))) for t in self.taken
        )

    def read_before(self, texts: Mapping[str, str]) -> None:
        """The texts that an earlier attempt has read, by SID, for the answer that it found."""
        self.taken = tuple(replace(t, text=texts.get(t.message.sid, t.text)) for t in self.taken)

    def _texts_by_sid(self) -> dict[str, str]:
        """What a message may reply to: the history, and the messages of the turn."""
        said = self.conversation.messages
        known = {str(e.get("message_id")): str(e["content"]) for e in said if "content" in e}
        ours = {t.message.sid: t.text or _readable(t, {}, {}) for t in self.taken}
        return known | ours

    async def take(self, pending: Sequence[Pending]) -> None:
        """Bring the bodies of these messages; raises as the store does."""
        self.taken = tuple([await self._with_body(p) for p in pending])
        self.read_as({})

    async def _with_body(self, pending: Pending) -> Taken:
        message = await stored_message(self.bench.store, pending)
        if message is None:
            # The side item expired or was removed: people still learn that something came.
            message = InboundMessage(
                sid=pending.sid,
                sender=self.conversation.customer,
                recipient=self.conversation.company_tel,
                body=NO_LONGER_STORED,
            )
            return Taken(pending, message, "", lost=True)
        return Taken(pending, message, "")

    def ended(
        self, outcome: str, *, reason: str = "", detail: str = "", retry_in_ms: int = 0
    ) -> None:
        account, now = self.account, self.bench.clock.now()
        self.bench.telemetry.emit(
            TurnEnded(
                key=self.key,
                conversation_id=self.conversation.conversation_id,
                customer=self.conversation.customer,
                outcome=outcome,
                at=now,
                turn_id=account.turn_id,
                reason=reason,
                detail=detail,
                sids=self.sids,
                reply_sids=tuple(account.reply_sids),
                attempt=self.conversation.attempts,
                restarts=account.restarts,
                window_wait_ms=account.window_wait_ms,
                model_ms=account.model_ms,
                send_ms=account.send_ms,
                total_ms=now - account.claimed_at,
                input_tokens=account.input_tokens,
                output_tokens=account.output_tokens,
                cached_tokens=account.cached_tokens,
                microdollars=account.microdollars,
                tool_calls=len(account.tools),
                model=account.model,
                profile=self.profile.name,
                retry_in_ms=retry_in_ms,
                question="\n".join(t.text for t in self.taken) if self.bench.bodies else "",
                answer=account.answer if self.bench.bodies else "",
            )
        )
