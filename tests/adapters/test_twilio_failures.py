"""The one table of Twilio's errors, and what is made from it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from replyd.adapters.twilio import TwilioChannel, failures
from replyd.adapters.twilio.failures import CODES, KINDS, Kind
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import OutboundPart
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary

ACCOUNT = "AC" + "1" * 32
BUSINESS, OTHER = "+447700900100", "+447700900101"

# https://www.twilio.com/docs/api/errors, and the WhatsApp codes of its channel guides.
PUBLISHED: dict[Kind, set[int]] = {
    failures.RETRY: {63009, 63010, 63012, 63019},
    failures.PAUSE: {20429, 21611, 30001, 63017, 63018},
    failures.RECONCILE: {20500, 20503},
    failures.WINDOW: {63016},
    failures.CONTENT: {
        *(21602, 21609, 21617, 21619, 21620, 21654, 21655, 21656, 21658),
        *(30007, 63005, 63021, 63027, 63028, 63040, 63041, 63042),
    },
    failures.RECIPIENT: {
        *(21211, 21408, 21604, 21610, 21612, 21614, 21910, 30003, 30004, 30005, 30006, 30008),
        *(63003, 63014, 63015, 63024, 63032, 63033),
    },
    failures.SENDER: {21606, 30034, 63001, 63002, 63007, 63020, 63051},
    failures.ACCOUNT: {20003, 20005, 63038},
    failures.OUTAGE: set(),
}
ERRORS: dict[Kind, type[DependencyError]] = {
    failures.RETRY: Temporary,
    failures.PAUSE: Busy,
    failures.RECONCILE: Ambiguous,
    failures.WINDOW: Permanent,
    failures.CONTENT: Permanent,
    failures.RECIPIENT: Permanent,
    failures.SENDER: Permanent,
    failures.ACCOUNT: DependencyDown,
    failures.OUTAGE: DependencyDown,
}


def test_every_code_is_in_the_class_that_it_should_be_in() -> None:
    assert set(PUBLISHED) == set(KINDS)
    found: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
    for code, (kind, _) in CODES.items():
        found[kind].add(code)
    assert found == PUBLISHED


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_refused_send_raises_what_its_class_says(code: int) -> None:
    kind, reason = CODES[code]
    error = failures.from_answer(400, code, 7.0)
    assert type(error) is ERRORS[kind]
    assert error.code == str(code)
    assert error.reason == f"{reason} ({code})"
    assert getattr(error, "delay", 7.0) == 7.0


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_delivery_callback_has_the_same_words(code: int) -> None:
    assert failures.delivery_failure(str(code)) == failures.from_answer(400, code, None).reason


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize("code", [None, 20003, 21211, 63018, 20503])
def test_a_server_error_proves_nothing_whatever_its_code(status: int, code: int | None) -> None:
    assert type(failures.from_answer(status, code, None)) is Ambiguous


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, None, Busy),
        (429, 12345, Busy),
        (401, None, DependencyDown),
        (401, 70051, DependencyDown),
        (403, None, DependencyDown),
        (403, 12345, DependencyDown),
        (400, None, Permanent),
        (400, 12345, Permanent),
        (404, 20404, Permanent),
        (302, None, DependencyDown),
        (304, 63018, DependencyDown),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(
    status: int, code: int | None, kind: type[DependencyError]
) -> None:
    error = failures.from_answer(status, code, None)
    assert type(error) is kind
    assert error.code == (str(code) if code else f"http_{status}")
    assert error.code in error.reason or str(status) in error.reason


def test_an_unknown_code_of_a_callback_leads_to_its_page() -> None:
    link = "https://www.twilio.com/docs/api/errors/12345"
    assert failures.delivery_failure("12345") == f"see {link} (12345)"
    assert link in failures.from_answer(400, 12345, None).reason


@pytest.mark.parametrize("code", ["", "no code", "1234567", "-1", "６３０１８"])
def test_what_is_no_code_means_nothing(code: str) -> None:
    assert failures.delivery_failure(code) == ""
    assert not failures.pauses_sender(code)


def test_only_rate_limits_pause_a_number() -> None:
    pausing = {code for code in CODES if failures.pauses_sender(str(code))}
    assert pausing == PUBLISHED[failures.PAUSE]
    assert not failures.pauses_sender("12345")


def test_the_table_of_the_documentation_is_current() -> None:
    assert failures.ERRORS_FILE.read_text("utf-8") == failures.markdown()


def test_the_documentation_has_every_code_with_what_replyd_does() -> None:
    lines = failures.markdown().splitlines()
    for code, (kind, reason) in CODES.items():
        (line,) = (each for each in lines if each.startswith(f"| [{code}]"))
        assert f"| {kind.name} | {reason} | {kind.does} |" in line
    cells = {line.count("|") for line in lines if line.startswith("| [")}
    assert cells == {5}


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, None), (408, None), (429, None), (401, None), (403, None), (404, 12345), (302, None)],
)
def test_the_documented_defaults_are_the_real_ones(status: int, code: int | None) -> None:
    shown = {
        503: "5xx, 408",
        408: "5xx, 408",
        404: "other 4xx",
        302: "1xx to 3xx",
    }.get(status, str(status))
    _, kind, reason = next(row for row in failures._DEFAULTS if row[0] == shown)
    error = failures.from_answer(status, code, None)
    assert type(error) is ERRORS[kind]
    if status in (429, 401, 403, 404):
        assert error.reason.startswith(reason)


# --- against the double ------------------------------------------------------------------------


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(
        account_sid=ACCOUNT, business=BUSINESS, callback_delays=(0, 0)
    ) as double:
        double.senders.add(OTHER)
        yield double


@pytest.fixture
async def channel(twilio: TwilioDouble) -> AsyncIterator[TwilioChannel]:
    async with aiohttp.ClientSession() as session:
        accounts = {ACCOUNT: [twilio.auth_token]}
        yield TwilioChannel(session, accounts=accounts, base_url=twilio.base_url)


def part(sender: str = BUSINESS) -> OutboundPart:
    return OutboundPart(ACCOUNT, f"whatsapp:{sender}", "whatsapp:+447700900001", "hello")


async def test_a_number_that_sends_too_much_is_told_when_to_come_back(
    twilio: TwilioDouble, channel: TwilioChannel
) -> None:
    twilio.per_second, twilio.burst = 0.01, 2
    await channel.send(part())
    await channel.send(part())
    with pytest.raises(Busy) as caught:
        await channel.send(part())
    assert caught.value.code == "20429"
    assert caught.value.delay == pytest.approx(100, abs=2)
    assert len(twilio.sent) == 2
    await channel.send(part(OTHER))
    twilio.per_second = None
    await channel.send(part())
    assert len(twilio.sent) == 4


class Redirected(TwilioHttpClient):  # type: ignore[misc]
    """The SDK's client, with the double in Twilio's place."""

    def __init__(self, base_url: str) -> None:
        super().__init__(pool_connections=False)
        self._base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        url = url.replace("https://messaging.twilio.com", self._base_url)
        return super().request(method, url, *args, **kwargs)


async def test_the_double_takes_a_typing_indicator_as_the_sdk_sends_it(
    twilio: TwilioDouble, channel: TwilioChannel
) -> None:
    await twilio.receive("+447700900001")
    received = twilio.transcript[-1].sid
    client = Client(ACCOUNT, twilio.auth_token, http_client=Redirected(twilio.base_url))
    create = client.messaging.v2.typing_indicator.create
    answer = await asyncio.to_thread(create, channel="whatsapp", message_id=received)
    assert answer.success is True
    assert twilio.typing == [received]
    sent = await channel.send(part())
    for wrong in ({"channel": "sms", "message_id": received}, {"message_id": sent}):
        with pytest.raises(TwilioRestException):
            await asyncio.to_thread(create, **{"channel": "whatsapp"} | wrong)
    assert twilio.typing == [received]


async def test_a_typing_indicator_goes_to_a_host_of_its_own_unless_another_api_is_set(
    twilio: TwilioDouble,
) -> None:
    urls: list[str] = []

    async def stop(_session: object, _context: object, params: object) -> None:
        urls.append(str(getattr(params, "url", "")))
        raise aiohttp.ClientConnectionError("no network in tests")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(stop)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        for base_url in ("", twilio.base_url):
            channel = TwilioChannel(session, accounts={ACCOUNT: ["token"]}, base_url=base_url)
            with pytest.raises(Temporary):
                await channel.show_typing("SM" + "1" * 32, ACCOUNT)
    path = "/v2/Indicators/Typing.json"
    assert urls == [f"https://messaging.twilio.com{path}", f"{twilio.base_url}{path}"]
