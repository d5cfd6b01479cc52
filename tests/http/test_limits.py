"""Sizes, times and numbers have ends, and what is under way is finished."""

import asyncio
import contextlib
import socket
from typing import Any
from urllib.parse import urlencode

import pytest

from replyd.domain.callback import STATUS_PATH
from replyd.errors import Ambiguous, DependencyDown, Permanent, Temporary
from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.conftest import Log
from tests.http.wire import (
    MESSAGE,
    REPORT,
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

LIMIT = 64 * 1024


def _sized(size: int) -> tuple[bytes, str]:
    """A signed form of this many bytes."""
    empty = changed(MESSAGE, Body="")
    fields = changed(MESSAGE, Body="x" * (size - len(urlencode(empty))))
    return urlencode(fields).encode(), signature(fields)


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.read()


# --- sizes ---------------------------------------------------------------------------------------

_CHUNKED = {"Content-Length": "", "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_exactly_the_limit_is_a_message(site: Site, in_chunks: bool) -> None:
    body, signed = _sized(LIMIT)
    request = (
        post(signed=signed, headers=_CHUNKED) + chunked(body)
        if in_chunks
        else post(body, signed=signed)
    )
    assert (await site.ask(request)).status == 200
    assert len(site.accept.messages) == 1


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_one_byte_more_is_not(site: Site, in_chunks: bool) -> None:
    body, signed = _sized(LIMIT + 1)
    request = (
        post(signed=signed, headers=_CHUNKED) + chunked(body)
        if in_chunks
        else post(body, signed=signed)
    )
    assert (await site.ask(request)).status == 413
    assert site.accept.messages == []
    assert site.refusals == [(INBOUND_PATH, 413, "too_large")]


async def test_what_announces_more_is_refused_before_it_comes(site: Site) -> None:
    answer = await site.ask(post(signed="x", headers={"Content-Length": str(LIMIT + 1)}))
    assert answer.status == 413


async def test_a_body_without_end_is_read_to_the_limit(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(post(signed="x", headers=_CHUNKED))
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"

    async def flood() -> None:
        while True:
            writer.write(chunk)
            await writer.drain()

    flooding = asyncio.create_task(flood())
    try:
        assert (await read_answer(reader)).status == 413
        # The connection does not live on the stream.
        with contextlib.suppress(ConnectionError):
            await _until_closed(reader)
    finally:
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


# --- times ---------------------------------------------------------------------------------------

HALF_A_HEADER = b"POST / HTTP/1.1\r\nHost: x\r\nX-Half"


@pytest.mark.parametrize("begun", [b"", b"P", b"\r\n\r\n", HALF_A_HEADER])
async def test_headers_that_do_not_come(begun: bytes) -> None:
    async with serving(header_timeout_seconds=0.1) as site:
        started = asyncio.get_running_loop().time()
        reader, writer = await site.connect()
        writer.write(begun)
        assert await _until_closed(reader) == b""
        assert 0.09 < asyncio.get_running_loop().time() - started < 1
        assert site.refusals == []


async def test_headers_that_trickle() -> None:
    async with serving(header_timeout_seconds=0.1) as site:
        reader, writer = await site.connect()
        writer.write(HALF_A_HEADER)

        async def trickle() -> None:
            while True:
                writer.write(b"X")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        with contextlib.suppress(ConnectionError):
            assert await _until_closed(reader) == b""
        trickling.cancel()


async def test_the_second_request_has_the_same_time_for_its_headers() -> None:
    async with serving(header_timeout_seconds=0.1) as site:
        reader, writer = await site.connect()
        writer.write(signed_post(MESSAGE))
        assert (await read_answer(reader)).status == 200
        writer.write(HALF_A_HEADER)
        assert await _until_closed(reader) == b""


async def test_an_idle_connection_outlives_the_header_timeout() -> None:
    """A proxy that keeps connections would lose the message that it sends into their end."""
    async with serving(header_timeout_seconds=0.02) as site:
        reader, writer = await site.connect()
        for _ in range(3):
            writer.write(signed_post(MESSAGE))
            assert (await read_answer(reader)).status == 200
            await asyncio.sleep(0.04)


async def test_the_header_timeout_does_not_end_a_request() -> None:
    async with serving(header_timeout_seconds=0.02) as site:
        site.accept.gate = asyncio.Event()
        reader, writer = await site.connect()
        whole = signed_post(MESSAGE)
        writer.write(whole[:-10])
        await asyncio.sleep(0.03)
        writer.write(whole[-10:])
        await site.accept.started.acquire()
        await asyncio.sleep(0.03)
        site.accept.gate.set()
        assert (await read_answer(reader)).status == 200


async def test_a_slow_body() -> None:
    async with serving(body_timeout_seconds=0.1) as site:
        reader, writer = await site.connect()
        writer.write(signed_post(MESSAGE)[:-1])
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["Connection"]) == (408, "close")
        assert site.refusals == [(INBOUND_PATH, 408, "body_too_slow")]
        assert site.server.inflight == 0
        writer.close()


async def test_a_refused_body_is_not_waited_for_long(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(post(headers={"Content-Length": "100"}))
    assert (await read_answer(reader)).status == 403
    # aiohttp alone would wait 10 s.
    async with asyncio.timeout(8):
        assert await reader.read() == b""


async def test_a_client_that_leaves_within_the_body(site: Site) -> None:
    for leave in ("abort", "eof"):
        before = len(site.refusals)
        _, writer = await site.connect()
        writer.write(signed_post(MESSAGE)[:-1])
        while not site.server.inflight:
            await asyncio.sleep(0.001)
        if leave == "abort":
            writer.transport.abort()
        else:
            writer.write_eof()
        while site.server.inflight:
            await asyncio.sleep(0.001)
        assert site.refusals[before:] == [(INBOUND_PATH, 400, "broken_body")]
    assert site.accept.messages == []


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_leaves_does_not_end_what_is_being_stored(
    site: Site, reset: bool
) -> None:
    site.accept.gate = asyncio.Event()
    _, writer = await site.connect()
    writer.write(signed_post(MESSAGE))
    await site.accept.started.acquire()
    if reset:
        linger = b"\x01\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    await asyncio.sleep(0.02)
    site.accept.gate.set()
    async with asyncio.timeout(5):
        await site.accept.finished.acquire()
    assert len(site.accept.messages) == 1
    assert (await site.ask(signed_post(MESSAGE))).status == 200
    assert site.server.inflight == 0


# --- what cannot be stored -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Temporary("dynamodb", "throttled"),
        DependencyDown("sqs", "no such queue"),
        Permanent("dynamodb", "the item is too large"),
        Ambiguous("dynamodb", "no answer"),
    ],
)
async def test_not_durable(site: Site, failure: Exception) -> None:
    site.accept.failure = failure
    answer = await site.ask(signed_post(MESSAGE))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.body == b"Service Unavailable\n"
    assert site.refusals == [(INBOUND_PATH, 503, "not_durable")]
    assert site.acks == []
    site.accept.failure = None
    assert (await site.ask(signed_post(MESSAGE))).status == 200


async def test_not_durable_in_time() -> None:
    async with serving(durable_within_seconds=0.05) as site:
        site.accept.gate = asyncio.Event()
        answer = await site.ask(signed_post(MESSAGE))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert site.refusals == [(INBOUND_PATH, 503, "too_slow")]
        assert site.server.inflight == 0


@pytest.mark.parametrize("kind", [ValueError, KeyError, UnicodeError, Exception])
async def test_a_bug_is_seen_and_the_message_comes_again(
    site: Site, log: Log, kind: type[Exception]
) -> None:
    secret = "Zk7canary9Q"
    site.accept.failure = kind(secret)
    fields = changed(MESSAGE, Body=secret, ProfileName=secret)
    request = signed_post(fields, target=f"{INBOUND_PATH}?{secret}", headers={"X-Canary": secret})
    answer = await site.ask(request)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert secret.encode() not in answer.body
    assert site.refusals == [(INBOUND_PATH, 503, "bug")]
    logged = log.take()
    assert "a webhook ended with a bug" in logged
    assert kind.__name__ in logged
    assert secret not in logged
    assert "7700900" not in logged
    assert site.server.inflight == 0


async def test_a_bug_in_the_channel(log: Log) -> None:
    class Broken:
        def knows_account(self, account_sid: str) -> bool:
            raise LookupError(account_sid)

    async with serving(channel=Broken()) as site:
        assert (await site.ask(signed_post(MESSAGE))).status == 503
        assert site.refusals == [(INBOUND_PATH, 503, "bug")]
    assert "LookupError" in log.take()


# --- numbers -------------------------------------------------------------------------------------


async def _hold(site: Site, number: int) -> list[asyncio.Task[Any]]:
    site.accept.gate = asyncio.Event()
    site.accept.started = asyncio.Semaphore(0)
    held = [asyncio.create_task(site.ask(signed_post(MESSAGE))) for _ in range(number)]
    for _ in held:
        await site.accept.started.acquire()
    return held


async def test_beyond_the_limit_others_wait_outside() -> None:
    async with serving(max_inflight=2) as site:
        held = await _hold(site, 2)
        assert site.server.inflight == 2
        for target, fields in ((INBOUND_PATH, MESSAGE), (STATUS_PATH, REPORT)):
            answer = await site.ask(signed_post(fields, target=target))
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        # It costs nothing to say what would not be served anyway.
        assert (await site.ask(STRAY)).status == 404
        assert site.refusals[:2] == [
            (INBOUND_PATH, 503, "overloaded"),
            (STATUS_PATH, 503, "overloaded"),
        ]
        assert site.accept.gate is not None
        site.accept.gate.set()
        assert [answer.status for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await site.ask(signed_post(MESSAGE))).status == 200
        assert len(site.accept.messages) == 3
        assert site.server.inflight == 0


async def test_a_body_that_was_not_waited_for_is_not_the_next_request() -> None:
    async with serving(max_inflight=1) as site:
        (held,) = await _hold(site, 1)
        reader, writer = await site.connect()
        writer.write(post(signed="x", headers={"Content-Length": "10"}))
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["Connection"]) == (503, "close")
        assert site.accept.gate is not None
        site.accept.gate.set()
        assert (await held).status == 200


# --- stop ----------------------------------------------------------------------------------------


async def _refuses_connections(port: int) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.005)


async def test_stop_finishes_what_is_under_way(site: Site) -> None:
    idle, _ = await site.connect()
    reader, writer = await site.connect()
    writer.write(signed_post(MESSAGE))
    assert (await read_answer(reader)).status == 200
    half_reader, half_writer = await site.connect()
    whole = signed_post(MESSAGE)
    half_writer.write(whole[:-20])
    (held,) = await _hold(site, 1)
    while site.server.inflight < 2:
        await asyncio.sleep(0.001)

    stopping = asyncio.create_task(site.server.stop())
    await _refuses_connections(site.server.port)
    half_writer.write(whole[-20:])
    await site.accept.started.acquire()
    assert not stopping.done()
    assert site.accept.gate is not None
    site.accept.gate.set()
    for answer in (await held, await read_answer(half_reader)):
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
    await stopping
    assert len(site.accept.messages) == 3
    assert await _until_closed(idle) == b""
    assert await _until_closed(reader) == b""
    await site.server.stop()


async def test_stop_does_not_wait_for_idle_connections(site: Site) -> None:
    readers = [(await site.connect())[0] for _ in range(3)]
    # The headers of their first requests would have as long.
    async with asyncio.timeout(4.5):
        await site.server.stop()
    for reader in readers:
        assert await _until_closed(reader) == b""


async def test_a_connection_that_stays_gets_one_more_answer(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(signed_post(MESSAGE))
    assert (await read_answer(reader)).status == 200
    (held,) = await _hold(site, 1)
    stopping = asyncio.create_task(site.server.stop())
    await _refuses_connections(site.server.port)
    writer.write(signed_post(MESSAGE))
    await site.accept.started.acquire()
    assert site.accept.gate is not None
    site.accept.gate.set()
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert (await held).status == 200
    await stopping


async def test_stop_does_not_wait_for_ever() -> None:
    async with serving(durable_within_seconds=0.05, body_timeout_seconds=60) as site:
        reader, writer = await site.connect()
        writer.write(signed_post(MESSAGE)[:-1])
        while not site.server.inflight:
            await asyncio.sleep(0.001)
        async with asyncio.timeout(9):
            await site.server.stop()
        assert await _until_closed(reader) == b""


async def test_a_port_that_is_taken_is_an_error(site: Site) -> None:
    with pytest.raises(OSError, match="address already in use"):
        async with serving(port=site.server.port):
            pass
