"""Whoever holds many places loses them to whoever comes honestly."""

import asyncio
import socket

from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import MESSAGE, STRAY, Site, post, read_answer, serving, signed_post


async def _until(site: Site, inflight: int) -> None:
    async with asyncio.timeout(5):
        while site.server.inflight != inflight:
            await asyncio.sleep(0.001)


async def test_slow_bodies_take_no_place_from_messages() -> None:
    async with serving(max_inflight=2, body_timeout_seconds=60) as site:
        slow = []
        for number in range(1, 3):
            reader, writer = await site.connect()
            writer.write(post(b"x", signed="x")[:-1])
            await _until(site, number)
            slow.append(reader)
        # As many as are served at once are at it, and every message is still taken at once.
        for _ in range(3):
            assert (await site.ask(signed_post(MESSAGE))).status == 200
        # The oldest made room for all of them.
        assert (await read_answer(slow[0])).status == 408
        assert site.refusals == [(INBOUND_PATH, 408, "body_too_slow")]
        assert len(site.accept.messages) == 3
        assert site.server.inflight == 1


async def test_many_slow_bodies_end_one_another() -> None:
    async with serving(max_inflight=3, body_timeout_seconds=60) as site:
        for _ in range(10):
            _, writer = await site.connect()
            writer.write(post(b"x", signed="x")[:-1])
        async with asyncio.timeout(5):
            while len(site.refusals) < 7:
                await asyncio.sleep(0.001)
        assert site.refusals == [(INBOUND_PATH, 408, "body_too_slow")] * 7
        await _until(site, 3)


async def test_messages_that_are_being_stored_are_not_ended_by_others() -> None:
    async with serving(max_inflight=1, body_timeout_seconds=60) as site:
        site.accept.gate = asyncio.Event()
        # Both were let in before either was whole.
        requests = []
        for _ in range(2):
            reader, writer = await site.connect()
            requests.append((reader, writer))
        whole = signed_post(MESSAGE)
        requests[0][1].write(whole[:-1])
        await _until(site, 1)
        requests[0][1].write(whole[-1:])
        await site.accept.started.acquire()
        requests[1][1].write(whole)
        assert (await read_answer(requests[1][0])).status == 503
        site.accept.gate.set()
        assert (await read_answer(requests[0][0])).status == 200


async def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    async with serving(max_connections=6) as site:
        site.accept.gate = asyncio.Event()
        busy, busy_writer = await site.connect()
        busy_writer.write(signed_post(MESSAGE))
        await site.accept.started.acquire()
        first, _ = await site.connect()
        second, second_writer = await site.connect()
        # One that was served waits behind the others.
        second_writer.write(STRAY)
        assert (await read_answer(second)).status == 404
        more = [await site.connect() for _ in range(4)]
        assert await first.read() == b""
        for reader, writer in ((second, second_writer), *more):
            writer.write(STRAY)
            assert (await read_answer(reader)).status == 404
        site.accept.gate.set()
        assert (await read_answer(busy)).status == 200


async def test_connections_end_with_their_answers_when_half_of_them_are_taken() -> None:
    """So that none is closed just when another request is on its way."""
    async with serving(max_connections=6) as site:
        for number in range(1, 7):
            reader, writer = await site.connect()
            writer.write(STRAY)
            ends = (await read_answer(reader)).headers.get("Connection") == "close"
            assert ends == (number > 3)
            if ends:
                assert await reader.read() == b""
                writer.close()


async def test_more_connections_than_there_may_be() -> None:
    async with serving(max_connections=5, header_timeout_seconds=60) as site:
        held = [await site.connect() for _ in range(25)]
        closed = [reader.read() for reader, _ in held[:20]]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*closed) == [b""] * 20
        for _ in range(5):
            assert (await site.ask(signed_post(MESSAGE))).status == 200


def _written(site: Site, requests: int) -> list[socket.socket]:
    """Connections with a message each, of which the server has seen nothing yet."""
    crowd = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(requests)]
    for each in crowd:
        each.sendall(signed_post(MESSAGE))
    return crowd


async def _answers(site: Site, crowd: list[socket.socket]) -> list[int]:
    async def answer(each: socket.socket) -> int:
        reader, writer = await asyncio.open_connection(sock=each)
        site.connections.append(writer)
        return (await read_answer(reader)).status

    async with asyncio.timeout(5):
        return await asyncio.gather(*map(answer, crowd))


async def test_every_message_of_a_crowd_is_answered() -> None:
    """More of them than there may be connections."""
    async with serving(max_connections=5) as site:
        site.accept.gate = asyncio.Event()
        crowd = _written(site, 25)
        for _ in crowd:
            async with asyncio.timeout(5):
                await site.accept.started.acquire()
        site.accept.gate.set()
        assert await _answers(site, crowd) == [200] * 25


async def test_a_crowd_of_messages_outlives_connections_that_say_nothing() -> None:
    async with serving(max_connections=5, header_timeout_seconds=60) as site:
        silent = [await site.connect() for _ in range(5)]
        site.accept.gate = asyncio.Event()
        crowd = _written(site, 25)
        async with asyncio.timeout(5):
            assert [await reader.read() for reader, _ in silent] == [b""] * 5
        site.accept.gate.set()
        assert await _answers(site, crowd) == [200] * 25


async def test_a_message_on_a_kept_connection_that_waits_to_be_read_is_answered() -> None:
    """It is the one that was idle for longest when the crowd came."""
    async with serving(max_connections=3) as site:
        kept = _written(site, 1)[0]
        kept.setblocking(False)
        loop = asyncio.get_running_loop()
        assert (await loop.sock_recv(kept, 12)) == b"HTTP/1.1 200"
        crowd = _written(site, 4)
        kept.sendall(signed_post(MESSAGE))
        assert await _answers(site, crowd) == [200] * 4
        seen = b""
        while b"HTTP/1.1 200" not in seen:
            seen += await loop.sock_recv(kept, 1000)
        kept.close()
