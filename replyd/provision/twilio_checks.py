"""Where Twilio takes customers' messages: the webhooks of each account's numbers."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Protocol

from replyd.adapters.twilio import webhook_url
from replyd.adapters.twilio.numbers import MAX_NUMBERS, Found, Number, Webhook
from replyd.domain import address
from replyd.provision.results import CheckResult, Failure, outcome
from replyd.runtime.webhook_server import INBOUND_PATH
from replyd.settings import Settings

# Numbers that a row names.
MOST_SHOWN = 10

_CONFIGURE = "`replyd twilio configure` shows what it would change, and changes it with --yes"
_FALLBACK = (
    "a fallback URL on a second host or region takes what this one cannot: set it in the console"
)
_BY_HAND = "look at what could not be read in Twilio's console"


class CheckedNumbers(Protocol):
    """`adapters.twilio.numbers.TwilioNumbers`, as far as `check` needs it."""

    async def read(self, account_sid: str) -> Found: ...


async def about_webhooks(
    settings: Settings, numbers: CheckedNumbers, timeout: float
) -> list[CheckResult]:
    """A row for each account. It fails when it is certain that no number of the account leads
    here, though it has WhatsApp senders; all else is advice: numbers may be somebody else's."""
    target = settings.server.public_url.rstrip("/") + INBOUND_PATH
    sids = (*settings.twilio.accounts, *settings.twilio.account_sids)
    found = await asyncio.gather(*(outcome(timeout, partial(numbers.read, sid)) for sid in sids))
    return [
        _row(f"webhooks of {sid[:4]}…{sid[-4:]}", one, target)
        for sid, one in zip(sids, found, strict=True)
    ]


def _row(name: str, found: Found | Failure, target: str) -> CheckResult:
    if isinstance(found, Failure):
        return CheckResult(name, True, f"not looked at: {found.reason}", _BY_HAND)
    count = len(found.numbers)
    advice = [_BY_HAND] if found.unread else []
    unread = [f"not looked at: {problem}" for problem in found.unread]
    if found.more:
        unread.append(f"not looked at: what goes beyond {MAX_NUMBERS} numbers")
    if not count:
        if not found.unread:
            advice = [f"the WhatsApp sandbox's is set in the console: {target}, POST"]
        return CheckResult(name, True, "\n".join(["no numbers found", *unread]), "; ".join(advice))
    problems = [(n, p) for n in found.numbers if (p := tuple(_problems(n, target)))]
    kinds = {kind for _, of_number in problems for kind, _ in of_number}
    advice = [text for kind, text in _MENDS.items() if kind in kinds] + advice
    lines = [f"{_who(n)}: {', '.join(text for _, text in p)}" for n, p in problems]
    if len(lines) > MOST_SHOWN:
        lines[MOST_SHOWN:] = [f"and {len(lines) - MOST_SHOWN} more"]
    title = f"webhooks of {'1 number' if count == 1 else f'{count} numbers'}"
    title += ":" if problems else ": ok"
    ok = _may_be_fine(found, target)
    return CheckResult(name, ok, "\n".join([title, *lines, *unread]), "; ".join(advice))


_MENDS: Mapping[str, str] = {
    "settings": _CONFIGURE,
    "elsewhere": "for a number that is meant for replyd: `replyd twilio configure --number TEL`",
    "service": "where a Messaging Service or application decides, change it there, or let the "
    'service "defer to sender\'s webhook"',
    "fallback": _FALLBACK,
}


def _problems(number: Number, target: str) -> Iterator[tuple[str, str]]:
    """Who can mend it, a key of `_MENDS`, and what is wrong."""
    webhook, kind = number.webhook, "service" if number.decided_by else "settings"
    if webhook is None:
        yield kind, f"{number.decided_by} decides"
        return
    if webhook_url.leads_to(webhook.fallback_url, target):
        # This is the second host: the first one looks after the rest.
        return
    by = f" by {number.decided_by}" if number.decided_by else ""
    if not webhook.url:
        yield kind, f"no webhook{by}"
        return
    if not webhook_url.leads_to(webhook.url, target):
        if not number.decided_by and not webhook_url.same_host(webhook.url, target):
            kind = "elsewhere"
        yield kind, f"leads to {webhook_url.shown(webhook.url)}{by}"
        return
    if webhook.method != "POST":
        yield kind, f"called with {webhook.method}{by}, not POST"
    if missing := webhook_url.missing_overrides(webhook.url):
        wanted = "&".join(f"{name}={webhook_url.OVERRIDES[name]}" for name in missing)
        yield kind, f"without #{wanted}{by}"
    if not webhook.fallback_url:
        yield "fallback", "no fallback URL"


def _may_be_fine(found: Found, target: str) -> bool:
    if any(n.webhook is None or _leads_here(n.webhook, target) for n in found.numbers):
        return True
    # Without a sender of its own the account may use the sandbox, which no list has.
    return bool(found.unread or found.more) or not any(n.is_whatsapp for n in found.numbers)


def _leads_here(webhook: Webhook, target: str) -> bool:
    is_first = webhook.method == "POST" and webhook_url.leads_to(webhook.url, target)
    return is_first or webhook_url.leads_to(webhook.fallback_url, target)


def _who(number: Number) -> str:
    return f"{address.masked(number.address)} ({'WhatsApp' if number.is_whatsapp else 'SMS'})"
