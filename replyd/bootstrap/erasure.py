"""What erases a customer works with."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from replyd.adapters.dynamodb import DynamoStore
from replyd.adapters.system import SystemClock, SystemIds
from replyd.adapters.table_scan import TableScan
from replyd.adapters.twilio.erasure import open_eraser
from replyd.bootstrap.connections import aws_client, table_layout, twilio_accounts
from replyd.bootstrap.openai import thread_erasers
from replyd.bootstrap.policies import policies, profiles
from replyd.flows.forget import Reach
from replyd.settings import Settings


@asynccontextmanager
async def reach(settings: Settings) -> AsyncIterator[Reach]:
    """For the command that erases a customer."""
    async with AsyncExitStack() as stack:
        dynamodb = await aws_client(stack, settings, "dynamodb")
        accounts = await stack.enter_async_context(twilio_accounts(settings))
        twilio, layout = settings.twilio, table_layout(settings)
        _, policy = policies(settings)
        known = profiles(settings)
        yield Reach(
            store=DynamoStore(dynamodb, layout),
            table=TableScan(dynamodb, layout),
            messages=await stack.enter_async_context(
                open_eraser(
                    accounts, base_url=twilio.base_url, timeout_seconds=twilio.timeout_seconds
                )
            ),
            accounts=tuple(dict.fromkeys((*twilio.accounts, *twilio.account_sids))),
            threads=await stack.enter_async_context(thread_erasers(settings)),
            profile_of=lambda conversation: known.of(conversation).name,
            clock=SystemClock(),
            ids=SystemIds(),
            owner=f"{socket.gethostname()}-{os.getpid()}",
            lease_ms=policy.lease_ms,
            skew_ms=policy.skew_ms,
            address_attribute=settings.conversations.address_attribute,
            key_names=tuple(filter(None, (layout.partition_key, layout.sort_key))),
            profile_attribute=settings.ai.profile_attribute,
            assistant_attribute=settings.ai.assistants.attribute,
        )
