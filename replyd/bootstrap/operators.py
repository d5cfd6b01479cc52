"""What operators and people work with: the commands, and the operator API."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from replyd.adapters.dynamodb import DynamoStore
from replyd.adapters.sqs import SqsHandoffs, SqsWakeups
from replyd.adapters.system import SystemClock, SystemIds
from replyd.adapters.table_scan import TableScan
from replyd.bootstrap.ai import ai_parts
from replyd.bootstrap.connections import (
    aws_client,
    table_layout,
    twilio_channel,
)
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.policies import policies
from replyd.bootstrap.wiring import daemon
from replyd.flows.desk import Desk
from replyd.flows.person import People
from replyd.ports import Telemetry
from replyd.runtime.operator_api import OperatorApi
from replyd.settings import Settings


@asynccontextmanager
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """For commands that look at conversations."""
    async with AsyncExitStack() as stack:
        dynamodb = await aws_client(stack, settings, "dynamodb")
        yield await _desk(stack, settings, DynamoStore(dynamodb, table_layout(settings)))


@asynccontextmanager
async def people(settings: Settings, telemetry: Telemetry) -> AsyncIterator[People]:
    """For commands that act as a person: the parts of a daemon that runs no turns."""
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        dynamodb = await aws_client(stack, settings, "dynamodb")
        sqs = await aws_client(stack, settings, "sqs")
        models = await stack.enter_async_context(ai_parts(settings, clock, telemetry))
        parts = Parts(
            store=DynamoStore(dynamodb, table_layout(settings)),
            wakeups=SqsWakeups(
                sqs,
                sqs,
                settings.queues.replies_url,
                wait_seconds=settings.queues.wait_seconds,
                visibility_seconds=settings.visibility_seconds,
            ),
            handoffs=SqsHandoffs(sqs, settings.queues.handoff_url),
            model=models.router,
            channel=await stack.enter_async_context(twilio_channel(settings)),
            clock=clock,
            ids=SystemIds(),
            owner=f"{socket.gethostname()}-{os.getpid()}",
        )
        yield daemon(settings, parts, telemetry).people


async def operator_api(
    stack: AsyncExitStack, settings: Settings, store: DynamoStore, acting: People
) -> OperatorApi | None:
    """None where the settings have no token for it."""
    if not (token := settings.ops.token.get_secret_value()):
        return None
    return OperatorApi(token=token, people=acting, desk=await _desk(stack, settings, store))


async def _desk(stack: AsyncExitStack, settings: Settings, store: DynamoStore) -> Desk:
    window, policy = policies(settings)
    # A client of its own: who reads the table must not keep turns waiting for a connection.
    client = await aws_client(stack, settings, "dynamodb")
    return Desk(
        store=store,
        table=TableScan(client, table_layout(settings)),
        now=SystemClock().now,
        window=window,
        policy=policy,
        grace_ms=round(settings.grace_seconds * 1000),
        address_attribute=settings.conversations.address_attribute,
    )
