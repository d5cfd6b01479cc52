"""Connections of the public port: what aiohttp's own would do better not to.

They neither echo nor log what cannot be read, and every request's headers have a deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

# Longer than the 60 s that nginx and AWS's load balancers keep an idle connection: a POST that
# meets its end is lost, and they do not repeat it.
KEEPALIVE_SECONDS = 75.0
# A refusal does not wait for the body. Closing at once would reset the connection, which can take
# the answer with it, so what still comes is thrown away for this long.
LINGER_SECONDS = 1.0
# What a connection gets to send the first request of its life when the server stops.
FIRST_REQUEST_SECONDS = 0.3
# Until a connection that was accepted is one of ours takes a few turns of the loop.
_ACCEPT_SECONDS = 0.05

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


class _Connection(web.RequestHandler):
    """aiohttp's, except that HTTP it cannot read is answered in fixed words and not logged, and
    that the headers of every request have a deadline."""

    __slots__ = ("_deadline", "_header_timeout", "_malformed", "_quiet_server", "_serving")

    def __init__(
        self, server: "QuietServer", malformed: Callable[[], web.Response], header_timeout: float
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # no access log, as documented
            keepalive_timeout=max(KEEPALIVE_SECONDS, header_timeout),
            lingering_time=LINGER_SECONDS,
            # Twilio does not compress: other bodies are not worth the memory they could grow to.
            auto_decompress=False,
        )
        self._quiet_server = server
        self._malformed = malformed
        self._header_timeout = header_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._quiet_server.unheard.add(self)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        if not self._serving and self._deadline is None:
            self._expect_headers()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_deadline()
        self._quiet_server.heard(self)
        super().connection_lost(exc)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around a request whose headers have come."""
        self._cancel_deadline()
        self._quiet_server.heard(self)
        self._serving = True
        try:
            yield
        finally:
            self._serving = False

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

    def _expect_headers(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._header_timeout, self.force_close)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class QuietServer(web.Server):
    """aiohttp's low-level server with our connections: no routing, no `Expect`, nothing that
    would answer before `respond`."""

    def __init__(
        self, respond: Handler, malformed: Callable[[], web.Response], header_timeout: float
    ) -> None:
        # A message that is being made durable stays so when the client hangs up.
        super().__init__(self._serve, handler_cancellation=False)
        self.unheard: set[_Connection] = set()
        self._all_heard = asyncio.Event()
        self._respond = respond
        self._malformed = malformed
        self._header_timeout = header_timeout

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._malformed, self._header_timeout)

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
            return await self._respond(request)
