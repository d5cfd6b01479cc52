"""A small HTTP/1.1 server for doubles under load: keep-alive, bodies with a Content-Length.

aiohttp's server costs about four times as much for each request, and the doubles share the machine
with what is measured.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

_REASONS = {200: b"OK", 201: b"Created", 400: b"Bad Request", 404: b"Not Found"}


@dataclass(frozen=True, slots=True)
class Request:
    """`headers`: names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """`body`: JSON as bytes, or what is to become it."""

    body: bytes | Any
    status: int = 200
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
            self.status,
            _REASONS[self.status],
            self.content_type.encode(),
            len(body),
        )
        return head + body


# An answer at once, or one that takes its time.
Handler = Callable[[Request], Answer | Awaitable[Answer]]


class Connection(asyncio.Protocol):
    """One client. It sends its next request when it has read the answer."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._transport: asyncio.Transport
        # The loop keeps only weak references to tasks.
        self._pending: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._next()) is not None:
            answer = self._handler(request)
            if isinstance(answer, Answer):
                self._transport.write(answer.encoded())
            else:
                task = asyncio.ensure_future(self._later(answer))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)

    def connection_lost(self, _: Exception | None) -> None:
        for task in self._pending:
            task.cancel()

    def _next(self) -> Request | None:
        """A whole request out of what has come, or None."""
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        method, target, _ = first.split(" ", 2)
        return Request(method, target, headers, rest[:length])

    async def _later(self, answer: Awaitable[Answer]) -> None:
        encoded = (await answer).encoded()
        if not self._transport.is_closing():
            self._transport.write(encoded)


def announce(**hello: Any) -> None:
    """Tells whoever started this process that it is ready."""
    sys.stdout.write(json.dumps(hello) + "\n")
    sys.stdout.flush()


async def serve(handler: Handler) -> None:
    """Until SIGTERM. Prints the port as a line of JSON first."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await loop.create_server(lambda: Connection(handler), "127.0.0.1", 0, backlog=1024)
    announce(port=server.sockets[0].getsockname()[1])
    await over.wait()
    server.close()
