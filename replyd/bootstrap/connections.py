"""Clients of AWS and Twilio, by the settings."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from replyd.adapters import aws
from replyd.adapters.dead_letters import DeadLetters
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.table_scan import TableScan
from replyd.adapters.twilio import TwilioChannel
from replyd.adapters.twilio.media import MEDIA_HOSTS, TwilioMedia
from replyd.settings import Settings


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[DynamoStore]:
    """The table alone, for commands that look at conversations or change them."""
    async with AsyncExitStack() as stack:
        yield DynamoStore(await aws_client(stack, settings, "dynamodb"), table_layout(settings))


@asynccontextmanager
async def table_scan(settings: Settings) -> AsyncIterator[TableScan]:
    """The table as a whole, for commands that look for what has no key."""
    async with AsyncExitStack() as stack:
        yield TableScan(await aws_client(stack, settings, "dynamodb"), table_layout(settings))


@asynccontextmanager
async def dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    async with AsyncExitStack() as stack:
        yield DeadLetters(await aws_client(stack, settings, "sqs"))


@asynccontextmanager
async def twilio_channel(settings: Settings) -> AsyncIterator[TwilioChannel]:
    async with aiohttp.ClientSession() as session:
        yield TwilioChannel(
            session,
            accounts=account_tokens(settings),
            public_url=settings.server.public_url,
            base_url=settings.twilio.base_url,
            timeout_seconds=settings.twilio.timeout_seconds,
        )


async def aws_client(stack: AsyncExitStack, settings: Settings, service: str) -> Any:
    return await stack.enter_async_context(
        aws.create_client(service, region=settings.aws.region or None)
    )


def table_layout(settings: Settings) -> TableLayout:
    c = settings.conversations
    return TableLayout(c.table, c.partition_key, c.sort_key, c.lookup_index, c.lookup_key)


def account_tokens(settings: Settings) -> dict[str, list[str]]:
    """By account SID, the one that sends ahead."""
    return {
        sid: [token.get_secret_value() for token in tokens]
        for sid, tokens in settings.twilio.accounts.items()
    }


@asynccontextmanager
async def twilio_media(settings: Settings, max_bytes: int) -> AsyncIterator[TwilioMedia]:
    """Customers' files of at most so many bytes."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield TwilioMedia(
            session,
            accounts=account_tokens(settings),
            base_url=settings.twilio.base_url,
            media_hosts=(*MEDIA_HOSTS, *settings.twilio.media_urls),
            max_bytes=max_bytes,
            timeout_seconds=settings.media.timeout_seconds,
        )
