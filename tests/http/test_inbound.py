"""Signed messages come in whole; anything else is refused before it is looked at."""

import base64
import hashlib
import hmac
import random
from urllib.parse import quote, quote_plus, urlencode

import pytest

from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import (
    ACCOUNT,
    CUSTOMER,
    MESSAGE,
    OLDER_TOKEN,
    ORIGIN,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    REPORT,
    SID,
    STRANGE_ACCOUNT,
    TOKEN,
    Fields,
    Site,
    changed,
    post,
    read_answer,
    serving,
    signature,
    signed_post,
)


async def test_a_signed_message_is_accepted_once(site: Site) -> None:
    answer = await site.ask(signed_post(MESSAGE))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    assert answer.body == b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
    (message,) = site.accept.messages
    assert (message.sid, message.sender, message.body) == (SID, CUSTOMER, "hello")
    assert message.account_sid == ACCOUNT
    assert message.params == dict(MESSAGE)
    assert site.refusals == []
    assert len(site.acks) == 1
    assert site.server.inflight == 0


async def test_every_parameter_arrives_as_it_was_sent(site: Site) -> None:
    fields = [
        *changed(MESSAGE, Body="a+b c&d=e%f #?;\r\n\t\0 „Grüße“ 👋🏽 é e\u0301"),
        ("ButtonPayload", ""),
        ("Repeated", "2"),
        ("Repeated", "1"),
        ("Repeated", ""),
        ("Naïve & Odd=Name", "+"),
    ]
    assert (await site.ask(signed_post(fields))).status == 200
    (message,) = site.accept.messages
    assert message.body == dict(fields)["Body"]
    expected: dict[str, str | list[str]] = dict(fields)
    assert message.params == expected | {"Repeated": ["2", "1", ""]}


@pytest.mark.parametrize(
    "encoded",
    [
        urlencode(MESSAGE),
        urlencode(MESSAGE, quote_via=quote),
        urlencode(MESSAGE, safe=":+/").replace("+", "%2B"),
        urlencode(MESSAGE).replace("%3A", "%3a").replace("%2B", "%2b"),
        urlencode(MESSAGE).replace("hello", "%68%65llo"),
    ],
    ids=["plus", "percent-20", "unescaped", "lower case", "needless escapes"],
)
async def test_however_the_form_was_escaped(site: Site, encoded: str) -> None:
    answer = await site.ask(post(encoded.encode(), signed=signature(MESSAGE)))
    assert answer.status == 200
    assert site.accept.messages[0].params == dict(MESSAGE)


async def test_raw_unicode_is_read_as_utf_8_whatever_the_header_says(site: Site) -> None:
    fields = changed(MESSAGE, Body="Grüße")
    body = urlencode(fields).replace(quote_plus("Grüße"), "Grüße").encode()
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded; charset=utf-7"):
        request = post(body, signed=signature(fields), headers={"Content-Type": content_type})
        assert (await site.ask(request)).status == 200
    assert {message.body for message in site.accept.messages} == {"Grüße"}


async def test_the_order_of_the_parameters_does_not_matter(site: Site) -> None:
    fields = list(MESSAGE)
    for seed in range(5):
        random.Random(seed).shuffle(fields)
        request = post(urlencode(fields).encode(), signed=signature(MESSAGE))
        assert (await site.ask(request)).status == 200
    assert len(site.accept.messages) == 5


@pytest.mark.parametrize(
    "query", ["?", "?a=1", "?b=2&a=%2B1&blank=&a=1", "?x=%zz&y=%C3%A9", "?/../?"]
)
async def test_the_signature_is_over_the_target_as_it_came(site: Site, query: str) -> None:
    target = INBOUND_PATH + query
    body = urlencode(MESSAGE).encode()
    good = signature(MESSAGE, target=target)
    assert (await site.ask(post(body, target=target, signed=good))).status == 200
    assert (await site.ask(post(body, signed=good))).status == 403
    other = post(body, target=target + "x", signed=good)
    assert (await site.ask(other)).status == 403
    assert len(site.accept.messages) == 1


async def test_what_a_proxy_says_about_the_host_does_not_matter(site: Site) -> None:
    lies = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "81",
        "X-Forwarded-Prefix": "/evil",
        "X-Original-URL": "/evil",
        "Forwarded": "host=evil.example;proto=http",
        "X-HTTP-Method-Override": "DELETE",
    }
    assert (await site.ask(signed_post(MESSAGE, headers=lies))).status == 200
    for origin in ("http://evil.example", "https://evil.example", "http://hooks.example.com"):
        signed = signature(MESSAGE, origin=origin)
        request = post(urlencode(MESSAGE).encode(), signed=signed, headers=lies)
        assert (await site.ask(request)).status == 403


async def test_twilio_may_sign_with_the_port(site: Site) -> None:
    signed = signature(MESSAGE, origin=ORIGIN + ":443")
    assert (await site.ask(post(urlencode(MESSAGE).encode(), signed=signed))).status == 200


async def test_both_tokens_of_a_rotation(site: Site) -> None:
    body = urlencode(MESSAGE).encode()
    for token, status in ((TOKEN, 200), (OLDER_TOKEN, 200), (OTHER_TOKEN, 403), ("", 403)):
        signed = signature(MESSAGE, token=token)
        assert (await site.ask(post(body, signed=signed))).status == status
    assert len(site.accept.messages) == 2


async def test_a_subaccount_signs_with_its_own_token(site: Site) -> None:
    fields = changed(MESSAGE, AccountSid=OTHER_ACCOUNT)
    body = urlencode(fields).encode()
    for token, status in ((TOKEN, 403), (OTHER_TOKEN, 200)):
        signed = signature(fields, token=token)
        assert (await site.ask(post(body, signed=signed))).status == status
    assert [message.account_sid for message in site.accept.messages] == [OTHER_ACCOUNT]


_GOOD = signature(MESSAGE)


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "=" * 28,
        _GOOD[:-2] + "A=" if _GOOD[-2] != "A" else _GOOD[:-2] + "B=",
        _GOOD.swapcase(),
        _GOOD + "=",
        _GOOD[:-1],
        f"{_GOOD}, {_GOOD}",
        f'"{_GOOD}"',
        "ÿ" * 28,
        _GOOD[:-1] + "👋",
        "A" * 8000,
        "None",
    ],
)
async def test_a_bad_signature(site: Site, bad: str) -> None:
    assert (await site.ask(post(urlencode(MESSAGE).encode(), signed=bad))).status == 403
    assert site.accept.messages == []
    assert site.refusals == [(INBOUND_PATH, 403, "bad_signature")]


@pytest.mark.parametrize("raw", [b"\xff\xfe" * 14, b"\xed\xa0\x80", bytes(range(0x80, 0xA0))])
async def test_a_signature_that_is_no_text(site: Site, raw: bytes) -> None:
    request = post(urlencode(MESSAGE).encode(), extra=[b"X-Twilio-Signature: " + raw])
    assert (await site.ask(request)).status == 403
    assert site.refusals == [(INBOUND_PATH, 403, "bad_signature")]


async def test_the_first_of_two_signatures_counts(site: Site) -> None:
    extra = [b"X-Twilio-Signature: " + _GOOD.encode()]
    answer = await site.ask(post(urlencode(MESSAGE).encode(), signed="x", extra=extra))
    assert answer.status == 403


async def test_without_a_signature_the_body_is_not_waited_for(site: Site) -> None:
    for headers in (
        {"Content-Length": "60000"},
        {"X-Twilio-Signature": " ", "Content-Length": "9"},
    ):
        answer = await site.ask(post(headers=headers))
        assert answer.status == 403
        assert answer.headers["Connection"] == "close"
    assert site.refusals == [(INBOUND_PATH, 403, "no_signature")] * 2


async def test_without_a_signature_nobody_is_told_to_send_the_body(site: Site) -> None:
    headers = {"Content-Length": "60000", "Expect": "100-continue"}
    assert (await site.ask(post(headers=headers))).status == 403
    headers |= {"Content-Length": "65537", "X-Twilio-Signature": "x"}
    assert (await site.ask(post(headers=headers))).status == 413


async def test_a_client_that_waits_for_100_is_told_to_go_on(site: Site) -> None:
    whole = signed_post(MESSAGE, headers={"Expect": "100-continue"})
    head, _, body = whole.partition(b"\r\n\r\n")
    reader, writer = await site.connect()
    writer.write(head + b"\r\n\r\n")
    assert (await read_answer(reader)).status == 100
    writer.write(body)
    answer = await read_answer(reader)
    assert answer.status == 200
    assert answer.body.endswith(b"<Response/>")


@pytest.mark.parametrize("token", [TOKEN, "", OTHER_TOKEN])
@pytest.mark.parametrize("account", [STRANGE_ACCOUNT, "", None, ACCOUNT.lower(), ACCOUNT + " "])
async def test_an_account_that_is_not_configured(
    site: Site, account: str | None, token: str
) -> None:
    fields = changed(MESSAGE, AccountSid=account)
    signed = signature(fields, token=token)
    assert (await site.ask(post(urlencode(fields).encode(), signed=signed))).status == 403
    assert site.accept.messages == []
    assert site.refusals == [(INBOUND_PATH, 403, "unknown_account")]


@pytest.mark.parametrize("second", [STRANGE_ACCOUNT, OTHER_ACCOUNT, ""])
@pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN, ""])
@pytest.mark.parametrize("ours_first", [True, False])
async def test_two_accounts_in_one_request_are_none(
    site: Site, second: str, token: str, ours_first: bool
) -> None:
    """Whoever has one account's token must not be taken for another account."""
    both = [("AccountSid", ACCOUNT), ("AccountSid", second)]
    fields = changed(MESSAGE, AccountSid=None) + (both if ours_first else both[::-1])
    signed = signature(fields, token=token)
    assert (await site.ask(post(urlencode(fields).encode(), signed=signed))).status == 403
    assert site.accept.messages == []


async def test_one_account_named_twice_is_that_account(site: Site) -> None:
    assert (await site.ask(signed_post([*MESSAGE, ("AccountSid", ACCOUNT)]))).status == 200
    assert [message.account_sid for message in site.accept.messages] == [ACCOUNT]


async def test_an_account_in_the_query_is_not_looked_at(site: Site) -> None:
    target = f"{INBOUND_PATH}?AccountSid={ACCOUNT}"
    fields = changed(MESSAGE, AccountSid=None)
    assert (await site.ask(signed_post(fields, target=target))).status == 403


@pytest.mark.parametrize(
    "fields",
    [
        changed(MESSAGE, From=None),
        changed(MESSAGE, From=""),
        changed(MESSAGE, To=None),
        changed(MESSAGE, MessageSid="SM123"),
        changed(MESSAGE, MessageSid="CA" + "0" * 32),
        changed(MESSAGE, MessageSid=None, SmsSid=None, SmsMessageSid=None),
        changed(MESSAGE, NumMedia="1000000000"),
        changed(MESSAGE, NumMedia="-1"),
        [("AccountSid", ACCOUNT)],
        REPORT,
    ],
)
async def test_signed_but_no_message(site: Site, fields: Fields) -> None:
    assert (await site.ask(signed_post(fields))).status == 400
    assert site.accept.messages == []
    assert site.refusals == [(INBOUND_PATH, 400, "not_a_message")]


async def test_media_without_a_text_is_a_message(site: Site) -> None:
    fields = changed(
        MESSAGE,
        Body="",
        NumMedia="1",
        MediaUrl0="https://api.twilio.com/media/1",
        MediaContentType0="image/jpeg",
        MessageType="image",
    )
    assert (await site.ask(signed_post(fields))).status == 200
    (message,) = site.accept.messages
    assert message.body == ""
    assert [media.content_type for media in message.media] == ["image/jpeg"]


async def test_a_business_scoped_sender(site: Site) -> None:
    fields = changed(MESSAGE, From="whatsapp:US.ABC123", WaId=None)
    assert (await site.ask(signed_post(fields))).status == 200
    assert site.accept.messages[0].customer == "US.ABC123"


def _signed_bytes(pairs: list[tuple[bytes, bytes]]) -> str:
    """What a signer would make that does not know UTF-8 from other bytes."""
    data = (ORIGIN + INBOUND_PATH).encode() + b"".join(k + v for k, v in sorted(pairs))
    return base64.b64encode(hmac.new(TOKEN.encode(), data, hashlib.sha1).digest()).decode()


@pytest.mark.parametrize(
    "value", [b"\xff", b"\xed\xa0\x80", b"caf\xe9", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"]
)
@pytest.mark.parametrize("escaped", [True, False])
async def test_what_is_not_utf_8_is_never_signed(site: Site, value: bytes, escaped: bool) -> None:
    pairs = [(k.encode(), v.encode()) for k, v in changed(MESSAGE, Body=None)] + [(b"Body", value)]
    body = b"&".join(
        quote_plus(k).encode()
        + b"="
        + (v if v == value and not escaped else quote_plus(v).encode())
        for k, v in pairs
    )
    assert (await site.ask(post(body, signed=_signed_bytes(pairs)))).status == 403
    assert site.accept.messages == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"AccountSid": "%b"}' % ACCOUNT.encode()),
        ("application/json", b"[" * 60_000),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="Acc'),
        ("multipart/form-data", b"--\r\n\r\n--"),
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"\0" * 1000),
        ("application/x-www-form-urlencoded", b"%" * 60_000),
        ("application/x-www-form-urlencoded", b"=" * 60_000),
        ("application/x-www-form-urlencoded", b"AccountSid"),
        ("not a type; charset=\0", b"a=b"),
    ],
)
async def test_other_bodies(site: Site, content_type: str, body: bytes) -> None:
    """The signature is what a signer makes who leaves the body out, as Twilio does for JSON."""
    headers = {"Content-Type": content_type.replace("\0", "")}
    answer = await site.ask(post(body, signed=signature([]), headers=headers))
    assert answer.status == 403
    assert site.accept.messages == []


async def test_a_connection_serves_many_messages() -> None:
    async with serving(max_inflight=1) as site:
        reader, writer = await site.connect()
        for _ in range(3):
            writer.write(signed_post(MESSAGE))
            assert (await read_answer(reader)).status == 200
        assert len(site.accept.messages) == 3
