"""HTTP/1.1 from the bench to parties and doubles: requests that are ready as bytes, answers of
which the status and the body count."""

import asyncio
import contextlib
from typing import Self


class BrokenError(Exception):
    """The connection ended before the answer."""


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._answer is None or self._answer.done():
            return
        lower = head.lower()
        _, named, after = lower.partition(b"content-length:")
        length = int(after.split(b"\r\n", 1)[0]) if named else 0
        if len(rest) < length:
            return
        self._buffer = b""
        if b"connection: close" in lower:
            self.close()
        self._answer.set_result((int(head[9:12]), rest[:length]))

    def connection_lost(self, _: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokenError())

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Raises BrokenError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.usable = False
        self._transport.close()


class Connections:
    """To one server: as many as are needed at once, each kept for the next request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []
        self._all: set[Connection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises BrokenError, and OSError when it cannot be reached."""
        connection = await self._get()
        try:
            return await connection.ask(request)
        finally:
            if connection.usable:
                self._free.append(connection)
            else:
                self._all.discard(connection)

    async def _get(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
            self._all.discard(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        self._all.add(connection)
        return connection

    def close(self) -> None:
        for connection in self._all:
            with contextlib.suppress(OSError):
                connection.close()
        self._all.clear()
        self._free.clear()


def encoded(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """A request. `headers`: further ones, each with its line end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n".encode() + body
