"""Clients of AWS and Twilio, by the settings."""

from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from typing import Any

import aiohttp

from replyd.adapters import aws
from replyd.adapters.dead_letters import DeadLetters
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.secretsmanager import open_secrets
from replyd.adapters.table_scan import TableScan
from replyd.adapters.twilio import TwilioChannel
from replyd.adapters.twilio.accounts import Accounts
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
async def twilio_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """All of them; tokens in secrets are looked up when they are first used."""
    twilio = settings.twilio
    tokens = {sid: [t.get_secret_value() for t in own] for sid, own in twilio.accounts.items()}
    async with AsyncExitStack() as stack:
        secrets = None
        if twilio.account_sids:
            region = settings.aws.region or None
            secrets = await stack.enter_async_context(open_secrets(region))
        accounts = Accounts(
            tokens,
            secrets=secrets,
            secret_names={sid: twilio.secret_of(sid) for sid in twilio.account_sids},
            refresh_seconds=twilio.secret_refresh_seconds,
        )
        stack.push_async_callback(accounts.close)
        yield accounts


@asynccontextmanager
async def twilio_channel(
    settings: Settings, accounts: Accounts | None = None
) -> AsyncIterator[TwilioChannel]:
    """`accounts`: those of others, so that a token is looked up once for all."""
    async with _own(settings, accounts) as known, aiohttp.ClientSession() as session:
        yield TwilioChannel(
            session,
            accounts=known,
            public_url=settings.server.public_url,
            base_url=settings.twilio.base_url,
            timeout_seconds=settings.twilio.timeout_seconds,
            messaging_services=settings.twilio.messaging_services,
        )


def _own(settings: Settings, accounts: Accounts | None) -> AbstractAsyncContextManager[Accounts]:
    return twilio_accounts(settings) if accounts is None else nullcontext(accounts)


async def aws_client(
    stack: AsyncExitStack, settings: Settings, service: str, session: aws.Session | None = None
) -> Any:
    """`session`: that of other clients, so that credentials are looked up once for all."""
    return await stack.enter_async_context(
        aws.create_client(
            service,
            region=settings.aws.region or None,
            direct=settings.aws.direct,
            session=session,
        )
    )


def table_layout(settings: Settings) -> TableLayout:
    c = settings.conversations
    return TableLayout(c.table, c.partition_key, c.sort_key, c.lookup_index, c.lookup_key)


@asynccontextmanager
async def twilio_media(
    settings: Settings, max_bytes: int, accounts: Accounts | None = None
) -> AsyncIterator[TwilioMedia]:
    """Customers' files of at most so many bytes. `accounts`: as of `twilio_channel`."""
    async with (
        _own(settings, accounts) as known,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield TwilioMedia(
            session,
            accounts=known,
            base_url=settings.twilio.base_url,
            media_hosts=(*MEDIA_HOSTS, *settings.twilio.media_urls),
            max_bytes=max_bytes,
            timeout_seconds=settings.media.timeout_seconds,
        )
