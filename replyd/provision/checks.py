"""`replyd check`: whether everything that replyd needs is there, and how to mend what is not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from replyd.adapters.provisioning import QueueFacts, TableFacts
from replyd.domain import record
from replyd.errors import DependencyError
from replyd.ports import WholeTable
from replyd.provision.ai_checks import (
    CheckedModel,
    OpenTools,
    about_models,
    about_prices,
    about_tools,
    about_voice,
)
from replyd.provision.assignments import about_assignments, knows_assistants
from replyd.provision.requirements import about_queue, about_table
from replyd.provision.results import CheckResult, Failure, outcome, settings_result
from replyd.provision.twilio_checks import CheckedNumbers, about_webhooks
from replyd.settings import Settings

CHECK_SECONDS = 10.0

_MEND = {
    "sqs": "check the queue's URL, AWS credentials and region, and AWS_ENDPOINT_URL if it is set",
    "dynamodb": "check conversations.table, AWS credentials and region, and AWS_ENDPOINT_URL if it "
    "is set",
    "twilio": "check the account's SID and token, in twilio.accounts or in its secret, and "
    "twilio.base_url",
}


class Inspector(Protocol):
    """`adapters.provisioning.Provisioning`, as far as `check` needs it."""

    async def queue(self, url: str) -> QueueFacts: ...

    async def table(self, name: str) -> TableFacts | None: ...

    async def ttl_attribute(self, name: str) -> str: ...


class CheckedChannel(Protocol):
    async def check_account(self, account_sid: str) -> None:
        """Raises DependencyDown or Permanent with a reason that an operator can act on."""
        ...


async def check(
    settings: Settings,
    *,
    inspector: Inspector,
    models: Mapping[str, CheckedModel],
    channel: CheckedChannel,
    open_tools: OpenTools,
    table: WholeTable,
    numbers: CheckedNumbers | None = None,
    assistants: bool = False,
    timeout: float = CHECK_SECONDS,
) -> list[CheckResult]:
    """All checks at once, each within `timeout` seconds. Sends nothing and changes nothing.

    `models`: by profile, "" for the default one. `numbers`: those of Twilio's accounts, whose
    webhooks are not looked at without it. `assistants`: read the table for what its conversations
    name even where the settings speak of no assistants."""
    queues, guarded = settings.queues, partial(_guarded, timeout)
    own = [
        guarded("replies queue", "sqs", partial(_queue, inspector, queues.replies_url)),
        guarded("handoff queue", "sqs", partial(_queue, inspector, queues.handoff_url)),
        guarded("table", "dynamodb", partial(_table, inspector, settings)),
    ]
    accounts = [
        guarded(f"Twilio {sid[:4]}…{sid[-4:]}", "twilio", partial(_account, channel, sid))
        for sid in (*settings.twilio.accounts, *settings.twilio.account_sids)
    ]
    # A process that only takes webhooks asks no model, and need not have its key.
    answers = settings.server.role != "webhook"
    scans = assistants or (answers and knows_assistants(settings.ai))
    there, ai, named, vendors, webhooks = await asyncio.gather(
        asyncio.gather(*own),
        _ai(settings, models, open_tools, timeout) if answers else _nothing(),
        about_assignments(settings.ai, table, timeout) if scans else _nothing(),
        asyncio.gather(*accounts),
        about_webhooks(settings, numbers, timeout) if numbers is not None else _nothing(),
    )
    rows = (*there, *ai, *named, *vendors, *webhooks)
    return [settings_result(), *about_addresses(settings), *rows]


async def _ai(
    settings: Settings, models: Mapping[str, CheckedModel], open_tools: OpenTools, timeout: float
) -> list[CheckResult]:
    return [
        *await about_models(settings, models, timeout),
        *about_voice(settings),
        await about_tools(settings, open_tools),
        *about_prices(settings),
    ]


async def _nothing() -> list[CheckResult]:
    return []


async def _guarded(
    timeout: float,
    name: str,
    dependency: str,
    finding: Callable[[], Awaitable[tuple[bool, str, str]]],
) -> CheckResult:
    """`finding` gives what follows the name in a CheckResult."""
    found = await outcome(timeout, finding)
    if isinstance(found, Failure):
        return CheckResult(name, False, found.reason, _MEND[dependency])
    return CheckResult(name, *found)


async def _queue(inspector: Inspector, url: str) -> tuple[bool, str, str]:
    facts = await inspector.queue(url)
    if problems := list(about_queue(facts)):
        return False, "reachable", "; ".join(f"it {problem}" for problem in problems)
    return True, f"reachable, redrive after {facts.max_receives} receives", ""


async def _table(inspector: Inspector, settings: Settings) -> tuple[bool, str, str]:
    wanted = settings.conversations
    facts = await inspector.table(wanted.table)
    if facts is None:
        return False, "does not exist", "`replyd init` makes it; check the region too"
    if facts.status not in {"ACTIVE", "UPDATING"}:
        return False, f"its status is {facts.status.lower()}", "wait until it is active"
    if problems := list(about_table(facts, wanted)):
        return False, "reachable", "; ".join(f"it {problem}" for problem in problems)
    found = f"active, {' + '.join(filter(None, (facts.partition_key, facts.sort_key)))}"
    return True, found, await _about_retention(inspector, settings)


async def _about_retention(inspector: Inspector, settings: Settings) -> str:
    """Advice where the settings want things to expire, and they will not."""
    wanted = settings.retention
    if not (wanted.record_days or wanted.archive_days):
        return ""
    try:
        attribute = await inspector.ttl_attribute(settings.conversations.table)
    except DependencyError as error:
        return f"whether [retention] takes effect cannot be read: {error.reason}"
    if attribute == record.EXPIRES_AT:
        return ""
    instead = f' on "{attribute}" instead' if attribute else ""
    return (
        f'[retention] has no effect: enable its time to live on "{record.EXPIRES_AT}"'
        f"{instead and f', it is{instead}'}"
    )


async def _account(channel: CheckedChannel, account_sid: str) -> tuple[bool, str, str]:
    await channel.check_account(account_sid)
    return True, "credentials are valid", ""


def about_addresses(settings: Settings) -> list[CheckResult]:
    return [_public_url(settings), *_ops_port(settings)]


def _public_url(settings: Settings) -> CheckResult:
    url = settings.server.public_url
    advice = ""
    if urlsplit(url).scheme != "https":
        advice = "messages travel unencrypted: use https unless this is a test"
    elif urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}:
        advice = "Twilio cannot reach this address: use the public one unless this is a test"
    return CheckResult("public URL", True, url, advice, about_settings=True)


def _ops_port(settings: Settings) -> list[CheckResult]:
    """Nothing where only this machine can ask."""
    ops = settings.ops
    if ops.host == "localhost" or _is_loopback(ops.host):
        return []
    advice = "whoever reaches it reads metrics and health: let only your own network in"
    if ops.token.get_secret_value():
        advice = (
            "ops.token and customers' texts travel unencrypted: put TLS ahead of it, or let only "
            "this machine in (ops.host 127.0.0.1)"
        )
    found = f"{ops.host}, which others can reach"
    return [CheckResult("operations port", True, found, advice, about_settings=True)]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
