"""What a command works on, by its arguments: the settings, and what they open.

Each function imports what only it needs, so that the other commands start fast.
"""

import argparse
import os
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from replyd.errors import ConfigError
from replyd.operate.arguments import HANDOFF, REPLIES

if TYPE_CHECKING:
    from replyd.adapters.twilio.accounts import Accounts
    from replyd.adapters.twilio.numbers import TwilioNumbers
    from replyd.flows.desk import Desk
    from replyd.flows.forget import Reach
    from replyd.operate.dlq import Morgue
    from replyd.operate.people import Counter
    from replyd.operate.twilio import TwilioSide
    from replyd.provision import CheckResult
    from replyd.settings import Settings
    from replyd.settings.references import Found


def read_settings(arguments: argparse.Namespace, *, require_serving: bool = True) -> "Settings":
    """Of the file, the environment and the command line. Raises ConfigError; `require_serving`:
    also when `serve` would miss something."""
    from replyd.settings import load

    settings = load(
        arguments.config,
        os.environ,
        dict(arguments.set),
        require_serving=require_serving,
        look_up=_look_up,
    )
    if require_serving:
        from replyd.bootstrap.traces import require_traces

        require_traces(settings)
    return settings


def _look_up(names: Collection[str], region: str) -> "Found":
    from replyd.bootstrap.secrets import look_up

    return look_up(names, region)


async def checks(settings: "Settings", *, assistants: bool) -> "list[CheckResult]":
    """What `replyd check` finds. `assistants`: in what conversations name, too, which reads the
    whole table."""
    from replyd import provision
    from replyd.adapters.provisioning import open_provisioning
    from replyd.adapters.system import SystemClock
    from replyd.bootstrap.ai import ai_parts
    from replyd.bootstrap.connections import table_scan, twilio_accounts, twilio_channel
    from replyd.bootstrap.tools import toolbox
    from replyd.telemetry import Fanout

    async with AsyncExitStack() as stack:
        ai = await stack.enter_async_context(ai_parts(settings, SystemClock(), Fanout([])))
        accounts = await stack.enter_async_context(twilio_accounts(settings))
        return await provision.check(
            settings,
            inspector=await stack.enter_async_context(
                open_provisioning(settings.aws.region or None)
            ),
            models=ai.models,
            channel=await stack.enter_async_context(twilio_channel(settings, accounts)),
            numbers=await stack.enter_async_context(_numbers(settings, accounts)),
            open_tools=partial(toolbox, settings),
            table=await stack.enter_async_context(table_scan(settings)),
            assistants=assistants,
        )


@asynccontextmanager
async def desk(arguments: argparse.Namespace) -> AsyncIterator["Desk"]:
    """For `conversation show` and `explain`."""
    from replyd.bootstrap import operators

    settings = read_settings(arguments, require_serving=False)
    _require(settings, "conversations.table")
    async with operators.desk(settings) as opened:
        yield opened


@asynccontextmanager
async def counter(arguments: argparse.Namespace) -> AsyncIterator["Counter"]:
    """For what a person does in a conversation."""
    from replyd.bootstrap import operators
    from replyd.operate.people import Counter
    from replyd.telemetry import Fanout, logs
    from replyd.telemetry.logs import LogSink

    settings = read_settings(arguments, require_serving=False)
    # Twilio has to know where its reports on a reply go.
    _require(
        settings, "conversations.table", *(["server.public_url"] if "text" in arguments else [])
    )
    logs.configure(settings.logging.level, settings.logging.format)
    telemetry = Fanout([LogSink()])
    async with operators.desk(settings) as opened, operators.people(settings, telemetry) as people:
        yield Counter(people, opened)


@asynccontextmanager
async def reach(arguments: argparse.Namespace) -> AsyncIterator["Reach"]:
    """For `forget`."""
    from replyd.bootstrap import erasure

    settings = read_settings(arguments, require_serving=False)
    sids = (*settings.twilio.accounts, *settings.twilio.account_sids)
    _require(settings, "conversations.table", *(() if sids else ("twilio.accounts",)))
    async with erasure.reach(settings) as opened:
        yield opened


@asynccontextmanager
async def morgue(arguments: argparse.Namespace) -> AsyncIterator["Morgue"]:
    """For `dlq`."""
    from replyd.adapters.system import SystemClock
    from replyd.bootstrap.connections import dead_letters
    from replyd.bootstrap.policies import body_codec
    from replyd.operate.dlq import Morgue

    settings = read_settings(arguments, require_serving=False)
    _require(settings, "queues.replies_url", "queues.handoff_url")
    urls = {
        REPLIES: settings.queues.replies_url,
        HANDOFF: settings.queues.handoff_url,
    }
    async with dead_letters(settings) as queues:
        yield Morgue(queues, urls, body_codec(settings), SystemClock().now)


@asynccontextmanager
async def twilio_side(arguments: argparse.Namespace) -> AsyncIterator["TwilioSide"]:
    """For `twilio`."""
    from replyd.bootstrap.connections import twilio_accounts
    from replyd.operate.twilio import TwilioSide
    from replyd.runtime.webhook_server import INBOUND_PATH

    settings = read_settings(arguments, require_serving=False)
    sids = (*settings.twilio.accounts, *settings.twilio.account_sids)
    _require(settings, "server.public_url", *(() if sids else ("twilio.accounts",)))
    async with (
        twilio_accounts(settings) as accounts,
        _numbers(settings, accounts) as numbers,
    ):
        target = settings.server.public_url.rstrip("/") + INBOUND_PATH
        yield TwilioSide(numbers, sids, target)


def _numbers(
    settings: "Settings", accounts: "Accounts"
) -> "AbstractAsyncContextManager[TwilioNumbers]":
    from replyd.adapters.twilio.numbers import open_numbers

    s = settings.twilio
    return open_numbers(accounts, base_url=s.base_url, timeout_seconds=s.timeout_seconds)


def _require(settings: "Settings", *names: str) -> None:
    missing = [n for n in names if not attrgetter(n)(settings)]
    if missing:
        raise ConfigError([f"{n} is missing: set it as for `replyd serve`" for n in missing])
