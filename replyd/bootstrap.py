"""The one place that knows every part and wires them."""

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from replyd import __version__
from replyd.adapters import aws, openai
from replyd.adapters.dead_letters import DeadLetters
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.sqs import SqsHandoffs, SqsWakeups
from replyd.adapters.system import SystemClock, SystemIds
from replyd.adapters.table_scan import TableScan
from replyd.adapters.twilio import TwilioChannel
from replyd.adapters.twilio.failures import delivery_failure
from replyd.domain.callback import status_callback
from replyd.domain.messages import ConversationKey
from replyd.domain.routing import OptOutWords, UnknownSenderPolicy
from replyd.domain.turn import TurnPolicy
from replyd.domain.wakeup import BodyCodec
from replyd.domain.window import WindowPolicy
from replyd.errors import ConfigError
from replyd.flows.accept_message import AcceptMessage
from replyd.flows.answer_conversation import AnswerConversation
from replyd.flows.tell_people import TellPeople
from replyd.flows.track_delivery import TrackDelivery
from replyd.flows.workbench import Workbench
from replyd.ports import (
    Channel,
    Clock,
    ConversationStore,
    HandoffQueue,
    Ids,
    LocalBuffer,
    ReplyModel,
    Telemetry,
    WakeupQueue,
)
from replyd.runtime.buffer import Buffer
from replyd.runtime.consumer import Consumer
from replyd.runtime.health import Health
from replyd.runtime.no_buffer import NoBuffer
from replyd.runtime.ops_server import OpsServer
from replyd.runtime.progress import REQUEST_SECONDS, Progress
from replyd.runtime.supervisor import Supervisor
from replyd.runtime.systemd import ServiceManager
from replyd.runtime.webhook_server import WebhookServer
from replyd.settings import Settings
from replyd.telemetry import Fanout
from replyd.telemetry.logs import LogSink
from replyd.telemetry.metrics import MetricsSink

# Above the long poll, so that an empty answer is not taken for a failure.
_POLL_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world: real adapters, or their in-memory twins."""

    store: ConversationStore
    wakeups: WakeupQueue
    handoffs: HandoffQueue
    model: ReplyModel
    channel: Channel
    clock: Clock
    ids: Ids
    owner: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """The parts of one process, wired. Without its HTTP servers it is `accept`, and what runs
    when `buffer.run` and each consumer's `run` do."""

    accept: AcceptMessage
    answer: AnswerConversation
    track: TrackDelivery
    buffer: Buffer
    consumers: tuple[Consumer, ...]
    progress: Progress


def daemon(settings: Settings, parts: Parts, telemetry: Telemetry) -> Daemon:
    """Wire the flows and the runtime to these parts."""
    window, policy = policies(settings)
    codec = body_codec(settings)
    answer = AnswerConversation(
        Workbench(
            store=parts.store,
            handoffs=parts.handoffs,
            model=parts.model,
            channel=parts.channel,
            clock=parts.clock,
            ids=parts.ids,
            telemetry=telemetry,
            codec=codec,
            window=window,
            policy=policy,
            owner=parts.owner,
            send_margin_seconds=settings.watchdog_seconds + settings.twilio.timeout_seconds,
            grace_seconds=settings.grace_seconds,
            status_callback=partial(status_callback, settings.server.public_url),
            address_attribute=settings.conversations.address_attribute,
            history_messages=settings.ai.history_messages,
            keep_messages=settings.history.keep_messages,
            seen_keep=settings.history.seen_keep,
            seen_horizon_ms=settings.history.seen_days * 24 * 60 * 60 * 1000,
            apology_text=settings.turn.apology_text,
            bodies=settings.logging.bodies,
        )
    )
    progress = Progress(parts.clock.elapsed)
    buffer = Buffer(
        answer=answer,
        wakeups=parts.wakeups,
        clock=parts.clock,
        ids=parts.ids,
        telemetry=telemetry,
        progress=progress,
        concurrency=settings.turn.concurrency,
        max_held=settings.turn.max_held,
        visibility_seconds=settings.visibility_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    role = settings.server.role
    local: LocalBuffer = NoBuffer() if role == "webhook" else buffer
    accept = AcceptMessage(
        store=parts.store,
        wakeups=parts.wakeups,
        channel=parts.channel,
        clock=parts.clock,
        telemetry=telemetry,
        buffer=local,
        window=window,
        codec=codec,
        words=OptOutWords(settings.opt_out.stop_words, settings.opt_out.start_words),
        unknown=UnknownSenderPolicy(
            settings.unknown_sender.policy, settings.unknown_sender.notice_text
        ),
        new_key=partial(_new_key, settings),
        lookup_cache_seconds=settings.conversations.lookup_cache_seconds,
    )
    consumers = tuple(
        Consumer(
            wakeups=parts.wakeups,
            buffer=buffer,
            codec=codec,
            channel=parts.channel,
            accept=accept,
            ids=parts.ids,
            telemetry=telemetry,
            progress=progress,
            poll_seconds=aws.TRIES * settings.queues.wait_seconds + REQUEST_SECONDS,
        )
        for _ in range(0 if role == "webhook" else settings.queues.receivers)
    )
    track = TrackDelivery(
        parts.store,
        TellPeople(
            store=parts.store,
            handoffs=parts.handoffs,
            codec=codec,
            address_attribute=settings.conversations.address_attribute,
            explain=delivery_failure,
        ),
        parts.clock,
        telemetry,
        frozenset(settings.delivery.record),
    )
    return Daemon(accept, answer, track, buffer, consumers, progress)


@asynccontextmanager
async def supervisor(
    settings: Settings,
    *,
    sinks: Sequence[Telemetry] = (),
    manager: ServiceManager = ServiceManager(),  # noqa: B008 - frozen
) -> AsyncIterator[Supervisor]:
    """The whole process, ready to run. `sinks` get every event, beside log and metrics. Raises
    ConfigError for a socket of `manager` that the role has no use for."""
    role = settings.server.role
    if role == "worker" and manager.webhook_sockets:
        raise ConfigError(
            ['server.role is "worker" and systemd hands over a socket for webhooks: disable it']
        )
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        store = DynamoStore(await _client(stack, settings, "dynamodb"), _layout(settings))
        sqs = await _client(stack, settings, "sqs")
        wakeups = SqsWakeups(
            sqs,
            await stack.enter_async_context(
                aws.create_client(
                    "sqs",
                    region=settings.aws.region or None,
                    read_timeout=settings.queues.wait_seconds + _POLL_MARGIN_SECONDS,
                    connections=settings.queues.receivers,
                )
            ),
            settings.queues.replies_url,
            wait_seconds=settings.queues.wait_seconds,
            visibility_seconds=settings.visibility_seconds,
        )
        parts = Parts(
            store=store,
            wakeups=wakeups,
            handoffs=SqsHandoffs(sqs, settings.queues.handoff_url),
            model=await stack.enter_async_context(openai_model(settings)),
            channel=await stack.enter_async_context(twilio_channel(settings)),
            clock=clock,
            ids=SystemIds(),
            owner=f"{socket.gethostname()}-{os.getpid()}",
        )
        health = Health(
            clock,
            {"dynamodb": partial(store.get_side, "probe"), "sqs": wakeups.probe},
        )
        metrics = MetricsSink(__version__)
        telemetry = Fanout(
            [LogSink(clock.elapsed), metrics, health, *sinks], on_failure=metrics.sink_failed
        )
        wired = daemon(settings, parts, telemetry)
        webhooks = WebhookServer(
            channel=parts.channel,
            accept=wired.accept,
            track=wired.track,
            telemetry=telemetry,
            observe_ack=metrics.observe_ack,
            host=settings.server.host,
            port=settings.server.port,
            max_inflight=settings.server.max_inflight,
            header_timeout_seconds=settings.server.header_timeout_seconds,
            body_timeout_seconds=settings.server.body_timeout_seconds,
            reuse_port=settings.server.reuse_port,
            sockets=manager.webhook_sockets,
        )
        metrics.watch(
            requests_in_flight=lambda: webhooks.inflight,
            turns_in_flight=lambda: wired.buffer.running,
            conversations_held=lambda: wired.buffer.held,
        )
        yield Supervisor(
            webhooks=webhooks,
            ops=OpsServer(
                health=health,
                render=metrics.render,
                host=settings.ops.host,
                port=settings.ops.port,
                sockets=manager.ops_sockets,
            ),
            consumers=wired.consumers,
            buffer=wired.buffer,
            health=health,
            progress=wired.progress,
            manager=manager,
            takes_webhooks=role != "worker",
            drain_seconds=settings.server.drain_seconds,
            watchdog_seconds=settings.watchdog_seconds,
        )


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[DynamoStore]:
    """The table alone, for commands that look at conversations or change them."""
    async with AsyncExitStack() as stack:
        yield DynamoStore(await _client(stack, settings, "dynamodb"), _layout(settings))


@asynccontextmanager
async def table_scan(settings: Settings) -> AsyncIterator[TableScan]:
    """The table as a whole, for commands that look for what has no key."""
    async with AsyncExitStack() as stack:
        yield TableScan(await _client(stack, settings, "dynamodb"), _layout(settings))


@asynccontextmanager
async def dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    async with AsyncExitStack() as stack:
        yield DeadLetters(await _client(stack, settings, "sqs"))


@asynccontextmanager
async def twilio_channel(settings: Settings) -> AsyncIterator[TwilioChannel]:
    accounts = {
        sid: [token.get_secret_value() for token in tokens]
        for sid, tokens in settings.twilio.accounts.items()
    }
    async with aiohttp.ClientSession() as session:
        yield TwilioChannel(
            session,
            accounts=accounts,
            public_url=settings.server.public_url,
            base_url=settings.twilio.base_url,
            timeout_seconds=settings.twilio.timeout_seconds,
        )


@asynccontextmanager
async def openai_model(settings: Settings) -> AsyncIterator[openai.OpenAIResponses]:
    ai = settings.ai
    model = openai.OpenAIResponses(
        openai.create_client(
            # Servers of one's own often take no key; the SDK wants one.
            ai.api_key.get_secret_value() or "none",
            base_url=ai.base_url,
            timeout_seconds=ai.timeout_seconds,
        ),
        model=ai.model,
        instructions=ai.instructions,
        max_output_tokens=ai.max_output_tokens,
        timeout_seconds=ai.timeout_seconds,
    )
    try:
        yield model
    finally:
        await model.close()


async def _client(stack: AsyncExitStack, settings: Settings, service: str) -> Any:
    return await stack.enter_async_context(
        aws.create_client(service, region=settings.aws.region or None)
    )


def _layout(settings: Settings) -> TableLayout:
    c = settings.conversations
    return TableLayout(c.table, c.partition_key, c.sort_key, c.lookup_index, c.lookup_key)


def policies(settings: Settings) -> tuple[WindowPolicy, TurnPolicy]:
    """By which workers with these settings decide."""
    return _window(settings), _policy(settings)


def body_codec(settings: Settings) -> BodyCodec:
    """Of the bodies on both queues."""
    return BodyCodec(settings.conversations.partition_key, settings.conversations.sort_key)


def _window(settings: Settings) -> WindowPolicy:
    window = settings.window
    return WindowPolicy(
        quiet_ms=_ms(window.quiet_seconds),
        max_wait_ms=_ms(window.max_wait_seconds),
        max_messages=window.max_messages,
    )


def _policy(settings: Settings) -> TurnPolicy:
    turn = settings.turn
    return TurnPolicy(
        lease_ms=_ms(turn.lease_seconds),
        skew_ms=_ms(turn.clock_skew_seconds),
        max_attempts=turn.max_attempts,
        give_up_ms=_ms(turn.give_up_after_seconds),
        max_restarts=settings.window.max_restarts,
        on_ambiguous=turn.on_ambiguous,
        apology=bool(turn.apology_text),
    )


def _new_key(settings: Settings, customer: str, conversation_id: str) -> ConversationKey:
    """Where a conversation that replyd starts is put. A table that is looked up by an index is
    taken to be keyed by the conversation."""
    c = settings.conversations
    if c.lookup_index:
        return ConversationKey(conversation_id, customer if c.sort_key else "")
    return ConversationKey(customer, conversation_id if c.sort_key else "")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
