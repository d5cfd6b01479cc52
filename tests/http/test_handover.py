"""A server on sockets that outlive it, and the last connections of one that stops."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from tests.http.wire import MESSAGE, Site, read_answer, serving, signed_post


async def test_the_next_server_takes_what_the_last_one_did_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*held.getsockname())
            writer.write(signed_post(MESSAGE))
            async with serving(sockets=[held.dup()]) as site:
                assert site.server.port == held.getsockname()[1]
                assert site.server.outlived
                assert (await read_answer(reader)).status == 200
            writer.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "socket"))
        held.listen()
        async with serving(sockets=[held.dup()]) as site:
            assert (site.server.port, site.server.serving) == (0, True)
            connector = aiohttp.UnixConnector(str(tmp_path / "socket"))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.post("http://localhost/elsewhere") as answer,
            ):
                assert answer.status == 404
        assert not site.server.serving


async def test_two_servers_share_a_port() -> None:
    async with (
        serving(reuse_port=True) as one,
        serving(reuse_port=True, port=one.server.port) as other,
    ):
        assert one.server.port == other.server.port
    async with serving() as alone:
        with pytest.raises(OSError, match="address already in use"):
            async with serving(reuse_port=True, port=alone.server.port):
                pass


async def test_who_was_let_in_before_the_stop_is_heard(site: Site) -> None:
    reader, writer = await site.connect()
    stopping = asyncio.create_task(site.server.stop())
    while site.server.serving:
        await asyncio.sleep(0)
    writer.write(signed_post(MESSAGE))
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await stopping


async def test_a_connection_that_was_just_accepted_is_not_forgotten() -> None:
    """asyncio drops one whose transport it would make in the next turn of the loop."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        async with serving(sockets=[held.dup()]) as site:
            with socket.create_connection(held.getsockname()) as client:
                # The next turn of the loop sees it, with the server's stop already waiting.
                await asyncio.sleep(0)
                stopping = asyncio.create_task(site.server.stop())
                reader, writer = await asyncio.open_connection(sock=client.dup())
                writer.write(signed_post(MESSAGE))
                assert (await read_answer(reader)).status == 200
                await stopping
                writer.close()


async def test_kept_connections_end_with_their_next_answer_once_another_is_to_come() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        async with serving(sockets=[held.dup()]) as site:
            reader, writer = await site.connect()
            for expected in (None, "close"):
                writer.write(signed_post(MESSAGE))
                answer = await read_answer(reader)
                assert (answer.status, answer.headers.get("Connection")) == (200, expected)
                site.server.let_go()
            assert await reader.read() == b""
            # Until it stops it takes new ones all the same.
            reader, writer = await site.connect()
            writer.write(signed_post(MESSAGE))
            answer = await read_answer(reader)
            assert (answer.status, answer.headers.get("Connection")) == (200, "close")
