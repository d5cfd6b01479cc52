"""The operations port takes what strangers send no worse than the public one."""

import asyncio
import time
import tracemalloc
import zlib
from functools import cache
from urllib.parse import urlsplit

import pytest

from tests.http.test_operator_api import ONE, TOKEN, Office, office, working
from tests.http.test_ops import operating
from tests.http.test_strangers import CANARY, MALFORMED, UNKNOWN, C
from tests.http.wire import Answer, read_answer
from tests.support.cpu import spent

__all__ = ["office"]
AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"


async def _raw(url: str, request: bytes) -> bytes:
    """All that comes back. The conftest checks that nothing is logged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def _ask(url: str, request: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await read_answer(reader)
    finally:
        writer.close()


@pytest.mark.parametrize("name", [*MALFORMED, *UNKNOWN])
async def test_without_a_trace(name: str) -> None:
    request = (MALFORMED | UNKNOWN)[name]
    request = request.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
    async with operating() as ops:
        answer = await _raw(ops.url, request)
    assert answer.split(b" ", 2)[1] == (b"400" if name in MALFORMED else b"404")
    assert b"\r\nServer: replyd\r\n" in answer
    assert CANARY.lower().encode() not in answer.lower()
    for word in (b"aiohttp", b"python"):
        assert word not in answer.lower()


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Half"])
async def test_headers_that_do_not_come(begun: bytes) -> None:
    async with working(header_seconds=0.05) as office:
        assert await _raw(office.url, begun) == b""


async def test_headers_without_end(office: Office) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (n, C * 600) for n in range(6))
    answer = await _raw(office.url, b"GET /livez HTTP/1.1\r\n" + lines)
    assert answer.startswith(b"HTTP/1.1 400 ")


@cache
def _bomb(*, deflate: bool = False) -> bytes:
    """Below 64 KiB, and 60 MB when it is unpacked."""
    packer = zlib.compressobj(wbits=15 if deflate else 31)
    zeros = b"0" * 1_000_000
    bomb = b"".join([*(packer.compress(zeros) for _ in range(60)), packer.flush()])
    assert len(bomb) < 64 * 1024
    return bomb


def _post(body: bytes, *, coding: str, authorized: bool, path: str = ONE + "/reply") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED if authorized else ''}"
        f"Idempotency-Key: k\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("authorized", [False, True])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_not_unpacked(
    office: Office, coding: str, authorized: bool
) -> None:
    bomb = _bomb(deflate=coding == "deflate")
    tracemalloc.start()
    try:
        with spent(time.process_time) as cpu:
            answer = await _ask(office.url, _post(bomb, coding=coding, authorized=authorized))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == (415 if authorized else 401)
    assert peak < 2_000_000
    assert cpu.seconds < 0.1
    assert office.world.channel.accepted == []


async def test_not_by_those_who_ask_for_no_body_either(office: Office) -> None:
    bomb = _bomb()
    with spent(time.process_time) as cpu:
        for path in ("/livez", "/metrics", "/nothing"):
            request = _post(bomb, coding="gzip", authorized=False, path=path)
            assert (await _ask(office.url, request)).status in (404, 405)
    assert cpu.seconds < 0.1


async def test_a_slow_body_without_the_token_is_not_waited_for(office: Office) -> None:
    request = _post(b"{}", coding="identity", authorized=False)[:-1]
    assert (await _ask(office.url, request)).status == 401


async def test_a_client_that_waits_for_100_is_told_to_go_on(office: Office) -> None:
    whole = _post(b"{}", coding="identity", authorized=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(office.url).port)
    try:
        writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await read_answer(reader)).status == 100
        writer.write(body)
        assert (await read_answer(reader)).status == 400
    finally:
        writer.close()


async def test_pipelining_and_http_1_0(office: Office) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(office.url).port)
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert {(await read_answer(reader)).status for _ in range(100)} == {200}
    finally:
        writer.close()
    assert (await _raw(office.url, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
    answer = await _raw(office.url, b"HEAD /metrics HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
