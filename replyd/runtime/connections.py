"""Connections of both ports: what aiohttp's own would do better not to.

They neither echo nor log what cannot be read, nor unpack what is compressed; the headers of every
request have an end to their time and size, and connections to their number.
"""

import asyncio
import resource
import select
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

# Longer than the 60 s that nginx and AWS's load balancers keep an idle connection: a POST that
# meets its end is lost, and they do not repeat it.
KEEPALIVE_SECONDS = 75.0
# A refusal does not wait for the body. Closing at once would reset the connection, which can take
# the answer with it, so what still comes is thrown away for this long.
LINGER_SECONDS = 1.0
# All headers of a request together; nginx takes as much. aiohttp alone would keep 1 MiB of them.
MAX_HEADER_BYTES = 32 * 1024
# What a connection gets to send the first request of its life when the server stops.
FIRST_REQUEST_SECONDS = 0.3
# Until a connection that was accepted is one of ours takes a few turns of the loop.
_ACCEPT_SECONDS = 0.05

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nServer: replyd\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\n\r\nBad Request\n"
)

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


class _Connection(web.RequestHandler):
    """aiohttp's, except that HTTP it cannot read is answered in fixed words and not logged, and
    that the headers of every request have a deadline and a limit."""

    __slots__ = (
        "_deadline",
        "_head",
        "_header_timeout",
        "_malformed",
        "_quiet_server",
        "_serving",
    )

    def __init__(
        self, server: "QuietServer", malformed: Callable[[], web.Response], header_timeout: float
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # no access log, as documented
            keepalive_timeout=max(KEEPALIVE_SECONDS, header_timeout),
            lingering_time=LINGER_SECONDS,
            # Nobody we know compresses: bodies are not worth the memory they could grow to.
            auto_decompress=False,
        )
        self._quiet_server = server
        self._malformed = malformed
        self._header_timeout = header_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._serving = False
        # How much of the headers has come, and its end; None once they are whole.
        self._head: tuple[int, bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._quiet_server.unheard.add(self)
        self._quiet_server.open += 1
        self._expect_headers()
        self._quiet_server.idle(self)

    def data_received(self, data: bytes) -> None:
        if not self._serving and self._deadline is None:
            self._expect_headers()
        if not self._headers_end(data):
            self._malformed()
            if self.transport is not None:
                self.transport.write(_BAD_REQUEST)
            self.force_close()
            return
        if self._head is None:
            self._quiet_server.busy(self)
        else:
            self._quiet_server.idle(self)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_deadline()
        self._quiet_server.open -= 1
        self._quiet_server.busy(self)
        self._quiet_server.heard(self)
        super().connection_lost(exc)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around a request whose headers have come."""
        self._cancel_deadline()
        self._quiet_server.heard(self)
        self._quiet_server.busy(self)
        self._serving, self._head = True, None
        try:
            yield
        finally:
            self._serving = False
            # The answer is written first.
            asyncio.get_running_loop().call_soon(self._served)

    def _served(self) -> None:
        if self.transport is not None and not self.transport.is_closing() and not self._serving:
            self._quiet_server.idle(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002 - it quotes what came
    ) -> web.StreamResponse:
        """Only for HTTP that cannot be read: `_respond` lets no error out."""
        if request.writer.output_size > 0:  # no second answer into the first
            raise ConnectionError
        response = self._malformed()
        response.force_close()
        return response

    def has_unread(self) -> bool:
        """Whether something has come that the loop has not read yet, be it the connection's end."""
        if self.transport is None:
            return False
        waiting = select.poll()
        waiting.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(waiting.poll(0))

    def _expect_headers(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._header_timeout, self.force_close)
        self._head = (0, b"")

    def _headers_end(self, data: bytes) -> bool:
        """Whether the headers, if they are what comes, are within their limit so far."""
        if self._head is None:
            return True
        come, tail = self._head
        if not come:
            # Empty lines ahead of a request are passed over.
            data = data.lstrip(b"\r\n")
        room = MAX_HEADER_BYTES - come
        if b"\r\n\r\n" in tail + data[:room]:
            self._head = None
            return True
        self._head = (come + len(data), (tail + data)[-3:])
        return len(data) < room

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class QuietServer(web.Server):
    """aiohttp's low-level server with our connections: no routing, no `Expect`, nothing that
    would answer before `respond`."""

    def __init__(
        self,
        respond: Handler,
        malformed: Callable[[], web.Response],
        *,
        header_timeout: float,
        max_connections: int,
    ) -> None:
        """`malformed`: the answer to what is no HTTP. `max_connections`: at most half of the files
        that the process may open; one more closes the one that has been idle for longest. Those
        that have a request are not closed for others: `respond` bounds their number."""
        # A message that is being made durable stays so when the client hangs up.
        super().__init__(self._serve, handler_cancellation=False)
        self.unheard: set[_Connection] = set()
        self.open = 0
        self._all_heard = asyncio.Event()
        self._respond = respond
        self._malformed = malformed
        self._header_timeout = header_timeout
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        half = files // 2 if files != resource.RLIM_INFINITY else max_connections
        self._max_connections = min(max_connections, half)
        # In the order of their becoming idle.
        self._idle: OrderedDict[_Connection, None] = OrderedDict()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._malformed, self._header_timeout)

    @property
    def _crowded(self) -> bool:
        """Connections had better end with their answers, which say so: who sends another request
        on one that is closed just then gets none."""
        return self.open > self._max_connections // 2

    def idle(self, connection: _Connection) -> None:
        """It has no request, or not all headers of one, and waits behind all others of those."""
        if connection in self._idle:
            return
        self._idle[connection] = None
        if self.open > self._max_connections:
            self._make_room()

    def busy(self, connection: _Connection) -> None:
        """It has a request, or is gone."""
        self._idle.pop(connection, None)

    def _make_room(self) -> None:
        """Close the one that has been idle for longest. Whatever waits to be read is no sign of
        idleness: in a crowd it takes a while until it is."""
        while self._idle:
            oldest, _ = self._idle.popitem(last=False)
            if not oldest.has_unread():
                oldest.force_close()
                return

    def heard(self, connection: _Connection) -> None:
        """It has sent a request, or is gone."""
        self.unheard.discard(connection)
        if not self.unheard:
            self._all_heard.set()

    async def all_heard(self) -> None:
        """Wait until every connection has sent a request, but not for those that send nothing."""
        await asyncio.sleep(_ACCEPT_SECONDS)
        self._all_heard.clear()
        if self.unheard:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                    await self._all_heard.wait()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        with connection.serving():
            response = await self._respond(request)
            if self._crowded:
                response.force_close()
            return response
