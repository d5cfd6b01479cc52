"""`replyd check`: whether everything that replyd needs is there, and how to mend what is not."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from replyd.adapters.provisioning import QueueFacts, TableFacts
from replyd.errors import DependencyError, ReplydError
from replyd.provision.requirements import about_queue, about_table
from replyd.settings import Settings

CHECK_SECONDS = 10.0
EXIT_OK, EXIT_DEPENDENCY, EXIT_SETTINGS = 0, 69, 78

# When OpenAI ends a model, as published.
MODEL_ENDS = {
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-5-nano": "2026-12-11",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
    "gpt-4.1": "2027-01-14",
    "gpt-4.1-mini": "2027-01-14",
}
_MEND = {
    "sqs": "check the queue's URL, AWS credentials and region, and AWS_ENDPOINT_URL if it is set",
    "dynamodb": "check conversations.table, AWS credentials and region, and AWS_ENDPOINT_URL if it "
    "is set",
    "openai": "check OPENAI_API_KEY, ai.model and ai.base_url",
    "twilio": "check the account's SID and token in twilio.accounts, and twilio.base_url",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`found` says what is there, `mend` what to do: always when `ok` is false, and as advice when
    it is true. `about_settings`: a failure is one of the settings, not of a dependency."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    about_settings: bool = False


class Inspector(Protocol):
    """`adapters.provisioning.Provisioning`, as far as `check` needs it."""

    async def queue(self, url: str) -> QueueFacts: ...

    async def table(self, name: str) -> TableFacts | None: ...


class CheckedModel(Protocol):
    async def check(self) -> None:
        """Raises DependencyDown or Permanent with a reason that an operator can act on."""
        ...


class CheckedChannel(Protocol):
    async def check_account(self, account_sid: str) -> None:
        """Raises DependencyDown or Permanent with a reason that an operator can act on."""
        ...


async def check(
    settings: Settings,
    *,
    inspector: Inspector,
    model: CheckedModel,
    channel: CheckedChannel,
    timeout: float = CHECK_SECONDS,
) -> list[CheckResult]:
    """All checks at once, each within `timeout` seconds. Sends nothing and changes nothing."""
    queues, guarded = settings.queues, partial(_guarded, timeout)
    asked = partial(_model, model, settings.ai.model)
    dependencies = [
        guarded("replies queue", "sqs", partial(_queue, inspector, queues.replies_url)),
        guarded("handoff queue", "sqs", partial(_queue, inspector, queues.handoff_url)),
        guarded("table", "dynamodb", partial(_table, inspector, settings)),
        # A process that only takes webhooks asks no model, and need not have its key.
        *([] if settings.server.role == "webhook" else [guarded("model", "openai", asked)]),
        *(
            guarded(f"Twilio {sid[:4]}…{sid[-4:]}", "twilio", partial(_account, channel, sid))
            for sid in settings.twilio.accounts
        ),
    ]
    return [settings_result(), _public_url(settings), *await asyncio.gather(*dependencies)]


def settings_result(problems: Sequence[str] = ()) -> CheckResult:
    """The row for the settings themselves; `problems` are a ConfigError's."""
    if problems:
        return CheckResult(
            "settings", False, "\n".join(problems), "mend each of these", about_settings=True
        )
    return CheckResult("settings", True, "valid", about_settings=True)


def exit_code(results: Sequence[CheckResult]) -> int:
    """78 when a setting is wrong, else 69 when a dependency is, else 0."""
    failed = [result for result in results if not result.ok]
    if any(result.about_settings for result in failed):
        return EXIT_SETTINGS
    return EXIT_DEPENDENCY if failed else EXIT_OK


def render(results: Sequence[CheckResult]) -> Table:
    table = Table("", "check", "found", "how to mend it", box=None, pad_edge=False)
    for result in results:
        mark = ("✗", "red") if not result.ok else ("!", "yellow") if result.mend else ("✓", "green")
        table.add_row(Text(*mark), result.name, Text(result.found), Text(result.mend))
    return table


async def _guarded(
    timeout: float,
    name: str,
    dependency: str,
    finding: Callable[[], Awaitable[tuple[bool, str, str]]],
) -> CheckResult:
    """`finding` gives what follows the name in a CheckResult."""
    try:
        async with asyncio.timeout(timeout):
            return CheckResult(name, *await finding())
    except TimeoutError:
        return CheckResult(name, False, f"no answer within {timeout:g} s", _MEND[dependency])
    except DependencyError as error:
        shown = error.reason + (f" ({error.code})" if error.code not in error.reason else "")
        return CheckResult(name, False, shown, _MEND[dependency])
    except ReplydError as error:
        return CheckResult(name, False, str(error), _MEND[dependency])


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
    return True, f"active, {' + '.join(filter(None, (facts.partition_key, facts.sort_key)))}", ""


async def _model(model: CheckedModel, name: str) -> tuple[bool, str, str]:
    await model.check()
    ends = MODEL_ENDS.get(name)
    advice = f"OpenAI ends {name} on {ends}: choose another ai.model before" if ends else ""
    return True, f"{name} answers", advice


async def _account(channel: CheckedChannel, account_sid: str) -> tuple[bool, str, str]:
    await channel.check_account(account_sid)
    return True, "credentials are valid", ""


def _public_url(settings: Settings) -> CheckResult:
    url = settings.server.public_url
    advice = ""
    if urlsplit(url).scheme != "https":
        advice = "messages travel unencrypted: use https unless this is a test"
    elif urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}:
        advice = "Twilio cannot reach this address: use the public one unless this is a test"
    return CheckResult("public URL", True, url, advice, about_settings=True)
