"""The numbers' webhook settings, against the double, which Twilio's own SDK can read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from replyd.adapters.twilio import webhook_url
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.numbers import MAX_NUMBERS, MAX_SERVICES, TwilioNumbers, Webhook
from replyd.demo.twilio_double import TwilioDouble
from replyd.errors import DependencyError, Permanent, Temporary

ACCOUNT = "AC" + "1" * 32
TARGET = "https://hooks.example.com/webhooks/twilio/whatsapp"
WANTED = f"{TARGET}#rc=3&rp=all"
FALLBACK = "https://other.example.com/webhooks/twilio/whatsapp"
NUMBER = "+447700900100"


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(account_sid=ACCOUNT, business=NUMBER) as double:
        yield double


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def numbers(twilio: TwilioDouble, session: aiohttp.ClientSession) -> TwilioNumbers:
    # Two tokens, the first of which is refused, as while one is being replaced.
    accounts = Accounts({ACCOUNT: ["not-yet-valid", twilio.auth_token]})
    return TwilioNumbers(session, accounts, base_url=twilio.base_url, timeout_seconds=5)


async def failure(call: Awaitable[object]) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        await call
    assert "7700900" not in str(caught.value)
    assert "hooks.example" not in str(caught.value)
    return caught.value


# --- reading -------------------------------------------------------------------------------------


async def test_senders_come_before_numbers_for_sms(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    twilio.numbers.add_phone("+447700900400", TARGET, sms_method="GET", sms_fallback_url=FALLBACK)
    twilio.numbers.add_phone("+447700900401", sms=False)
    twilio.numbers.add_whatsapp("+447700900200", TARGET, fallback_url=FALLBACK)
    found = await numbers.read(ACCOUNT)
    assert [(n.address, n.webhook) for n in found.numbers] == [
        (f"whatsapp:{NUMBER}", Webhook("", "POST", "")),
        ("whatsapp:+447700900200", Webhook(TARGET, "POST", FALLBACK)),
        ("+447700900400", Webhook(TARGET, "GET", FALLBACK)),
    ]
    assert (found.unread, found.more) == ((), False)


async def test_what_decides_instead_of_the_number(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    application = "AP" + "2" * 32
    twilio.numbers.add_phone("+447700900400", TARGET, sms_application_sid=application)
    twilio.numbers.add_phone("+447700900401", TARGET)
    twilio.numbers.add_phone("+447700900402", TARGET)
    service = twilio.numbers.add_service([f"whatsapp:{NUMBER}", "+447700900401"], FALLBACK)
    twilio.numbers.add_service(["+447700900402"], FALLBACK, defers=True)
    found = await numbers.read(ACCOUNT)
    decided = f"Messaging Service {service['sid']}"
    assert [(n.decided_by, n.webhook) for n in found.numbers] == [
        (decided, Webhook(FALLBACK, "POST", "")),
        (f"application {application}", None),
        (decided, Webhook(FALLBACK, "POST", "")),
        ("", Webhook(TARGET, "POST", "")),
    ]


async def test_no_more_than_so_many_are_read(numbers: TwilioNumbers, twilio: TwilioDouble) -> None:
    for n in range(MAX_NUMBERS - 2):
        twilio.numbers.add_whatsapp(f"+4477009{n:05}")
    twilio.numbers.add_phone("+447700900400")
    found = await numbers.read(ACCOUNT)
    assert (len(found.numbers), found.more) == (MAX_NUMBERS, False)
    twilio.numbers.add_phone("+447700900401")
    found = await numbers.read(ACCOUNT)
    assert (len(found.numbers), found.more) == (MAX_NUMBERS, True)


@pytest.mark.parametrize("kind", ["whatsapp", "phone"])
async def test_a_second_page_is_noticed(
    numbers: TwilioNumbers, twilio: TwilioDouble, kind: str
) -> None:
    twilio.numbers.whatsapp.clear()
    add = getattr(twilio.numbers, f"add_{kind}")
    for n in range(MAX_NUMBERS + 1):
        add(f"+4477009{n:05}")
    found = await numbers.read(ACCOUNT)
    assert (len(found.numbers), found.more) == (MAX_NUMBERS, True)


async def test_services_beyond_the_limit_are_noticed(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    for _ in range(MAX_SERVICES):
        twilio.numbers.add_service([])
        twilio.numbers.add_service([], defers=True)
    assert not (await numbers.read(ACCOUNT)).more
    twilio.numbers.add_service([])
    assert (await numbers.read(ACCOUNT)).more


async def test_a_list_that_may_not_be_read_leaves_the_others(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    twilio.numbers.add_phone("+447700900400")
    twilio.numbers.forbidden = {"senders", "services"}
    found = await numbers.read(ACCOUNT)
    assert [n.address for n in found.numbers] == ["+447700900400"]
    assert found.unread == (
        "WhatsApp senders: the credentials may not do this (70051)",
        "Messaging Services: the credentials may not do this (70051)",
    )


async def test_nothing_that_goes_wrong_raises(
    twilio: TwilioDouble, session: aiohttp.ClientSession
) -> None:
    refused = TwilioNumbers(session, Accounts({ACCOUNT: ["wrong"]}), base_url=twilio.base_url)
    found = await refused.read(ACCOUNT)
    assert len(found.unread) == 3
    assert all("auth token is refused" in problem for problem in found.unread)
    stranger = await refused.read("AC" + "9" * 32)
    assert all("no auth token is configured" in problem for problem in stranger.unread)
    await twilio.stop()
    gone = await refused.read(ACCOUNT)
    assert all("the connection was refused" in problem for problem in gone.unread)


async def test_an_answer_of_another_shape_is_no_empty_list(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    sender = next(iter(twilio.numbers.whatsapp.values()))
    sender["sid"] = "../../v1/Services"
    (problem,) = (await numbers.read(ACCOUNT)).unread
    assert problem == "WhatsApp senders: the answer cannot be read, it is no list of them"


# --- changing ------------------------------------------------------------------------------------


async def test_a_sender_keeps_everything_but_url_and_method(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    kept = {"fallback_url": FALLBACK, "fallback_method": "PUT", "status_callback_url": FALLBACK}
    sender = twilio.numbers.add_whatsapp("+447700900200", TARGET, callback_method="PUT", **kept)
    before = {name: sender[name] for name in sender if name != "webhook"}
    number = (await numbers.read(ACCOUNT)).numbers[1]
    await numbers.lead(number, WANTED)
    # Safe to repeat.
    await numbers.lead(number, WANTED)
    assert twilio.numbers.updates == [sender["sid"]] * 2
    assert sender["webhook"] == {
        "callback_url": WANTED,
        "callback_method": "POST",
        "status_callback_method": None,
        **kept,
    }
    assert {name: sender[name] for name in sender if name != "webhook"} == before


async def test_a_number_for_sms_keeps_its_fallback(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    phone = twilio.numbers.add_phone(
        "+447700900400", FALLBACK, sms_method="GET", sms_fallback_url=FALLBACK
    )
    before = dict(phone)
    await numbers.lead((await numbers.read(ACCOUNT)).numbers[1], WANTED)
    assert phone == before | {"sms_url": WANTED, "sms_method": "POST"}


async def test_a_change_that_is_refused_or_not_answered(
    numbers: TwilioNumbers, twilio: TwilioDouble
) -> None:
    (number,) = (await numbers.read(ACCOUNT)).numbers
    twilio.numbers.forbidden = {"senders"}
    forbidden = await failure(numbers.lead(number, WANTED))
    assert (type(forbidden), forbidden.code) == (Permanent, "70051")
    twilio.numbers.forbidden = set()
    twilio.numbers.whatsapp.clear()
    gone = await failure(numbers.lead(number, WANTED))
    assert (type(gone), gone.code) == (Permanent, "20404")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        broken = TwilioNumbers(session, Accounts({ACCOUNT: ["t"]}), base_url=url)
        unclear = await failure(broken.lead(number, WANTED))
    assert (type(unclear), unclear.code) == (Temporary, "disconnected")


# --- the double ----------------------------------------------------------------------------------


async def test_the_sdk_reads_and_changes_the_same_settings(twilio: TwilioDouble) -> None:
    twilio.numbers.add_phone("+447700900400", TARGET)
    service = twilio.numbers.add_service([f"whatsapp:{NUMBER}", "+447700900400"], FALLBACK)

    class Redirected(TwilioHttpClient):  # type: ignore[misc]
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            for host in ("api", "messaging"):
                url = url.replace(f"https://{host}.twilio.com", twilio.base_url)
            return super().request(method, url, *args, **kwargs)

    def use() -> None:
        http = Redirected(pool_connections=False)
        client = Client(ACCOUNT, twilio.auth_token, http_client=http)
        senders = client.messaging.v2.channels_senders
        (sender,) = senders.list(channel="whatsapp", page_size=1)
        assert sender.sender_id == f"whatsapp:{NUMBER}"
        changed = senders(sender.sid).update(
            _Body({"webhook": {"callback_url": WANTED, "callback_method": "POST"}})
        )
        assert changed.webhook["callback_url"] == WANTED
        (phone,) = client.incoming_phone_numbers.list()
        assert (phone.sms_url, phone.sms_method) == (TARGET, "POST")
        assert phone.update(sms_url=WANTED, sms_method="GET").sms_method == "GET"
        (listed,) = client.messaging.v1.services.list()
        assert listed.inbound_request_url == FALLBACK
        assert listed.use_inbound_webhook_on_number is False
        mine = client.messaging.v1.services(service["sid"])
        assert [s.sender for s in mine.channel_senders.list()] == [f"whatsapp:{NUMBER}"]
        assert [p.phone_number for p in mine.phone_numbers.list()] == ["+447700900400"]

    await asyncio.to_thread(use)


class _Body:
    """What the SDK takes for an update: anything with a `to_dict`."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def to_dict(self) -> dict[str, Any]:
        return self._fields


# --- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "leads"),
    [
        (TARGET, True),
        (WANTED, True),
        (f"{TARGET}?tenant=a#rc=1", True),
        (TARGET.replace(".com/", ".com:443/"), True),
        (TARGET.replace("hooks.", "HOOKS."), False),
        (TARGET.replace("https", "http"), False),
        (f"{TARGET}/", False),
        (TARGET.replace(".com/", ".com:8443/"), False),
        (TARGET.replace("//", "//user:secret@"), False),
        (FALLBACK, False),
        ("", False),
        ("https://[bad/webhooks/twilio/whatsapp", False),
        ("https://hooks.example.com:many/webhooks/twilio/whatsapp", False),
    ],
)
def test_which_urls_lead_here(url: str, leads: bool) -> None:
    assert webhook_url.leads_to(url, TARGET) is leads


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("", WANTED),
        (FALLBACK, WANTED),
        (TARGET, WANTED),
        (WANTED, WANTED),
        (f"{TARGET}?tenant=a", f"{TARGET}?tenant=a#rc=3&rp=all"),
        (f"{TARGET}#rc=5", f"{TARGET}#rc=5&rp=all"),
        (f"{TARGET}#rp=5xx,ct&rc=1&tt=9000", f"{TARGET}#rp=5xx,ct&rc=1&tt=9000"),
        (f"{FALLBACK}#rc=5&rp=ct", WANTED),
    ],
)
def test_own_overrides_and_query_stay(url: str, wanted: str) -> None:
    assert webhook_url.wanted(url, TARGET) == wanted


@given(st.text(max_size=60).map("https://hooks.example.com".__add__) | st.text(max_size=60))
def test_what_is_wanted_leads_here_and_stays(url: str) -> None:
    once = webhook_url.wanted(url, TARGET)
    assert webhook_url.leads_to(once, TARGET)
    assert webhook_url.wanted(once, TARGET) == once
    assert "\n" not in webhook_url.shown(url)


def test_what_may_be_secret_is_not_shown() -> None:
    shown = webhook_url.shown("https://user:secret@crm.example.org:8443/in?token=abc&x=#rc=2")
    assert shown == "https://crm.example.org:8443/in?token=…&x=…#rc=2"
    assert webhook_url.shown("secret token") == "what is no URL"
