"""A whole process: every real part, wired and watched."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from replyd import __version__
from replyd.adapters import aws
from replyd.adapters.dynamodb import DynamoStore
from replyd.adapters.queue_depths import SqsDepths
from replyd.adapters.sqs import SqsHandoffs, SqsWakeups
from replyd.adapters.system import SystemClock, SystemIds
from replyd.bootstrap.ai import AiParts, ai_parts
from replyd.bootstrap.connections import (
    aws_client,
    table_layout,
    twilio_accounts,
    twilio_channel,
    twilio_media,
)
from replyd.bootstrap.operators import operator_api
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.tools import toolbox
from replyd.bootstrap.traces import tracing
from replyd.bootstrap.wiring import daemon
from replyd.errors import ConfigError
from replyd.ports import Telemetry
from replyd.runtime.health import Health
from replyd.runtime.ops_server import OpsServer
from replyd.runtime.progress import Progress
from replyd.runtime.queue_depths import QueueDepths
from replyd.runtime.supervisor import Supervisor
from replyd.runtime.systemd import ServiceManager
from replyd.runtime.webhook_server import WebhookServer
from replyd.settings import Settings
from replyd.telemetry import Fanout
from replyd.telemetry.logs import LogSink
from replyd.telemetry.metrics import MetricsSink

# Above the long poll, so that an empty answer is not taken for a failure.
_POLL_MARGIN_SECONDS = 5.0


@asynccontextmanager
async def supervisor(
    settings: Settings,
    *,
    sinks: Sequence[Telemetry] = (),
    manager: ServiceManager = ServiceManager(),  # noqa: B008 - frozen
    loaded: Callable[[], None] = lambda: None,
) -> AsyncIterator[Supervisor]:
    """The whole process, ready to run. `sinks` get every event, beside log and metrics. `loaded` is
    called when everything is that a running process needs, which is later than ready. Raises
    ConfigError for a socket of `manager` that the role has no use for."""
    role = settings.server.role
    if role == "worker" and manager.webhook_sockets:
        raise ConfigError(
            ['server.role is "worker" and systemd hands over a socket for webhooks: disable it']
        )
    async with AsyncExitStack() as stack:
        clock, owner = SystemClock(), f"{socket.gethostname()}-{os.getpid()}"
        session = aws.create_session()
        dynamodb = await aws_client(stack, settings, "dynamodb", session)
        store = DynamoStore(dynamodb, table_layout(settings))
        sqs = await aws_client(stack, settings, "sqs", session)
        wakeups = SqsWakeups(
            sqs,
            await stack.enter_async_context(
                aws.create_client(
                    "sqs",
                    region=settings.aws.region or None,
                    read_timeout=settings.queues.wait_seconds + _POLL_MARGIN_SECONDS,
                    connections=settings.queues.receivers,
                    direct=settings.aws.direct,
                    session=session,
                )
            ),
            settings.queues.replies_url,
            wait_seconds=settings.queues.wait_seconds,
            visibility_seconds=settings.visibility_seconds,
        )
        accounts = await stack.enter_async_context(twilio_accounts(settings))
        health = Health(
            clock,
            {
                "dynamodb": partial(store.get_side, "probe"),
                "sqs": wakeups.probe,
                "secretsmanager": accounts.probe,
            },
        )
        metrics = MetricsSink(
            __version__, tools=settings.tools, profiles=("default", *settings.ai.names())
        )
        telemetry = Fanout(
            [LogSink(clock.elapsed), metrics, health, *sinks], on_failure=metrics.sink_failed
        )
        traces = await stack.enter_async_context(
            tracing(settings, owner, partial(metrics.sink_failed, "traces"))
        )
        models = await stack.enter_async_context(ai_parts(settings, clock, telemetry))
        parts = Parts(
            store=store,
            wakeups=wakeups,
            handoffs=SqsHandoffs(sqs, settings.queues.handoff_url),
            model=models.router,
            channel=await stack.enter_async_context(twilio_channel(settings, accounts)),
            clock=clock,
            ids=SystemIds(),
            owner=owner,
            toolbox=await stack.enter_async_context(toolbox(settings)),
            recordings=await stack.enter_async_context(
                twilio_media(settings, settings.voice.max_bytes, accounts)
            ),
            library=await stack.enter_async_context(
                twilio_media(settings, settings.media.max_bytes, accounts)
            ),
            transcriber=models.transcriber,
            moderator=models.moderator,
        )
        wired = daemon(settings, parts, telemetry, traces)
        webhooks = WebhookServer(
            channel=parts.channel,
            accept=wired.accept,
            track=wired.track,
            telemetry=telemetry,
            observe_ack=metrics.observe_ack,
            refresh=accounts.refresh,
            host=settings.server.host,
            port=settings.server.port,
            max_inflight=settings.server.max_inflight,
            max_connections=settings.server.max_connections,
            header_timeout_seconds=settings.server.header_timeout_seconds,
            body_timeout_seconds=settings.server.body_timeout_seconds,
            reuse_port=settings.server.reuse_port,
            sockets=manager.webhook_sockets,
            tracing=traces,
        )
        metrics.watch(
            requests_in_flight=lambda: webhooks.inflight,
            turns_in_flight=lambda: wired.buffer.running,
            conversations_held=lambda: wired.buffer.held,
            waiting_seconds=lambda: wired.buffer.waiting_seconds,
        )
        yield Supervisor(
            webhooks=webhooks,
            ops=OpsServer(
                health=health,
                render=metrics.render,
                host=settings.ops.host,
                port=settings.ops.port,
                sockets=manager.ops_sockets,
                operators=await operator_api(stack, settings, store, wired.people),
            ),
            consumers=wired.consumers,
            buffer=wired.buffer,
            health=health,
            progress=wired.progress,
            manager=manager,
            takes_webhooks=role != "worker",
            catch_up=wired.catch_up,
            depths=_depths(settings, sqs, telemetry, wired.progress),
            load=partial(_load, models if role != "webhook" else None, loaded),
            drain_seconds=settings.server.drain_seconds,
            watchdog_seconds=settings.watchdog_seconds,
        )


async def _load(models: AiParts | None, loaded: Callable[[], None]) -> None:
    """`models`: None where nobody asks one."""
    if models is not None:
        await models.load()
    loaded()


def _depths(
    settings: Settings, sqs: Any, telemetry: Telemetry, progress: Progress
) -> QueueDepths | None:
    queues = settings.queues
    if not queues.depth_seconds:
        return None
    return QueueDepths(
        queues={
            "replies": SqsDepths(sqs, queues.replies_url),
            "handoff": SqsDepths(sqs, queues.handoff_url),
        },
        interval_seconds=queues.depth_seconds,
        telemetry=telemetry,
        progress=progress,
    )
