"""What strangers send is neither echoed nor logged, and the answers are few."""

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from urllib.parse import urlencode

import pytest

from replyd.domain.callback import STATUS_PATH
from replyd.domain.events import RequestRefused
from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import (
    ACCOUNT,
    MESSAGE,
    STRAY,
    Site,
    changed,
    chunked,
    post,
    read_answer,
    serving,
    signature,
    signed_post,
)

CANARY = "Zk7canary9Q"
C = CANARY.encode()
_FORM = urlencode(MESSAGE).encode()


def _line(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([first, b"Host: " + C, *headers, b"", b""]) + body


def _bad_chunk(signed: str) -> bytes:
    headers = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    return post(b"", signed=signed, headers=headers) + b"5\r\nabcde\r\n" + C + b"\r\n\r\n"


MALFORMED = {
    "no http": C * 10 + b"\r\n\r\n",
    "bad version": _line(b"POST / HTTP/" + C),
    "old version": _line(b"POST / HTTP/0.9", C),
    "far version": _line(b"POST /" + C + b" HTTP/7.3"),
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + C,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + C + b"\r\n\r\n",
    "unknown method": _line(C + b" / HTTP/1.1"),
    "method of odd bytes": _line(b"P\xffST /" + C + b" HTTP/1.1"),
    "space in target": _line(b"POST /" + C + b" " + C + b" HTTP/1.1"),
    "raw bytes in target": _line(b"POST /" + C + b"\xff\xfe HTTP/1.1"),
    "no colon": _line(b"POST / HTTP/1.1", C),
    "bad header name": _line(b"POST / HTTP/1.1", C + b"(: " + C),
    "nul in a header": _line(b"POST / HTTP/1.1", b"X: " + C + b"\0" + C),
    "bare cr": _line(b"POST / HTTP/1.1", b"X: " + C + b"\r" + C),
    "folded header": _line(b"POST / HTTP/1.1", b"X: 1", b" " + C),
    "no host": b"POST / HTTP/1.1\r\nX: " + C + b"\r\n\r\n",
    "two hosts": _line(b"POST / HTTP/1.1", b"Host: " + C),
    "bad length": _line(b"POST / HTTP/1.1", b"Content-Length: " + C),
    "negative length": _line(b"POST / HTTP/1.1", b"Content-Length: -1", C),
    "signed length": _line(b"POST / HTTP/1.1", b"Content-Length: +1", body=C),
    "huge length": _line(b"POST / HTTP/1.1", b"Content-Length: " + b"9" * 40, body=C),
    "two lengths": _line(
        b"POST / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2", b"X: " + C
    ),
    "length and chunks": _line(
        b"POST / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"X: " + C
    ),
    "unknown transfer": _line(b"POST / HTTP/1.1", b"Transfer-Encoding: " + C),
    "long target": _line(b"POST /" + C * 1000 + b" HTTP/1.1"),
    "long header": _line(b"POST / HTTP/1.1", b"X: " + C * 1000),
    "long header name": _line(b"POST / HTTP/1.1", C * 1000 + b": 1"),
    "many headers": _line(b"POST / HTTP/1.1", *[b"X-%d: %b" % (n, C) for n in range(200)]),
    "bad authority": _line(b"POST http://[" + C + b"/ HTTP/1.1"),
    "bad port": _line(b"POST http://x:" + C + b"/ HTTP/1.1"),
    "old websocket": _line(b"GET / HTTP/1.1", b"Sec-WebSocket-Key1: " + C),
    "query only": _line(b"GET ?" + C + b" HTTP/1.1"),
    "broken chunk": _line(
        b"POST /x HTTP/1.1", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n" + C + b"\r\n"
    ),
}
UNKNOWN = {
    "path": _line(b"POST /" + C + b" HTTP/1.1"),
    "escaped path": _line(b"POST /%5A%6b7canary9Q HTTP/1.1"),
    "query": _line(b"GET /?" + C + b" HTTP/1.1"),
    "options": _line(b"OPTIONS * HTTP/1.1", b"Origin: " + C),
    "connect": _line(b"CONNECT " + C + b":443 HTTP/1.1", body=C),
    "websocket": _line(
        b"GET /" + C + b" HTTP/1.1",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        body=C * 10,
    ),
    "expect": _line(b"POST /" + C + b" HTTP/1.1", b"Expect: " + C),
    "http 1.0": b"POST /" + C + b" HTTP/1.0\r\n\r\n",
    "absolute form": _line(b"POST http://" + C + INBOUND_PATH.encode() + b" HTTP/1.1"),
    "two slashes": _line(b"POST /" + INBOUND_PATH.encode() + b"?" + C + b" HTTP/1.1"),
    "two slashes and host": _line(b"POST //" + C + INBOUND_PATH.encode() + b" HTTP/1.1"),
    "trailing slash": _line(b"POST " + INBOUND_PATH.encode() + b"/?" + C + b" HTTP/1.1"),
    "encoded slash": _line(b"POST /webhooks/twilio%2Fwhatsapp?" + C + b" HTTP/1.1"),
    "encoded letter": _line(b"POST /webhooks/twilio/whats%61pp?" + C + b" HTTP/1.1"),
    "dots": _line(b"POST /x/.." + INBOUND_PATH.encode() + b"?" + C + b" HTTP/1.1"),
    "parameters": _line(b"POST " + INBOUND_PATH.encode() + b";" + C + b" HTTP/1.1"),
    "upper case": _line(b"POST " + INBOUND_PATH.upper().encode() + b"?" + C + b" HTTP/1.1"),
    "surrogate escapes": _line(b"POST /%ED%A0%80" + C + b" HTTP/1.1"),
    "nul escape": _line(b"POST /%00" + C + b" HTTP/1.1"),
    "body": _line(b"POST / HTTP/1.1", b"Content-Length: %d" % len(C), body=C),
    "body without a route": _line(
        b"POST /x HTTP/1.1", b"Transfer-Encoding: chunked", body=chunked(C)
    ),
}
REFUSED = {
    "query": post(_FORM, target=f"{INBOUND_PATH}?{CANARY}", signed="x"),
    "signature": post(_FORM, signed=CANARY),
    "settings": post(
        _FORM, signed=CANARY, headers={"X-Twilio-Webhooks-Signature-Settings": CANARY}
    ),
    "header": post(_FORM, headers={CANARY: CANARY, "Cookie": CANARY, "User-Agent": CANARY}),
    "body": post(C, signed="x"),
    "account": post(b"AccountSid=" + C, signed="x"),
    "content type": post(_FORM, signed="x", headers={"Content-Type": CANARY}),
    "charset": post(
        _FORM, signed="x", headers={"Content-Type": f"application/json; charset={CANARY}"}
    ),
    "expect": post(_FORM, signed="x", headers={"Expect": CANARY}),
    "encoding": post(_FORM, signed="x", headers={"Content-Encoding": CANARY}),
    "no gzip": post(C, signed="x", headers={"Content-Encoding": "gzip"}),
    "not a message": signed_post(changed(MESSAGE, MessageSid=CANARY, From=CANARY, To=CANARY)),
    "not a report": signed_post([("AccountSid", ACCOUNT), (CANARY, CANARY)], target=STATUS_PATH),
    "many fields": post(b"&".join([C] * 1000), signed="x"),
    "bad chunk": _bad_chunk("x"),
    "bad chunk without signature": _bad_chunk(""),
    "bad chunk with a good signature": _bad_chunk(signature(MESSAGE)),
    "delete": _line(b"DELETE " + INBOUND_PATH.encode() + b" HTTP/1.1", body=b""),
}


async def _answers_without_a_trace(site: Site, request: bytes) -> bytes:
    """The conftest checks that nothing is logged."""
    answer = await site.raw(request, then_eof=False)
    assert CANARY.lower().encode() not in answer.lower()
    assert b"aiohttp" not in answer
    assert b"python" not in answer.lower()
    assert b"\r\nServer: replyd\r\n" in answer
    assert CANARY not in repr(site.telemetry.events)
    assert site.accept.messages == []
    assert site.track.reports == []
    return answer


@pytest.mark.parametrize("name", MALFORMED)
async def test_bad_http(site: Site, name: str) -> None:
    answer = await _answers_without_a_trace(site, MALFORMED[name])
    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\nBad Request\n")
    assert site.refusals == [("other", 400, "bad_http")]


@pytest.mark.parametrize("name", UNKNOWN)
async def test_unknown_paths(site: Site, name: str) -> None:
    request = UNKNOWN[name].replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
    answer = await _answers_without_a_trace(site, request)
    assert answer.split(b" ", 2)[1] == b"404"
    assert site.refusals[0] == ("other", 404, "no_route")


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals(name: str) -> None:
    async with serving(body_timeout_seconds=0.2) as site:
        request = REFUSED[name].replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
        answer = await _answers_without_a_trace(site, request)
        assert answer.split(b" ", 2)[1] in (b"400", b"403", b"405", b"408")
        assert len(site.refusals) == 1


@pytest.mark.parametrize("path", [INBOUND_PATH, STATUS_PATH])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods(site: Site, method: str, path: str) -> None:
    reader, writer = await site.connect()
    writer.write(f"{method} {path}?{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await read_answer(reader, to_head=method == "HEAD")
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"
    assert site.refusals == [(path, 405, "no_route")]
    # The connection is in order.
    writer.write(signed_post(MESSAGE))
    assert (await read_answer(reader)).status == 200


async def test_a_line_that_is_just_not_too_long(site: Site) -> None:
    long = {f"X-{n}": "x" * 8000 for n in range(3)}
    assert (await site.ask(signed_post(MESSAGE, headers=long))).status == 200


@pytest.mark.parametrize("apart", [False, True])
async def test_headers_together_have_a_limit(site: Site, apart: bool) -> None:
    lines = [f"X-{n}: {CANARY}{'x' * 7900}\r\n".encode() for n in range(5)]
    reader, writer = await site.connect()
    # Neither an empty line ahead nor an end behind the limit lets more in.
    for piece in (b"\r\n\r\n", b"POST / HTTP/1.1\r\n", *lines, b"Host: x\r\n\r\n"):
        writer.write(piece)
        if apart:
            await asyncio.sleep(0.001)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ") or (apart and not answer)
    assert C not in answer
    assert site.refusals == [("other", 400, "bad_http")]


async def test_the_limit_of_headers_is_for_each_request_and_not_for_bodies(site: Site) -> None:
    """Whichever way the bytes fall into packets."""
    long = {f"X-{n}": "x" * 8000 for n in range(3)}
    body = changed(MESSAGE, Body="x" * 40_000)
    request = signed_post(body, headers=long)
    end = request.index(b"\r\n\r\n")
    for cut in (1, end + 1, end + 2, end + 3, end + 4, end + 30_000):
        reader, writer = await site.connect()
        for _ in range(2):
            writer.write(request[:cut])
            await asyncio.sleep(0.001)
            writer.write(request[cut:])
            assert (await read_answer(reader)).status == 200


async def test_http_1_0(site: Site) -> None:
    request = signed_post(MESSAGE).replace(b"HTTP/1.1\r\nHost: hooks.example.com", b"HTTP/1.0")
    answer = await site.raw(request)
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert len(site.accept.messages) == 1


async def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    bad = post(_FORM, signed="x")
    reader, writer = await site.connect()
    writer.write(signed_post(MESSAGE) + bad + signed_post(MESSAGE, target=INBOUND_PATH + "?2"))
    assert [(await read_answer(reader)).status for _ in range(3)] == [200, 403, 200]
    assert len(site.accept.messages) == 2


async def test_pipelining_without_end_is_bounded(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(STRAY * 2000)
    for _ in range(2000):
        assert (await read_answer(reader)).status == 404


async def test_a_request_does_not_hide_in_the_body_of_another(site: Site) -> None:
    hidden = signed_post(MESSAGE)
    reader, writer = await site.connect()
    writer.write(post(hidden) + post(hidden, close=True))
    assert [(await read_answer(reader)).status for _ in range(2)] == [403, 403]
    assert await reader.read() == b""
    # Where the end of the body was not seen, the connection ends.
    unfinished = post(headers={"Content-Length": str(len(hidden) + 1)})
    reader, writer = await site.connect()
    writer.write(unfinished)
    assert (await read_answer(reader)).status == 403
    writer.write(hidden + b"x" + hidden)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert site.accept.messages == []


async def test_a_body_that_turns_out_to_be_broken() -> None:
    """aiohttp does not tell the reader of the body, whose time runs out."""
    async with serving(body_timeout_seconds=0.2) as site:
        headers = {"Content-Length": "", "Transfer-Encoding": "chunked", "Expect": "100-continue"}
        reader, writer = await site.connect()
        writer.write(post(signed="x", headers=headers))
        assert (await read_answer(reader)).status == 100
        writer.write(C + b"\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.count(b"HTTP/1.") == 1
        assert C not in answer


async def test_a_body_that_breaks_while_it_is_thrown_away(site: Site) -> None:
    headers = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    for closing in (C + b"\r\n\r\n", b""):
        reader, writer = await site.connect()
        writer.write(post(headers=headers))
        assert (await read_answer(reader)).status == 403
        writer.write(b"5\r\nabcde\r\n" + closing)
        if closing:
            assert await reader.read() == b""
        else:
            writer.transport.abort()


async def test_an_upgrade_is_ignored(site: Site) -> None:
    headers = {"Connection": "upgrade", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert (await site.ask(signed_post(MESSAGE, headers=headers))).status == 200
    headers = {"Connection": "upgrade", "Upgrade": "websocket"}
    assert (await site.ask(signed_post(MESSAGE, headers=headers))).status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, gzip"])
async def test_a_compressed_body_is_not_unpacked(site: Site, coding: str) -> None:
    zeros = b"Body=" + b"0" * 10_000_000
    bomb = zlib.compress(zeros) if coding == "deflate" else gzip.compress(zeros)
    assert len(bomb) < 64 * 1024
    del zeros
    tracemalloc.start()
    try:
        answer = await site.ask(post(bomb, signed="x", headers={"Content-Encoding": coding}))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 403
    assert peak < 2_000_000


async def test_a_compressed_message_is_no_message(site: Site) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = await site.ask(post(gzip.compress(_FORM), signed=signature(MESSAGE), headers=headers))
    assert answer.status == 403


async def test_ten_thousand_parameters_cost_nothing(site: Site) -> None:
    body = b"AccountSid=" + ACCOUNT.encode() + b"&a=b" * 10_000
    started = asyncio.get_running_loop().time()
    assert (await site.ask(post(body, signed="x"))).status == 400
    assert asyncio.get_running_loop().time() - started < 0.5
    assert site.refusals == [(INBOUND_PATH, 400, "too_many_fields")]
    # Twilio's own have room.
    fields = [*MESSAGE, *((f"Field{n}", "x") for n in range(200 - len(MESSAGE)))]
    assert (await site.ask(signed_post(fields))).status == 200
    assert (await site.ask(signed_post([*fields, ("x", "")]))).status == 400


async def test_refusals_are_counted_by_endpoint(site: Site) -> None:
    await site.ask(post(_FORM, target=STATUS_PATH))
    await site.ask(post(_FORM, target="/" + CANARY))
    await site.ask(post(_FORM))
    assert site.telemetry.events == [
        RequestRefused(STATUS_PATH, 403, "no_signature"),
        RequestRefused("other", 404, "no_route"),
        RequestRefused(INBOUND_PATH, 403, "no_signature"),
    ]
