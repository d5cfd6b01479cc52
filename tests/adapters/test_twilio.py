"""The Twilio adapter: signatures against Twilio's scheme, the Messages API against the double."""

import asyncio
import email.utils
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from replyd.adapters.twilio import TwilioChannel, exchange, failures, listing, signature
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import OutboundPart
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import SignedRequest

ACCOUNT = "AC" + "1" * 32
SID = "SM" + "0123456789abcdef" * 2
ORIGIN = "https://hooks.example.com"
TARGET = "/webhooks/twilio/whatsapp"
TEXT = "a text that no error may quote"
CUSTOMER = "whatsapp:+447700900001"

Make = Callable[..., TwilioChannel]


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioDouble]:
    async with TwilioDouble(account_sid=ACCOUNT, callback_delays=(0, 0)) as double:
        yield double


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def make(twilio: TwilioDouble, session: aiohttp.ClientSession, naps: Naps) -> Make:
    def build(**settings: Any) -> TwilioChannel:
        defaults: dict[str, Any] = {
            "accounts": {ACCOUNT: [twilio.auth_token]},
            "public_url": ORIGIN,
            "base_url": twilio.base_url,
            "sleep": naps,
        }
        return TwilioChannel(settings.pop("session", session), **(defaults | settings))

    return build


def part(**changes: Any) -> OutboundPart:
    fields: dict[str, Any] = {
        "account_sid": ACCOUNT,
        "sender": "whatsapp:+447700900100",
        "recipient": CUSTOMER,
        "text": TEXT,
    }
    return OutboundPart(**(fields | changes))


async def failure(call: Awaitable[object]) -> DependencyError:
    """The error of a call that must fail, checked for what no error may show."""
    with pytest.raises(DependencyError) as caught:
        await call
    error = caught.value
    assert error.dependency == "twilio"
    assert TEXT not in str(error)
    assert "7700900" not in str(error)
    return error


# --- signatures ----------------------------------------------------------------------------------

PUBLISHED_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
PUBLISHED_FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
REPEATED_FIELDS = [
    ("Sid", "CA123"),
    ("SidAccount", "AC123"),
    ("Digits", "5678"),
    ("Digits", "1234"),
    ("Digits", "1234"),
]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (PUBLISHED_FIELDS, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (REPEATED_FIELDS, "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    ],
    ids=["documented example", "repeated names"],
)
def test_vectors_that_twilio_publishes(fields: list[tuple[str, str]], expected: str) -> None:
    assert signature.is_signed(["12345"], [PUBLISHED_URL], fields, expected)
    assert signature.is_signed(["12345"], [PUBLISHED_URL], fields[::-1], expected)
    assert not signature.is_signed(["12346"], [PUBLISHED_URL], fields, expected)
    assert not signature.is_signed(["12345"], [PUBLISHED_URL + "&x="], fields, expected)


def signed(
    fields: list[tuple[str, str]],
    *,
    token: str = "newest",
    origin: str = ORIGIN,
    target: str = TARGET,
    settings: str = "",
    algorithm: str | None = None,
) -> SignedRequest:
    computed = RequestValidator(token).compute_signature(
        origin + target, MultiDict(fields), algorithm
    )
    return SignedRequest(target, fields, computed, settings)


def channel(**settings: Any) -> TwilioChannel:
    """One that only reads: it never uses its session."""
    defaults: dict[str, Any] = {"accounts": {ACCOUNT: ["newest", "older"]}, "public_url": ORIGIN}
    return TwilioChannel(cast("aiohttp.ClientSession", None), **(defaults | settings))


FIELDS = [("AccountSid", ACCOUNT), ("Body", "hello"), ("MessageSid", SID)]


@pytest.mark.parametrize(
    "extra",
    [
        [("ProfileName", "")],
        [("Body", "second"), ("Body", "second"), ("Body", "a third")],
        [("Body", "Grüße 👋🏽 漢字 \u202e")],
        [("Body", "1 + 1 = 2 & more%20")],
        [("", "")],
        [("A" * 5000, "b" * 5000)],
        [(f"Name{n}", str(n)) for n in range(500)],
    ],
    ids=["blank", "repeated", "unicode", "plus and spaces", "no name", "long", "many"],
)
def test_every_parameter_counts(extra: list[tuple[str, str]]) -> None:
    request = signed(FIELDS + extra)
    assert channel().is_authentic(request)
    fewer = SignedRequest(request.target, FIELDS, request.signature)
    # A name and a value that are both empty add nothing to what is signed.
    assert channel().is_authentic(fewer) == (extra == [("", "")])


@pytest.mark.parametrize(
    ("public_url", "signed_for"),
    [
        ("https://hooks.example.com", "https://hooks.example.com:443"),
        ("http://hooks.example.com", "http://hooks.example.com:80"),
        ("https://hooks.example.com:8443", "https://hooks.example.com:8443"),
        ("https://hooks.example.com:8443", "https://hooks.example.com"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]"),
        ("https://hooks.example.com/", "https://hooks.example.com"),
    ],
)
def test_the_origin_with_and_without_its_port(public_url: str, signed_for: str) -> None:
    assert channel(public_url=public_url).is_authentic(signed(FIELDS, origin=signed_for))


@pytest.mark.parametrize(
    "signed_for",
    ["http://hooks.example.com", "https://hooks.example.com:8443", "https://other.example.com"],
)
def test_another_origin_is_another_url(signed_for: str) -> None:
    assert not channel().is_authentic(signed(FIELDS, origin=signed_for))


@pytest.mark.parametrize("public_url", ["", "hooks.example.com", "ftp://a.b", "https://[::1"])
def test_without_an_origin_nothing_is_authentic(public_url: str) -> None:
    assert not channel(public_url=public_url).is_authentic(signed(FIELDS, origin=public_url))


def test_the_query_is_signed_as_it_came() -> None:
    request = signed(FIELDS, target=TARGET + "?b=2&a=%2B1&blank=&a=1")
    assert channel().is_authentic(request)
    reordered = SignedRequest(TARGET + "?a=%2B1&b=2", request.fields, request.signature)
    assert not channel().is_authentic(reordered)


def test_both_tokens_of_a_rotation_and_no_other() -> None:
    assert channel().is_authentic(signed(FIELDS, token="newest"))
    assert channel().is_authentic(signed(FIELDS, token="older"))
    assert not channel().is_authentic(signed(FIELDS, token="oldest"))


def test_an_empty_token_lets_nobody_in() -> None:
    assert not channel(accounts={ACCOUNT: [""]}).is_authentic(signed(FIELDS, token=""))


def test_only_the_account_that_the_parameters_name() -> None:
    other = "AC" + "2" * 32
    two = channel(accounts={ACCOUNT: ["newest"], other: ["others"]})
    assert two.knows_account(other)
    assert not two.knows_account("AC" + "3" * 32)
    assert two.is_authentic(signed([("AccountSid", other)], token="others"))
    assert not two.is_authentic(signed([("AccountSid", other)], token="newest"))
    assert not two.is_authentic(signed([("AccountSid", "AC" + "3" * 32)]))
    assert not two.is_authentic(signed([("Body", "no account")]))
    assert not two.is_authentic(signed([*FIELDS, ("AccountSid", other)]))
    assert two.is_authentic(signed([*FIELDS, ("AccountSid", ACCOUNT)]))


@pytest.mark.parametrize(
    "bad", [None, "", "x", "ÿ" * 28, "\udcff", "=" * 28, "A" * 100_000, b"bytes", 7]
)
def test_a_bad_signature_is_false_and_never_raises(bad: Any) -> None:
    assert channel().is_authentic(SignedRequest(TARGET, FIELDS, bad)) is False


def test_text_that_is_not_unicode_is_false() -> None:
    assert not channel().is_authentic(SignedRequest("/\udcff", FIELDS, "A" * 28))
    hostile = [*FIELDS, ("Body", "\ud800")]
    assert not channel().is_authentic(SignedRequest(TARGET, hostile, "A" * 28))


def test_the_settings_header_names_the_algorithm() -> None:
    header = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    request = signed(FIELDS, settings=header, algorithm="HMAC_SHA256")
    assert channel().is_authentic(request)
    assert not channel().is_authentic(SignedRequest(TARGET, FIELDS, request.signature))
    assert channel().is_authentic(signed(FIELDS, settings="key=only"))
    for unknown in ("algorithm=HMAC_MD5", "algorithm=ÿ", "algorithm=HMAC_SHA256;"):
        assert not channel().is_authentic(signed(FIELDS, settings=unknown))


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_origins = st.builds(
    lambda scheme, host, port: f"{scheme}://{host}{port}",
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z]{1,10}(\.[a-z]{2,5}){1,2}", fullmatch=True),
    st.one_of(st.just(""), st.integers(1, 65535).map(lambda n: f":{n}")),
)
_targets = st.from_regex(r"/[a-zA-Z0-9/_.%-]{0,20}(\?[a-z0-9=&%+.]{1,20})?", fullmatch=True)


@settings(deadline=None)
@given(
    origin=_origins,
    target=_targets,
    fields=st.lists(st.tuples(_texts, _texts), max_size=8),
    token=st.text(st.characters(codec="ascii"), min_size=1, max_size=40),
    other_port=st.booleans(),
    tampered=st.booleans(),
)
def test_agrees_with_the_sdk_where_the_sdk_is_right(
    origin: str,
    target: str,
    fields: list[tuple[str, str]],
    token: str,
    other_port: bool,
    tampered: bool,
) -> None:
    validator = RequestValidator(token)
    params = MultiDict(fields)
    url = signature.origins(origin)[1 if other_port else 0] + target
    computed = validator.compute_signature(url, params)
    given_signature = computed[:-2] + "A=" if tampered else computed
    urls = [one + target for one in signature.origins(origin)]
    mine = signature.is_signed([token], urls, fields, given_signature)
    assert mine == validator.validate(origin + target, params, given_signature)


@settings(deadline=None)
@given(
    st.builds(
        SignedRequest,
        st.text(max_size=30),
        st.lists(st.tuples(st.sampled_from(["AccountSid", "Body", ""]), st.text(max_size=10))),
        st.text(max_size=40),
        st.text(max_size=40) | st.just("algorithm=HMAC_SHA256"),
    )
)
def test_hostile_requests_never_raise(request: SignedRequest) -> None:
    fields = [("AccountSid", ACCOUNT), *request.fields]
    hostile = SignedRequest(request.target, fields, request.signature, request.signature_settings)
    assert channel().is_authentic(hostile) is False


# --- inbound -------------------------------------------------------------------------------------


def params(**changes: str | list[str]) -> dict[str, str | list[str]]:
    usual: dict[str, str | list[str]] = {
        "MessageSid": SID,
        "AccountSid": ACCOUNT,
        "From": CUSTOMER,
        "To": "whatsapp:+447700900100",
        "Body": "hello",
        "ProfileName": "Lee",
        "NumMedia": "0",
        "SmsStatus": "received",
    }
    return usual | changes


def test_an_inbound_message() -> None:
    message = channel().parse(params(Latitude="51.5"))
    assert (message.sid, message.sender, message.recipient) == (
        SID,
        CUSTOMER,
        "whatsapp:+447700900100",
    )
    assert (message.body, message.profile_name, message.account_sid) == ("hello", "Lee", ACCOUNT)
    assert message.media == ()
    assert message.param("Latitude") == "51.5"


def test_values_may_come_in_lists() -> None:
    message = channel().parse({name: [str(value)] for name, value in params().items()})
    assert (message.sid, message.sender, message.body) == (SID, CUSTOMER, "hello")
    assert channel().parse(params(Body=[])).body == ""


@pytest.mark.parametrize("name", ["SmsMessageSid", "SmsSid"])
def test_the_sid_by_its_older_names(name: str) -> None:
    given_params = params(**{name: SID})
    del given_params["MessageSid"]
    assert channel().parse(given_params).sid == SID


def test_a_business_scoped_id_is_an_address() -> None:
    message = channel().parse(params(From="whatsapp:US.ABC123"))
    assert message.customer == "US.ABC123"


def test_media_without_a_text_is_no_status_callback() -> None:
    message = channel().parse(
        params(
            MessageSid="MM" + "a" * 32,
            Body="",
            NumMedia="2",
            MediaUrl0="https://api.twilio.com/m/0",
            MediaContentType0="image/jpeg",
            MediaUrl1="https://api.twilio.com/m/1",
        )
    )
    assert [(m.url[-1], m.content_type) for m in message.media] == [("0", "image/jpeg"), ("1", "")]


def test_a_file_without_a_url_does_not_cost_the_message() -> None:
    message = channel().parse(params(NumMedia="2", MediaUrl1="https://api.twilio.com/m/1"))
    assert len(message.media) == 1


@pytest.mark.parametrize(
    "changes",
    [{"MessageStatus": "delivered", "SmsStatus": "delivered"}, {"SmsStatus": "sent"}],
)
def test_a_status_callback_is_no_message(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="status callback"):
        channel().parse(params(**changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"MessageSid": ""}, "MessageSid"),
        ({"MessageSid": "SM123"}, "MessageSid"),
        ({"MessageSid": SID + "\n"}, "MessageSid"),
        ({"MessageSid": "CA" + "a" * 32}, "MessageSid"),
        ({"From": ""}, "From"),
        ({"From": "whatsapp:+44 7700 900001"}, "From"),
        ({"From": "archive#1"}, "From"),
        ({"To": "whatsapp:"}, "To"),
        ({"NumMedia": "21"}, "NumMedia"),
        ({"NumMedia": "-1"}, "NumMedia"),
        ({"NumMedia": "²"}, "NumMedia"),
        ({"NumMedia": "9" * 5000}, "NumMedia"),
    ],
)
def test_an_error_names_the_parameter_and_not_its_content(
    changes: dict[str, str], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        channel().parse(params(**changes))
    content = changes[named]
    assert not content or content not in str(caught.value)


# --- sending -------------------------------------------------------------------------------------


async def test_sends_and_returns_the_sid(twilio: TwilioDouble, make: Make) -> None:
    sid = await make().send(part(text="Grüße + 1 & more"))
    (sent,) = twilio.sent
    assert (sent.sid, sent.text) == (sid, "Grüße + 1 & more")
    assert (sent.customer, sent.business) == ("+447700900001", "+447700900100")


async def test_a_template_goes_out_instead_of_the_text(twilio: TwilioDouble, make: Make) -> None:
    template = "HX" + "a" * 32
    twilio.templates[template] = "Hello {{1}}"
    await make().send(part(content_sid=template, content_variables={"1": "Grüße ☺"}))
    await make().send(part(content_sid=template))
    assert [message.text for message in twilio.sent] == ["Hello Grüße ☺", "Hello sample 1"]


@pytest.mark.parametrize("prefix", ["whatsapp:", ""])
async def test_a_number_sends_through_its_messaging_service(
    twilio: TwilioDouble, make: Make, prefix: str
) -> None:
    service, other = "MG" + "a" * 32, "+447700900101"
    twilio.senders.add(other)
    channel = make(messaging_services={"+447700900100": service})
    for number in ("+447700900100", other):
        await channel.send(part(sender=prefix + number, recipient=prefix + "+447700900001"))
    resources = list(twilio._resources.values())
    assert [(r["from"], r["messaging_service_sid"]) for r in resources] == [
        (f"{prefix}+447700900100", service),
        (prefix + other, None),
    ]
    # The service changes nothing about how RECOVER finds it.
    found = await channel.sent_since(ACCOUNT, f"{prefix}+447700900100", f"{prefix}+447700900001", 0)
    assert [message.sid for message in found] == [resources[0]["sid"]]


async def test_an_older_token_is_tried_once_the_newest_is_refused(
    twilio: TwilioDouble, make: Make
) -> None:
    two = make(accounts={ACCOUNT: ["not yet valid", twilio.auth_token]})
    await two.send(part())
    assert len(twilio.sent) == 1


async def test_refused_credentials_are_everybodys_problem(twilio: TwilioDouble, make: Make) -> None:
    error = await failure(make(accounts={ACCOUNT: ["secret-a", "secret-b"]}).send(part()))
    assert isinstance(error, DependencyDown)
    assert error.code == "20003"
    assert "auth token" in error.reason
    assert "secret" not in str(error)


async def test_an_account_without_a_token_is_parked(make: Make) -> None:
    error = await failure(make().send(part(account_sid="AC" + "9" * 32)))
    assert isinstance(error, Permanent)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"text": ""}, "21602"),
        ({"text": "x" * 1601}, "21617"),
        ({"recipient": ""}, "21604"),
        ({"recipient": "whatsapp:nobody"}, "21211"),
        ({"sender": "whatsapp:+447700900199"}, "63007"),
        ({"recipient": "+447700900001"}, "21910"),
    ],
)
async def test_what_twilio_refuses_for_good(make: Make, changes: dict[str, str], code: str) -> None:
    error = await failure(make().send(part(**changes)))
    assert isinstance(error, Permanent)
    assert error.code == code
    assert code in error.reason


async def test_an_opted_out_recipient(twilio: TwilioDouble, make: Make) -> None:
    twilio.opted_out.add("+447700900001")
    error = await failure(make().send(part()))
    assert isinstance(error, Permanent)
    assert "opted out" in error.reason


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, 63016, Permanent),
        (400, 63018, Busy),
        (400, 63012, Temporary),
        (400, 99999, Permanent),
        (403, 20403, DependencyDown),
        (403, 20005, DependencyDown),
        (404, 20404, Permanent),
        (429, 63038, DependencyDown),
    ],
)
async def test_every_refusal_has_its_kind(
    twilio: TwilioDouble, make: Make, status: int, code: int, kind: type[DependencyError]
) -> None:
    twilio.fail_next(status=status, code=code)
    error = await failure(make().send(part()))
    assert type(error) is kind
    assert error.code == str(code)
    assert twilio.sent == []


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_a_server_error_is_never_repeated(
    twilio: TwilioDouble, make: Make, naps: Naps, status: int, accept: bool
) -> None:
    twilio.fail_next(status=status, code=20503, accept=accept)
    assert isinstance(await failure(make().send(part())), Ambiguous)
    assert len(twilio.sent) == accept
    assert naps.taken == []


@pytest.mark.parametrize("accept", [False, True])
async def test_a_lost_connection_is_ambiguous(
    twilio: TwilioDouble, make: Make, accept: bool
) -> None:
    twilio.drop_next(accept=accept)
    error = await failure(make().send(part()))
    assert isinstance(error, Ambiguous)
    assert error.code == "disconnected"
    assert len(twilio.sent) == accept


async def test_an_answer_that_takes_too_long_is_ambiguous(twilio: TwilioDouble, make: Make) -> None:
    twilio.delay = 5
    error = await failure(make(timeout_seconds=0.05).send(part()))
    assert isinstance(error, Ambiguous)
    assert error.code == "timeout"
    assert len(twilio.sent) == 1


async def test_short_throttling_is_waited_for(twilio: TwilioDouble, make: Make, naps: Naps) -> None:
    twilio.fail_next(2, status=429, code=20429, headers={"Retry-After": "2"})
    await make().send(part())
    assert naps.taken == [2, 2]
    assert len(twilio.sent) == 1


async def test_throttling_ends_after_three_tries(
    twilio: TwilioDouble, make: Make, naps: Naps
) -> None:
    twilio.fail_next(3, status=429, code=20429, headers={"Retry-After": "1"})
    error = await failure(make().send(part()))
    assert isinstance(error, Busy)
    assert error.delay == 1
    assert naps.taken == [1, 1]


@pytest.mark.parametrize("header", [{"Retry-After": "3"}, {}, {"Retry-After": "soon"}])
async def test_longer_throttling_is_the_callers(
    twilio: TwilioDouble, make: Make, naps: Naps, header: dict[str, str]
) -> None:
    twilio.fail_next(status=429, code=20429, headers=header)
    error = await failure(make().send(part()))
    assert isinstance(error, Busy)
    assert error.delay == (3 if header.get("Retry-After") == "3" else None)
    assert naps.taken == []


async def test_no_wait_goes_beyond_the_time_for_a_send(
    twilio: TwilioDouble, make: Make, naps: Naps
) -> None:
    twilio.fail_next(status=429, code=20429, headers={"Retry-After": "2"})
    assert isinstance(await failure(make(timeout_seconds=1.5).send(part())), Busy)
    assert naps.taken == []


def test_retry_after_as_a_date() -> None:
    now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    headers = {
        "Date": email.utils.format_datetime(now, usegmt=True),
        "Retry-After": email.utils.format_datetime(now + timedelta(seconds=90), usegmt=True),
    }
    assert failures.retry_after(headers) == 90
    assert failures.retry_after({"Retry-After": headers["Date"]}) is not None
    past = {"Date": headers["Retry-After"], "Retry-After": headers["Date"]}
    assert failures.retry_after(past) == 0
    assert failures.retry_after({"Retry-After": "-1"}) is None
    assert failures.retry_after({"Retry-After": "Thu, 99 Foo"}) is None


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_connection_is_tried_again_and_safe(make: Make, naps: Naps) -> None:
    error = await failure(make(base_url=f"http://127.0.0.1:{closed_port()}").send(part()))
    assert type(error) is DependencyDown
    assert error.code == failures.UNREACHABLE
    assert len(naps.taken) == 2


async def test_twilio_coming_back_between_two_tries(twilio: TwilioDouble, make: Make) -> None:
    port = int(twilio.base_url.rpartition(":")[2])
    await twilio.stop()

    async def back(seconds: float) -> None:
        await twilio.start(port)

    await make(sleep=back).send(part())
    assert len(twilio.sent) == 1


class NoNames(AbstractResolver):
    async def resolve(self, *_asked: object, **_more: object) -> list[ResolveResult]:
        raise OSError(None, "no such name")

    async def close(self) -> None:
        return None


async def test_a_name_that_does_not_resolve(make: Make, naps: Naps) -> None:
    connector = aiohttp.TCPConnector(resolver=NoNames())
    async with aiohttp.ClientSession(connector=connector) as nameless:
        channel = make(session=nameless, base_url="http://api.example.invalid")
        error = await failure(channel.send(part()))
    assert type(error) is DependencyDown
    assert "name" in error.reason
    assert len(naps.taken) == 2


async def test_no_connection_in_time_is_safe_to_repeat(
    twilio: TwilioDouble, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine stands still for longer than any gap that a short time for the whole leaves.
    monkeypatch.setattr(exchange, "CONNECT_TIMEOUT_SECONDS", 0.02)
    twilio.delay = 30
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as narrow:
        accepted = asyncio.Event()
        twilio.on_change = accepted.set
        slow = asyncio.create_task(make(session=narrow).send(part()))
        await accepted.wait()
        error = await failure(make(session=narrow).send(part()))
        assert isinstance(error, Temporary)
        assert error.code == failures.UNREACHABLE
        assert len(twilio.sent) == 1
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_server_without_tls_and_an_url_that_is_none(
    twilio: TwilioDouble, make: Make, naps: Naps
) -> None:
    plain = twilio.base_url.replace("http:", "https:")
    for base_url in (plain, "http://"):
        error = await failure(make(base_url=base_url).send(part()))
        assert isinstance(error, DependencyDown)
    assert naps.taken == []


class Stranger:
    """A server that is not Twilio: these answers in order, the last one to everything after.
    `targets`: what was asked for."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.targets: list[str] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.targets.append(head.decode().split()[1])
        writer.write(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        await writer.drain()
        writer.close()


def http(status: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        http("201 Created", b""),
        http("201 Created", b"<html>"),
        http("201 Created", b"[]"),
        http("201 Created", b'{"sid": 7}'),
        http("201 Created", b'{"sid": "SM1"}'),
        http("201 Created", b'{"sid": "SM', length=500),
        http("204 No Content", b""),
        b"garbage\r\n\r\n",
        b"",
    ],
)
async def test_a_success_without_a_readable_sid_is_ambiguous(make: Make, answer: bytes) -> None:
    async with Stranger(answer) as url:
        assert isinstance(await failure(make(base_url=url).send(part())), Ambiguous)


async def test_a_refusal_whose_body_is_cut_is_still_a_refusal(make: Make) -> None:
    async with Stranger(http("400 Bad Request", b'{"code": 21', length=500)) as url:
        assert isinstance(await failure(make(base_url=url).send(part())), Permanent)


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_redirect_is_not_followed(twilio: TwilioDouble, make: Make, status: int) -> None:
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    twilio.fail_next(status=status, code=0, headers={"Location": twilio.base_url + path})
    error = await failure(make().send(part()))
    assert isinstance(error, DependencyDown)
    assert "twilio.base_url" in error.reason
    assert twilio.sent == []


async def test_the_status_callback_goes_along(twilio: TwilioDouble, make: Make) -> None:
    seen: list[Mapping[str, str]] = []
    refusal = twilio._refusal

    def watch(form: Mapping[str, str]) -> int:
        seen.append(form)
        return refusal(form)

    twilio._refusal = watch  # type: ignore[method-assign]
    await make().send(part())
    twilio.callback_delays = (60, 60)
    await make().send(part(status_callback=ORIGIN + "/webhooks/twilio/status"))
    assert [form.get("StatusCallback") for form in seen] == [
        None,
        ORIGIN + "/webhooks/twilio/status",
    ]


# --- listing -------------------------------------------------------------------------------------

LIST = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
SINCE = 1_795_341_600_000  # 2026-11-22T10:00:00Z


def created(seconds: float) -> str:
    """A date as Twilio writes it, so long after SINCE."""
    return email.utils.format_datetime(datetime.fromtimestamp(SINCE / 1000 + seconds, UTC))


def row(number: int, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    fields = {
        "sid": f"SM{number:032x}",
        "body": f"{TEXT} {number}",
        "direction": "outbound-api",
        "date_created": created(seconds),
        "date_sent": None,
    }
    return fields | changes


def page(*rows: Any, following: Any = None) -> bytes:
    body = json.dumps({"messages": rows, "next_page_uri": following}).encode()
    return http("200 OK", body)


async def listed(channel: TwilioChannel, since: int = SINCE) -> list[tuple[str, int]]:
    """Each message's text, and its seconds after SINCE."""
    found = await channel.sent_since(ACCOUNT, part().sender, CUSTOMER, since)
    return [(m.text.removeprefix(TEXT).strip(), (m.at - SINCE) // 1000) for m in found]


@asynccontextmanager
async def answering(make: Make, *answers: bytes) -> AsyncIterator[tuple[TwilioChannel, Stranger]]:
    stranger = Stranger(*answers)
    async with stranger as url:
        yield make(base_url=url), stranger


async def test_asks_for_what_was_sent_to_the_customer_on_any_day(make: Make) -> None:
    async with answering(make, page()) as (channel, stranger):
        assert await listed(channel) == []
    (target,) = stranger.targets
    path, _, query = target.partition("?")
    assert path == LIST
    assert dict(parse_qsl(query)) == {
        "To": CUSTOMER,
        "From": "whatsapp:+447700900100",
        "PageSize": "500",
    }


async def test_pages_are_read_until_one_is_older(make: Make) -> None:
    answers = (
        page(row(9, 30), row(8, 20), following=f"{LIST}?Page=1&PageToken=PA8%2B"),
        page(row(7, -60), row(6, 10), following=f"{LIST}?Page=2"),
        page(following=f"{LIST}?Page=3"),
        page(row(5, -1), row(4, -60), following=f"{LIST}?Page=4"),
        page(row(3, 5)),
    )
    async with answering(make, *answers) as (channel, stranger):
        found = await listed(channel)
    assert [at for _, at in found if at >= 0] == [10, 20, 30]
    assert stranger.targets[1:] == [
        f"{LIST}?Page=1&PageToken=PA8%2B",
        f"{LIST}?Page=2",
        f"{LIST}?Page=3",
    ]


async def test_the_second_that_is_asked_for_is_not_older(make: Make) -> None:
    answers = (page(row(2, 0), following=f"{LIST}?Page=1"), page(row(1, 0)))
    async with answering(make, *answers) as (channel, _):
        assert await listed(channel, SINCE + 999) == [("1", 0), ("2", 0)]


async def test_a_message_on_two_pages_is_one(make: Make) -> None:
    answers = (page(row(2), row(1), following=f"{LIST}?Page=1"), page(row(1), row(0)))
    async with answering(make, *answers) as (channel, _):
        assert await listed(channel) == [("0", 0), ("1", 0), ("2", 0)]


async def test_what_is_half_readable_may_be_ours(make: Make) -> None:
    rows: tuple[dict[str, Any], ...] = (
        row(8, direction="inbound"),
        row(7, direction="outbound-reply"),
        row(6, direction=None),
        row(5, date_created=None),
        row(4, date_created="Thu, 99 Foo"),
        row(3, sid=None),
        row(2, sid=None),
        row(1, body=None, status="failed"),
        {},
    )
    answers = (page(*rows, following=f"{LIST}?Page=1"), page(row(0, date_created=7)))
    async with answering(make, *answers) as (channel, stranger):
        found = await listed(channel)
    assert sorted(text for text, _ in found) == ["", "", "0", "2", "3", "4", "5", "6", "7"]
    assert {at for _, at in found} == {0}
    assert len(stranger.targets) == 2


@pytest.mark.parametrize(
    "following",
    [
        "https://elsewhere.example.com" + LIST + "?Page=1",
        "//elsewhere.example.com" + LIST + "?Page=1",
        "@elsewhere.example.com" + LIST + "?Page=1",
        LIST.replace(ACCOUNT, "AC" + "2" * 32) + "?Page=1",
        LIST + "/../Calls.json?Page=1",
        LIST,
        "",
        7,
    ],
)
async def test_no_other_place_gets_the_credentials(make: Make, following: Any) -> None:
    async with answering(make, page(row(1), following=following)) as (channel, stranger):
        error = await failure(listed(channel))
    assert type(error) is Temporary
    assert error.code == "unreadable"
    assert len(stranger.targets) == 1


async def test_a_list_without_an_end_is_left(make: Make) -> None:
    endless = page(row(1), following=f"{LIST}?Page=1")
    async with answering(make, endless) as (channel, stranger):
        assert isinstance(await failure(listed(channel)), Permanent)
    assert len(stranger.targets) == 20


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b""),
        http("200 OK", b"<html>"),
        http("200 OK", b"[]"),
        http("200 OK", b"{}"),
        http("200 OK", b'{"messages": null}'),
        http("200 OK", b'{"messages": [7]}'),
        http("200 OK", b'{"messages": []', length=500),
        http("200 OK", b'{"messages": [' + b" " * (17 * 1024 * 1024) + b"]}"),
        http("204 No Content", b""),
        b"garbage\r\n\r\n",
        b"",
    ],
    ids=["empty", "html", "list", "other", "null", "rows", "cut", "huge", "204", "garbage", "gone"],
)
async def test_what_cannot_be_read_is_no_empty_list(make: Make, answer: bytes) -> None:
    async with answering(make, answer) as (channel, _):
        assert isinstance(await failure(listed(channel)), Temporary)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (301, None, DependencyDown),
        (400, 20001, Permanent),
        (403, None, Permanent),
        (403, 20403, Permanent),
        (403, 20005, DependencyDown),
        (404, 20404, Permanent),
        (401, 20003, DependencyDown),
        (408, None, Temporary),
        (429, 20429, Busy),
        (500, 20500, Temporary),
        (503, None, Temporary),
    ],
)
async def test_no_refusal_of_a_read_is_ambiguous(
    make: Make, status: int, code: int | None, kind: type[DependencyError]
) -> None:
    body = json.dumps({"code": code, "message": TEXT}).encode() if code else b""
    async with answering(make, http(f"{status} Some", body)) as (channel, _):
        error = await failure(listed(channel))
    assert type(error) is kind
    assert error.code == str(code or f"http_{status}")


async def test_a_read_is_repeated_whatever_became_of_it(make: Make, naps: Naps) -> None:
    answers = (http("503 Some", b""), b"garbage\r\n\r\n", page(row(1)))
    async with answering(make, *answers) as (channel, _):
        assert await listed(channel) == [("1", 0)]
    assert naps.taken == [0.1, 0.2]


async def test_a_long_pause_before_a_read_is_the_callers(make: Make, naps: Naps) -> None:
    for status in ("429", "503"):
        answer = f"HTTP/1.1 {status} Some\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
        async with answering(make, answer.encode()) as (channel, _):
            error = await failure(listed(channel))
        assert isinstance(error, Temporary)
        assert error.delay == 60
    assert naps.taken == []


async def test_a_read_that_takes_too_long(make: Make) -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    async with silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        error = await failure(listed(make(base_url=url, timeout_seconds=0.05)))
    assert type(error) is Temporary
    assert error.code == "timeout"


async def test_a_list_from_nowhere_and_for_nobody(make: Make) -> None:
    nowhere = make(base_url=f"http://127.0.0.1:{closed_port()}")
    assert type(await failure(listed(nowhere))) is DependencyDown
    assert isinstance(await failure(listed(make(accounts={}))), Permanent)


async def test_the_double_lists_what_was_sent(
    twilio: TwilioDouble, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 2)
    channel = make(accounts={ACCOUNT: ["not yet valid", twilio.auth_token]})
    sids = [await channel.send(part(text=f"text {n}")) for n in range(5)]
    found = await channel.sent_since(ACCOUNT, part().sender, CUSTOMER, 0)
    assert [(m.sid, m.text) for m in found] == [(s, f"text {n}") for n, s in enumerate(sids)]


# --- checking ------------------------------------------------------------------------------------


async def test_a_usable_account_passes(make: Make) -> None:
    await make().check_account(ACCOUNT)


async def test_check_says_that_messages_may_not_be_read(twilio: TwilioDouble, make: Make) -> None:
    twilio.fail_list_next(status=403, code=70001)
    refused = await failure(make().check_account(ACCOUNT))
    assert isinstance(refused, DependencyDown)
    assert "may not read messages" in refused.reason


async def test_check_says_what_to_change(twilio: TwilioDouble, make: Make) -> None:
    refused = await failure(make(accounts={ACCOUNT: ["wrong"]}).check_account(ACCOUNT))
    unknown = await failure(make().check_account("AC" + "9" * 32))
    twilio.account_status = "suspended"
    suspended = await failure(make().check_account(ACCOUNT))
    nobody = await failure(
        make(base_url=f"http://127.0.0.1:{closed_port()}").check_account(ACCOUNT)
    )
    async with Stranger(http("503 Service Unavailable", b"")) as url:
        sick = await failure(make(base_url=url).check_account(ACCOUNT))
    async with Stranger(http("200 OK", b"<html>")) as url:
        stranger = await failure(make(base_url=url).check_account(ACCOUNT))
    errors = (refused, unknown, suspended, nobody, sick, stranger)
    assert all(isinstance(error, DependencyDown) for error in errors)
    assert "auth token" in refused.reason
    assert "no auth token is configured" in unknown.reason
    assert "suspended" in suspended.reason
    assert "refused" in nobody.reason
    assert "503" in sick.reason
