"""The webhook settings of an account's numbers: WhatsApp senders, and numbers for SMS.

Senders: https://www.twilio.com/docs/whatsapp/api/senders, a public beta. Numbers:
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource. A Messaging Service
decides for its numbers unless it defers to them:
https://www.twilio.com/docs/messaging/api/service-resource.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from replyd.adapters.twilio import failures
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.exchange import Answer, Exchange, Form
from replyd.adapters.twilio.typing import MESSAGING_URL
from replyd.domain import address
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary

MAX_NUMBERS = 100
# Each that decides for its numbers costs two requests more.
MAX_SERVICES = 10

_SID = re.compile(r"(?:XE|PN|MG)[0-9a-fA-F]{32}")
# What a sender's webhook has: an update is sent whole, as nothing says whether one that leaves
# fields out would keep them.
_SENDER_FIELDS = (
    *("callback_url", "callback_method", "fallback_url", "fallback_method"),
    *("status_callback_url", "status_callback_method"),
)

_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Webhook:
    """`url` and `fallback_url` are empty when there is none."""

    url: str
    method: str
    fallback_url: str


@dataclass(frozen=True, slots=True)
class Number:
    """`address`: `whatsapp:+44…` for a WhatsApp sender, `+44…` for SMS. `own`: its settings, which
    do not count where `decided_by` names something; `decided`: that one's, where they are known.
    `fields`: all of a sender's, as Twilio has them."""

    account_sid: str
    sid: str
    address: str
    own: Webhook
    decided_by: str = ""
    decided: Webhook | None = None
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def webhook(self) -> Webhook | None:
        """What Twilio calls; None when that is not known."""
        return self.decided if self.decided_by else self.own

    @property
    def is_whatsapp(self) -> bool:
        return self.address.startswith(address.WHATSAPP_PREFIX)


@dataclass(frozen=True, slots=True)
class Found:
    """`unread`: what could not be read and why, one sentence each. `more`: there are numbers, or
    services, beyond those that are read at most."""

    numbers: tuple[Number, ...]
    unread: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: Sequence[_Row] = ()
    more: bool = False
    problem: str = ""


class TwilioNumbers:
    """For any number of accounts, on one pooled session that the caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        accounts: Accounts,
        *,
        base_url: str = "",
        timeout_seconds: float = 10.0,
    ) -> None:
        """`base_url`: takes the place of both of Twilio's hosts, empty for those.
        `timeout_seconds`: for a `read` with all its requests, and for a `lead`."""
        self._api = Exchange(session, accounts, base_url)
        self._messaging = Exchange(session, accounts, base_url or MESSAGING_URL)
        self._timeout = timeout_seconds

    async def read(self, account_sid: str) -> Found:
        """Up to MAX_NUMBERS numbers that take messages, WhatsApp senders first. Never raises:
        credentials that may read one list need not be allowed the others."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        page = f"PageSize={MAX_NUMBERS}"
        numbers = f"{_numbers_path(account_sid)}.json?{page}"
        listed = await asyncio.gather(
            self._list(
                *("WhatsApp senders", self._messaging, "senders", account_sid, deadline),
                f"/v2/Channels/Senders?Channel=whatsapp&{page}",
            ),
            self._list(
                *("numbers for SMS", self._api, "incoming_phone_numbers", account_sid, deadline),
                numbers,
            ),
            self._list(
                *("Messaging Services", self._messaging, "services", account_sid, deadline),
                f"/v1/Services?{page}",
            ),
        )
        senders, phones, services = listed
        decides = [
            row for row in services.rows if row.get("use_inbound_webhook_on_number") is not True
        ]
        looked_at = decides[:MAX_SERVICES]
        members = await asyncio.gather(
            *(self._members(row, account_sid, deadline) for row in looked_at)
        )
        by = {name: row for row, (own, _) in zip(looked_at, members, strict=True) for name in own}
        found = [
            *(_sender(row, account_sid) for row in senders.rows),
            *(_phone(row, account_sid) for row in phones.rows if _takes_sms(row)),
        ]
        problems = [p for _, unread in members for p in unread]
        return Found(
            tuple(_decided(number, by) for number in found[:MAX_NUMBERS]),
            tuple(dict.fromkeys(p for p in (*(rows.problem for rows in listed), *problems) if p)),
            more=any(rows.more for rows in listed)
            or len(found) > MAX_NUMBERS
            or len(decides) > MAX_SERVICES,
        )

    async def lead(self, number: Number, url: str) -> None:
        """Have messages to the number posted to `url`. Changes nothing else of it, and is safe to
        repeat.

        Raises Temporary, Busy or DependencyDown, also when it may have been done, and Permanent
        for a refusal. Not retried."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        if number.is_whatsapp:
            webhook = {**number.fields, "callback_url": url, "callback_method": "POST"}
            # aiohttp sends a payload as it is, with its own content type.
            json = aiohttp.JsonPayload({"webhook": webhook})
            target = f"/v2/Channels/Senders/{number.sid}"
            await _call(self._messaging, "POST", target, number.account_sid, deadline, json)
            return
        form = {"SmsUrl": url, "SmsMethod": "POST"}
        target = f"{_numbers_path(number.account_sid)}/{number.sid}.json"
        await _call(self._api, "POST", target, number.account_sid, deadline, form)

    async def _members(
        self, service: _Row, account_sid: str, deadline: float
    ) -> tuple[list[str], list[str]]:
        """The addresses that a service decides for, and what could not be read of them."""
        path, page = f"/v1/Services/{service['sid']}", f"PageSize={MAX_NUMBERS}"
        about = ("numbers of Messaging Services", self._messaging)
        senders, phones = await asyncio.gather(
            self._list(*about, "senders", account_sid, deadline, f"{path}/ChannelSenders?{page}"),
            self._list(
                *about, "phone_numbers", account_sid, deadline, f"{path}/PhoneNumbers?{page}"
            ),
        )
        found = [_text(row, "sender") for row in senders.rows]
        found += [_text(row, "phone_number") for row in phones.rows]
        return found, [rows.problem for rows in (senders, phones) if rows.problem]

    async def _list(
        self,
        what: str,
        exchange: Exchange,
        key: str,
        account_sid: str,
        deadline: float,
        target: str,
    ) -> _Rows:
        """One page."""
        try:
            body = await _call(exchange, "GET", target, account_sid, deadline)
        except DependencyError as error:
            return _Rows(problem=f"{what}: {error.reason}")
        rows = body.get(key)
        if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
            return _Rows(problem=f"{what}: the answer cannot be read, it is no list of them")
        meta = body.get("meta")
        following = meta.get("next_page_url") if isinstance(meta, Mapping) else None
        return _Rows(rows, bool(following or body.get("next_page_uri")))


@asynccontextmanager
async def open_numbers(
    accounts: Accounts, *, base_url: str, timeout_seconds: float
) -> AsyncIterator[TwilioNumbers]:
    async with aiohttp.ClientSession() as session:
        yield TwilioNumbers(session, accounts, base_url=base_url, timeout_seconds=timeout_seconds)


async def _call(
    exchange: Exchange,
    method: str,
    target: str,
    account_sid: str,
    deadline: float,
    form: Form = None,
) -> _Row:
    try:
        answer = await exchange.call(method, target, account_sid, form=form, deadline=deadline)
    except Ambiguous as error:
        # A value that was set may be set once more.
        failure: DependencyError = Temporary(failures.NAME, error.reason, code=error.code)
    else:
        if 200 <= answer.status < 300:
            return answer.body
        failure = _failure(answer)
    raise failure


def _failure(answer: Answer) -> DependencyError:
    if answer.status == 403:
        code = str(answer.code or "http_403")
        return Permanent(failures.NAME, f"the credentials may not do this ({code})", code=code)
    return failures.from_read(answer.status, answer.code, answer.delay)


def _numbers_path(account_sid: str) -> str:
    return f"/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers"


def _sender(row: _Row, account_sid: str) -> Number:
    webhook = row.get("webhook")
    given = webhook if isinstance(webhook, Mapping) else {}
    fields = {name: value for name in _SENDER_FIELDS if (value := _text(given, name))}
    own = Webhook(
        fields.get("callback_url", ""),
        fields.get("callback_method", "POST"),
        fields.get("fallback_url", ""),
    )
    return Number(account_sid, row["sid"], _text(row, "sender_id"), own, fields=fields)


def _phone(row: _Row, account_sid: str) -> Number:
    own = Webhook(
        _text(row, "sms_url"), _text(row, "sms_method") or "POST", _text(row, "sms_fallback_url")
    )
    application = _text(row, "sms_application_sid")
    decided_by = f"application {application}" if application else ""
    return Number(account_sid, row["sid"], _text(row, "phone_number"), own, decided_by)


def _takes_sms(row: _Row) -> bool:
    capabilities = row.get("capabilities")
    return not isinstance(capabilities, Mapping) or capabilities.get("sms") is not False


def _decided(number: Number, services: Mapping[str, _Row]) -> Number:
    row = services.get(number.address)
    if row is None:
        return number
    webhook = Webhook(
        _text(row, "inbound_request_url"),
        _text(row, "inbound_method") or "POST",
        _text(row, "fallback_url"),
    )
    return replace(number, decided_by=f"Messaging Service {row['sid']}", decided=webhook)


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping) and _SID.fullmatch(_text(row, "sid")) is not None


def _text(row: _Row, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
