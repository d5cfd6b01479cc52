"""The Twilio double, read by Twilio's own SDK and called by Twilio's own rules."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import MultiDict
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageInstance

from replyd.demo.loopback import LoopbackServer
from replyd.demo.twilio_double import TwilioDouble

CUSTOMER, BUSINESS = "+447700900001", "+447700900100"
TEMPLATE = "HX" + "a" * 32
PUBLIC = "https://hooks.example.com"
WEBHOOK = PUBLIC + "/webhooks/twilio/whatsapp?tenant=a%2Bb"
STATUS = PUBLIC + "/webhooks/twilio/status"


@dataclass
class Call:
    target: str
    headers: dict[str, str]
    params: MultiDict[str]


@dataclass
class Receiver(LoopbackServer):
    """Takes webhooks and answers with the statuses in line, then 200."""

    calls: list[Call] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    delay: float = 0.0

    def __post_init__(self) -> None:
        super().__init__()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{tail:.*}", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        form = MultiDict((n, str(v)) for n, v in (await request.post()).items())
        self.calls.append(Call(request.raw_path, dict(request.headers), form))
        await asyncio.sleep(self.delay)
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def twilio(receiver: Receiver) -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(
        webhook_url=WEBHOOK, deliver_to=receiver.base_url, callback_delays=(0, 0)
    ) as double:
        yield double


class Redirected(TwilioHttpClient):  # type: ignore[misc]
    """The SDK's HTTP client, pointed at the double."""

    def __init__(self, base_url: str) -> None:
        super().__init__(pool_connections=False)
        self._base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        url = url.replace("https://api.twilio.com", self._base_url)
        return super().request(method, url, *args, **kwargs)


async def sdk(double: TwilioDouble, call: Callable[[Any], Any], token: str = "") -> Any:
    client = Client(
        double.account_sid,
        token or double.auth_token,
        http_client=Redirected(double.base_url),
    )
    return await asyncio.to_thread(call, client)


def create(**changes: Any) -> Callable[[Any], Any]:
    fields: dict[str, Any] = {
        "from_": f"whatsapp:{BUSINESS}",
        "to": f"whatsapp:{CUSTOMER}",
        "body": "hello",
    }
    return lambda client: client.messages.create(**(fields | changes))


# --- the API, by the SDK -------------------------------------------------------------------------


async def test_the_sdk_creates_and_fetches_a_message(twilio: TwilioDouble) -> None:
    message = await sdk(twilio, create(body="Grüße + 1"))
    assert isinstance(message, MessageInstance)
    assert message.sid == twilio.sent[0].sid
    assert (message.status, message.direction, message.body) == (
        "queued",
        "outbound-api",
        "Grüße + 1",
    )
    assert (message.date_sent, message.error_code, message.price) == (None, None, None)
    assert isinstance(message.date_created, datetime)
    assert message.account_sid == twilio.account_sid
    await twilio.settle()
    fetched = await sdk(twilio, lambda client: client.messages(message.sid).fetch())
    assert fetched.status == "delivered"
    assert fetched.date_sent is not None


async def test_every_documented_property_is_there(twilio: TwilioDouble) -> None:
    await sdk(twilio, create())
    resource = twilio._resources[twilio.sent[0].sid]
    known = MessageInstance(None, resource, account_sid=twilio.account_sid)
    public = {name.rstrip("_") for name in vars(known) if not name.startswith("_")}
    assert public == set(resource)


async def test_a_messaging_service_accepts_without_a_sender(twilio: TwilioDouble) -> None:
    service = "MG" + "0" * 32
    message = await sdk(
        twilio,
        lambda client: client.messages.create(
            to=f"whatsapp:{CUSTOMER}", messaging_service_sid=service, body="hello"
        ),
    )
    assert (message.status, message.from_, message.messaging_service_sid) == (
        "accepted",
        None,
        service,
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"body": ""}, 21602),
        ({"from_": ""}, 21603),
        ({"to": ""}, 21604),
        ({"to": "whatsapp:+0"}, 21211),
        ({"body": "x" * 1601}, 21617),
        ({"from_": "whatsapp:+447700900199"}, 63007),
        ({"to": CUSTOMER}, 21910),
        ({"to": "whatsapp:+447700900666"}, 21610),
    ],
)
async def test_the_sdk_reads_each_refusal(
    twilio: TwilioDouble, changes: dict[str, str], code: int
) -> None:
    twilio.opted_out.add("+447700900666")
    with pytest.raises(TwilioRestException) as caught:
        await sdk(twilio, create(**changes))
    assert (caught.value.status, caught.value.code) == (400, code)
    assert twilio.sent == []


async def test_business_scoped_ids_and_the_longest_text_are_taken(twilio: TwilioDouble) -> None:
    await sdk(twilio, create(to="whatsapp:US.ABC123", body="x" * 1600))
    assert twilio.sent[0].customer == "US.ABC123"


async def test_credentials(twilio: TwilioDouble) -> None:
    account = await sdk(twilio, lambda c: c.api.v2010.accounts(twilio.account_sid).fetch())
    assert (account.sid, account.status) == (twilio.account_sid, "active")
    with pytest.raises(TwilioRestException) as caught:
        await sdk(twilio, create(), token="wrong")
    assert (caught.value.status, caught.value.code) == (401, 20003)
    path = f"{twilio.base_url}/2010-04-01/Accounts/{twilio.account_sid}.json"
    async with aiohttp.ClientSession() as session:
        for header in ({}, {"Authorization": "Basic ???"}, {"Authorization": "Bearer x"}):
            async with session.get(path, headers=header) as response:
                body = await response.json()
                assert response.status == 401
                assert body == {
                    "code": 20003,
                    "message": "Authenticate",
                    "more_info": "https://www.twilio.com/docs/errors/20003",
                    "status": 401,
                }


async def test_an_unknown_message_is_404(twilio: TwilioDouble) -> None:
    with pytest.raises(TwilioRestException) as caught:
        await sdk(twilio, lambda client: client.messages("SM" + "0" * 32).fetch())
    assert (caught.value.status, caught.value.code) == (404, 20404)


async def test_the_list_filters_and_pages(twilio: TwilioDouble) -> None:
    for n in range(5):
        await sdk(twilio, create(body=str(n)))
    await sdk(twilio, create(to="whatsapp:+447700900002"))
    await twilio.receive(CUSTOMER, "in")
    to, sender = f"whatsapp:{CUSTOMER}", f"whatsapp:{BUSINESS}"
    listed = await sdk(
        twilio, lambda client: client.messages.list(to=to, from_=sender, page_size=2)
    )
    assert [message.body for message in listed] == ["4", "3", "2", "1", "0"]
    inbound = await sdk(twilio, lambda client: client.messages.list(from_=to))
    assert [(m.direction, m.status, m.body) for m in inbound] == [("inbound", "received", "in")]


async def test_pages_hang_together_while_messages_come(twilio: TwilioDouble) -> None:
    for n in range(4):
        await sdk(twilio, create(body=str(n)))
    first = await sdk(twilio, lambda client: client.messages.page(page_size=2))
    assert first.previous_page_url is None
    await sdk(twilio, create(body="meanwhile"))
    second = await asyncio.to_thread(first.next_page)
    assert [message.body for message in second] == ["1", "0"]
    assert second.next_page_url is None
    back = await asyncio.to_thread(second.previous_page)
    assert [message.body for message in back] == ["3", "2"]


@pytest.mark.parametrize("changes", [{"page_token": "PAnone"}, {"page_size": "many"}])
async def test_a_page_that_is_none(twilio: TwilioDouble, changes: dict[str, Any]) -> None:
    with pytest.raises(TwilioException):
        await sdk(twilio, lambda client: client.messages.page(**changes))


async def test_the_list_by_day_has_only_what_is_sent(twilio: TwilioDouble) -> None:
    await sdk(twilio, create(body="sent"))
    await twilio.settle()
    twilio.callback_delays = (60, 60)
    await sdk(twilio, create(body="queued"))
    today = datetime.now(UTC).date()

    async def listed(**filters: date) -> list[str]:
        found = await sdk(twilio, lambda client: client.messages.list(**filters))
        return [message.body for message in found]

    day = timedelta(days=1)
    assert await listed() == ["queued", "sent"]
    assert await listed(date_sent_after=today - day) == ["sent"]
    assert await listed(date_sent_before=today + day) == ["sent"]
    assert await listed(date_sent_after=today + 2 * day) == []
    assert await listed(date_sent_before=today - 2 * day) == []


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [False, True])
async def test_an_error_before_or_after_accepting(twilio: TwilioDouble, accept: bool) -> None:
    twilio.fail_next(status=503, code=20503, accept=accept)
    with pytest.raises(TwilioRestException) as caught:
        await sdk(twilio, create())
    assert (caught.value.status, caught.value.code) == (503, 20503)
    assert len(twilio.sent) == accept
    await sdk(twilio, create())
    assert len(twilio.sent) == accept + 1


async def test_a_dropped_connection_and_forgotten_faults(twilio: TwilioDouble) -> None:
    twilio.drop_next()
    with pytest.raises(OSError, match="Connection"):
        await sdk(twilio, create())
    assert len(twilio.sent) == 1
    twilio.fail_next(5)
    twilio.clear_faults()
    await sdk(twilio, create())


# --- inbound webhooks ----------------------------------------------------------------------------


def is_signed(double: TwilioDouble, url: str, call: Call) -> bool:
    validator = RequestValidator(double.auth_token)
    valid: bool = validator.validate(url, call.params, call.headers["X-Twilio-Signature"])
    return valid


async def test_an_inbound_message_is_signed_for_the_public_url(
    twilio: TwilioDouble, receiver: Receiver
) -> None:
    delivery = await twilio.receive(CUSTOMER, "two & two = 4 + Grüße", profile_name="")
    (call,) = receiver.calls
    assert (delivery.status, delivery.attempts, delivery.ok) == (200, 1, True)
    assert call.target == "/webhooks/twilio/whatsapp?tenant=a%2Bb"
    assert call.headers["User-Agent"] == "TwilioProxy/1.1"
    assert is_signed(twilio, WEBHOOK, call)
    assert {name: call.params[name] for name in call.params if name != "ChannelMetadata"} == {
        "SmsMessageSid": delivery.sid,
        "NumMedia": "0",
        "ProfileName": "",
        "MessageType": "text",
        "SmsSid": delivery.sid,
        "WaId": "447700900001",
        "SmsStatus": "received",
        "Body": "two & two = 4 + Grüße",
        "To": f"whatsapp:{BUSINESS}",
        "NumSegments": "1",
        "ReferralNumMedia": "0",
        "MessageSid": delivery.sid,
        "AccountSid": twilio.account_sid,
        "From": f"whatsapp:{CUSTOMER}",
        "ApiVersion": "2010-04-01",
    }
    assert json.loads(call.params["ChannelMetadata"])["type"] == "whatsapp"


async def test_a_business_scoped_id_has_no_number(twilio: TwilioDouble, receiver: Receiver) -> None:
    await twilio.receive("US.ABC123")
    await twilio.receive(CUSTOMER, ExternalUserId="US.ABC123")
    hidden, both = (call.params for call in receiver.calls)
    assert hidden["From"] == "whatsapp:US.ABC123"
    assert hidden["ExternalUserId"] == "US.ABC123"
    assert "WaId" not in hidden
    assert "WaId" not in hidden["ChannelMetadata"]
    assert (both["From"], both["ExternalUserId"]) == (f"whatsapp:{CUSTOMER}", "US.ABC123")


async def test_media_and_extra_parameters(twilio: TwilioDouble, receiver: Receiver) -> None:
    delivery = await twilio.receive(
        body="",
        media=[("https://api.twilio.com/m/0", "audio/ogg")],
        Forwarded="true",
        Twice=["b", "a"],
        ReferralNumMedia=[],
    )
    (call,) = receiver.calls
    assert delivery.sid.startswith("MM")
    assert (call.params["NumMedia"], call.params["MessageType"]) == ("1", "audio")
    assert call.params["MediaContentType0"] == "audio/ogg"
    assert call.params.getall("Twice") == ["b", "a"]
    assert "ReferralNumMedia" not in call.params
    assert is_signed(twilio, WEBHOOK, call)


async def test_a_fragment_is_not_signed(twilio: TwilioDouble, receiver: Receiver) -> None:
    twilio.webhook_url = WEBHOOK + "#rc=3&rp=all"
    await twilio.receive()
    assert is_signed(twilio, WEBHOOK, receiver.calls[0])


async def test_a_5xx_is_repeated_with_the_same_sid(
    twilio: TwilioDouble, receiver: Receiver
) -> None:
    receiver.answers = [503]
    delivery = await twilio.receive()
    assert (delivery.status, delivery.attempts) == (200, 2)
    first, second = receiver.calls
    assert first.params == second.params
    token = "I-Twilio-Idempotency-Token"
    assert first.headers[token] == second.headers[token]


async def test_the_message_is_gone_when_retries_end(
    twilio: TwilioDouble, receiver: Receiver
) -> None:
    receiver.answers = [503, 500, 403]
    assert (await twilio.receive()).status == 500
    refused = await twilio.receive()
    assert (refused.status, refused.attempts) == (403, 1)
    assert [line.state for line in twilio.transcript] == ["failed", "failed"]


async def test_no_answer_in_time_or_none_at_all(twilio: TwilioDouble, receiver: Receiver) -> None:
    receiver.delay, twilio.timeout = 5, 0.02
    slow = await twilio.receive()
    assert (slow.status, slow.attempts) == (0, 2)
    await receiver.stop()
    twilio.retries = 0
    assert (await twilio.receive()).attempts == 1


async def test_redelivery(twilio: TwilioDouble, receiver: Receiver) -> None:
    delivery = await twilio.receive()
    assert (await twilio.redeliver(delivery.sid)).sid == delivery.sid
    await twilio.receive(sid=delivery.sid)
    assert {call.params["MessageSid"] for call in receiver.calls} == {delivery.sid}
    assert len(receiver.calls) == 3
    assert len(twilio.transcript) == 1


# --- status callbacks ----------------------------------------------------------------------------


async def test_callbacks_for_sent_delivered_and_read(
    twilio: TwilioDouble, receiver: Receiver
) -> None:
    message = await sdk(twilio, create(status_callback=STATUS))
    await twilio.settle()
    assert await twilio.mark_read(CUSTOMER) == 1
    assert await twilio.mark_read(CUSTOMER) == 0
    assert [call.params["MessageStatus"] for call in receiver.calls] == [
        "sent",
        "delivered",
        "read",
    ]
    assert all(is_signed(twilio, STATUS, call) for call in receiver.calls)
    assert [call.params.get("EventType") for call in receiver.calls] == [None, "DELIVERED", "READ"]
    last = receiver.calls[-1].params
    assert last["MessageSid"] == last["SmsSid"] == message.sid
    assert last["To"] == f"whatsapp:{CUSTOMER}"
    assert last["From"] == f"whatsapp:{BUSINESS}"
    assert last["ChannelPrefix"] == "whatsapp"
    assert last["AccountSid"] == twilio.account_sid
    assert [(state, d.ok) for state, d in twilio.callbacks] == [
        ("sent", True),
        ("delivered", True),
        ("read", True),
    ]


async def test_an_undelivered_message_says_why(twilio: TwilioDouble, receiver: Receiver) -> None:
    twilio.fail_delivery_next(code=63016)
    message = await sdk(twilio, create(status_callback=STATUS))
    await twilio.settle()
    last = receiver.calls[-1].params
    assert (last["MessageStatus"], last["ErrorCode"]) == ("undelivered", "63016")
    fetched = await sdk(twilio, lambda client: client.messages(message.sid).fetch())
    assert (fetched.status, fetched.error_code) == ("undelivered", 63016)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "undelivered"),
        ({"body": None, "content_sid": TEMPLATE}, "delivered"),
        ({"from_": BUSINESS, "to": CUSTOMER}, "delivered"),
        ({"to": "whatsapp:+447700900002"}, "delivered"),
    ],
    ids=["free text", "template", "SMS", "another customer"],
)
async def test_who_is_out_of_session_gets_no_free_text(
    twilio: TwilioDouble, receiver: Receiver, changes: dict[str, Any], state: str
) -> None:
    twilio.templates[TEMPLATE] = "Hello"
    twilio.out_of_session.add(CUSTOMER)
    await sdk(twilio, create(status_callback=STATUS, **changes))
    await twilio.settle()
    last = receiver.calls[-1].params
    refused = "63016" if state == "undelivered" else None
    assert (last["MessageStatus"], last.get("ErrorCode")) == (state, refused)


async def test_a_template_is_filled_in(twilio: TwilioDouble) -> None:
    twilio.templates[TEMPLATE] = "Hello {{1}}: {{answer}}"
    variables = json.dumps({"answer": "1 + 1 ☺"})
    message = await sdk(
        twilio, create(body=None, content_sid=TEMPLATE, content_variables=variables)
    )
    assert message.body == "Hello sample 1: 1 + 1 ☺"
    assert twilio.sent[0].text == message.body


@pytest.mark.parametrize(
    ("sid", "variables", "code"),
    [
        ("HX" + "b" * 32, "{}", 21655),
        (TEMPLATE, "{", 21656),
        (TEMPLATE, "[]", 21656),
        (TEMPLATE, '{"1": ""}', 21656),
        (TEMPLATE, '{"1": null}', 21656),
        (TEMPLATE, '{"1": "a\\nb"}', 21656),
        (TEMPLATE, '{"1": "a     b"}', 21656),
    ],
)
async def test_a_template_that_cannot_be_filled_in_is_refused(
    twilio: TwilioDouble, sid: str, variables: str, code: int
) -> None:
    twilio.templates[TEMPLATE] = "Hello {{1}}"
    with pytest.raises(TwilioRestException) as caught:
        await sdk(twilio, create(body=None, content_sid=sid, content_variables=variables))
    assert caught.value.code == code
    assert twilio.sent == []


async def test_without_a_callback_url_states_still_move(
    twilio: TwilioDouble, receiver: Receiver
) -> None:
    await sdk(twilio, create())
    await twilio.settle()
    assert twilio.sent[0].state == "delivered"
    assert receiver.calls == []


async def test_stop_cancels_callbacks_that_are_to_come(receiver: Receiver) -> None:
    double = TwilioDouble(deliver_to=receiver.base_url, callback_delays=(60, 60))
    async with double:
        await sdk(double, create(status_callback=STATUS))
    assert double._tasks == set()
    assert receiver.calls == []
    await double.stop()


# --- the transcript ------------------------------------------------------------------------------


async def test_the_transcript_has_both_directions_and_tells_of_changes(
    twilio: TwilioDouble,
) -> None:
    seen: list[tuple[int, str]] = []
    twilio.on_change = lambda: seen.append((len(twilio.transcript), twilio.transcript[-1].state))
    await twilio.receive(CUSTOMER, "hi")
    await twilio.receive("+447700900002", "another customer")
    await sdk(twilio, create(body="hello"))
    await twilio.settle()
    lines = twilio.conversation(f"whatsapp:{CUSTOMER}")
    assert [(m.direction, m.text, m.business, m.state) for m in lines] == [
        ("in", "hi", BUSINESS, "delivered"),
        ("out", "hello", BUSINESS, "delivered"),
    ]
    assert lines[0].at_ms <= lines[1].at_ms
    assert seen[0] == (1, "sending")
    assert seen[-1] == (3, "delivered")
