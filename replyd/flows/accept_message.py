"""STAGE: make a customer's message durable and put its wake-up on the queue."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

from replyd.domain import consent, routing, steps, turn
from replyd.domain.address import is_address
from replyd.domain.events import MessageAccepted, MessageDropped, NoticeSent
from replyd.domain.messages import ConversationKey, InboundMessage, OutboundPart
from replyd.domain.record import Candidate
from replyd.domain.retention import FOR_EVER, Retention
from replyd.domain.routing import OptOutWords, Route, UnknownSenderPolicy
from replyd.domain.wakeup import BodyCodec
from replyd.domain.window import WindowPolicy, early_delay_seconds
from replyd.errors import Permanent, ReplydError, Temporary
from replyd.flows.find_conversation import FindConversation
from replyd.ports import Channel, Clock, ConversationStore, LocalBuffer, Telemetry, WakeupQueue

# A side item outlives every wake-up that can still ask for it.
_SIDE_ITEM_SECONDS = 30 * 24 * 60 * 60


def body_name(sid: str) -> str:
    """The side item with a body that is too large for the record."""
    return f"inbound#{sid}"


def notice_name(customer: str) -> str:
    """The side item that says when an unknown sender got the notice."""
    return f"notice#{customer}"


class AcceptMessage:
    """Returns once the message is durable and will be looked at; raises Temporary,
    DependencyDown or Permanent when it is not, and the sender must deliver it again."""

    def __init__(
        self,
        *,
        store: ConversationStore,
        wakeups: WakeupQueue,
        channel: Channel,
        clock: Clock,
        telemetry: Telemetry,
        buffer: LocalBuffer,
        window: WindowPolicy,
        codec: BodyCodec,
        words: OptOutWords,
        unknown: UnknownSenderPolicy,
        new_key: Callable[[str, str], ConversationKey],
        lookup_cache_seconds: float = 3,
        prepare: Callable[[InboundMessage], None] | None = None,
        retention: Retention = FOR_EVER,
    ) -> None:
        """`prepare`: called with each message that the AI is about to answer, for what takes time
        and can be done while its window is open."""
        self._store = store
        self._find = FindConversation(store, clock, telemetry, lookup_cache_seconds, retention)
        self._wakeups = wakeups
        self._channel = channel
        self._clock = clock
        self._telemetry = telemetry
        self._buffer = buffer
        self._window = window
        self._codec = codec
        self._words = words
        self._unknown = unknown
        self._new_key = new_key
        self._prepare = prepare
        self._retention = retention

    async def __call__(self, message: InboundMessage) -> None:
        for _ in range(2):
            route = await self._find(message) or await self._unknown_sender(message)
            if route is None:
                break
            match await self._stage(message, route):
                case turn.Staged() as staged:
                    await self._wake(message, route, staged)
                    return await self._find.remember(message, route.target.key)
                case turn.AlreadySettled():
                    return self._drop(message, "already_settled")
            # The item went away between lookup and STAGE: look once more.
            self._find.forget(message)
        return self._drop(message, "unknown_sender")

    async def _stage(
        self, message: InboundMessage, route: Route
    ) -> turn.Staged | turn.AlreadySettled | turn.NoSuchConversation:
        now = self._clock.now()
        stop, start = self._words.is_stop(message), self._words.is_start(message)
        noted = consent.entry(message, "stop" if stop else "start", now) if stop or start else None
        confirm = noted is not None and consent.is_to_confirm(noted)
        body_ref = await self._body_ref(message, now)
        entry = steps.pending_entry(message, now, body_ref, confirm=confirm)
        first = not route.target.staged_before
        expires_at = self._retention.record_until(now)
        for _ in range(3):
            step = steps.stage(
                message.sid,
                entry,
                now,
                first=first,
                opt_out=stop or (route.opted_out and not start),
                opt_in=start,
                consent=noted,
                expires_at=expires_at,
            )
            try:
                result = await self._store.apply(route.target.key, step)
            except (Temporary, asyncio.CancelledError):
                # It may have happened, and the sender need not deliver again: look after a while.
                self._buffer.wake(route.target.key, 0, now + self._window.quiet_ms)
                raise
            answer = turn.after_stage(result, message.sid)
            if not isinstance(answer, turn.OtherForm):
                break
            first = not first
        else:
            raise Permanent("dynamodb", "the record refuses a message in both forms of STAGE")
        if body_ref and not isinstance(answer, turn.Staged):
            # Settled, or the record was erased meanwhile: nothing leads there. Its expiry removes
            # what this leaves behind.
            with suppress(ReplydError):
                await self._store.delete_side(body_ref)
        self._find.staged(message, route.target.key)
        if stop or start:
            self._find.forget(message)
            for sibling in route.siblings:
                mark = steps.mark_opt_out(now, opted_out=stop, expires_at=expires_at)
                await self._store.apply(sibling.key, mark)
        return answer

    async def _body_ref(self, message: InboundMessage, now: int) -> str:
        """Put a body that is too large for the record aside, and name where it lies."""
        if len(json.dumps(message.as_dict())) <= routing.MAX_INLINE_BYTES:
            return ""
        name = body_name(message.sid)
        expires_at = now // 1000 + _SIDE_ITEM_SECONDS
        await self._store.put_side(name, {"message": message.as_dict()}, expires_at)
        return name

    async def _wake(self, message: InboundMessage, route: Route, staged: turn.Staged) -> None:
        target, now = route.target, self._clock.now()
        opted_out = route.opted_out and not self._words.is_start(message)
        silent = target.handoff or opted_out or self._words.is_stop(message)
        closes_at = (
            0
            if silent
            else self._window.closes_at(
                last_at=staged.last_at,
                first_received_at=staged.first_received_at,
                pending=staged.pending,
            )
        )
        body = self._codec.encode(
            key=target.key,
            seq=staged.seq,
            received_at=staged.last_at,
            message=message,
            conversation_id=target.conversation_id,
            thread_id=target.thread_id,
            company_tel=target.company_tel,
            closes_at=closes_at,
        )
        try:
            await self._wakeups.send(body, early_delay_seconds(closes_at, now))
        except (ReplydError, asyncio.CancelledError):
            self._buffer.wake(target.key, staged.seq, max(closes_at, now))
            raise
        self._buffer.staged(target.key, staged.seq, closes_at)
        if self._prepare is not None and not silent:
            self._prepare(message)
        self._telemetry.emit(
            MessageAccepted(
                key=target.key,
                conversation_id=target.conversation_id,
                sid=message.sid,
                customer=message.customer,
                seq=staged.seq,
                received_at=staged.last_at,
                closes_at=max(closes_at, now),
                again=staged.again,
                at=now,
            )
        )

    async def _unknown_sender(self, message: InboundMessage) -> Route | None:
        if self._unknown.policy == "create" and is_address(message.sender):
            return await self._create(message)
        if self._unknown.policy == "notify":
            await self._notify(message)
        return None

    async def _create(self, message: InboundMessage) -> Route:
        conversation_id = routing.new_conversation_id(message.customer, message.business)
        key = self._new_key(message.customer, conversation_id)
        attributes = routing.new_conversation(message, conversation_id, self._clock.now())
        await self._store.create(key, attributes)
        self._find.forget(message)
        target = Candidate(
            key=key,
            conversation_id=conversation_id,
            company_tel=message.business,
            created_at="",
            thread_id="",
            handoff=False,
            opted_out=False,
            staged_before=False,
            seen=False,
        )
        return Route(target, ())

    async def _notify(self, message: InboundMessage) -> None:
        """At most once a day: noted before it is sent, and a failed send is not repeated."""
        if self._words.is_stop(message):
            return
        now = self._clock.now()
        name = notice_name(message.customer)
        if not await self._store.once_per(name, now // 1000, routing.NOTICE_PERIOD_SECONDS):
            return
        part = OutboundPart(
            message.account_sid, message.recipient, message.sender, self._unknown.notice
        )
        try:
            await self._channel.send(part)
            sent, reason = True, ""
        except ReplydError as error:
            sent, reason = False, str(error)
        self._telemetry.emit(
            NoticeSent(message.customer, sent=sent, reason=reason, at=self._clock.now())
        )

    def _drop(self, message: InboundMessage, reason: str) -> None:
        self._telemetry.emit(
            MessageDropped(message.sid, message.customer, reason, self._clock.now())
        )
