"""The operations port: liveness, readiness, metrics, and the operator API. Only the last one asks
who is there: keep the port private."""

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus

import structlog
from aiohttp import web

from replyd.runtime.connections import QuietServer
from replyd.runtime.health import Health
from replyd.runtime.listening import Listening
from replyd.runtime.operator_api import ANSWER_SECONDS, OperatorApi

# A scraper, an orchestrator and people's tools have more than enough of these.
HEADER_SECONDS = 10.0
MAX_CONNECTIONS = 200

_log = structlog.get_logger("replyd")


class OpsServer:
    """`render`: the metrics and their content type. `operators`: None where the API is off. A port
    of 0 takes a free one. `sockets`: listening ones to serve on, instead of host and port."""

    def __init__(
        self,
        *,
        health: Health,
        render: Callable[[], tuple[bytes, str]],
        host: str,
        port: int,
        sockets: Sequence[socket.socket] = (),
        operators: OperatorApi | None = None,
        header_seconds: float = HEADER_SECONDS,
    ) -> None:
        self._health = health
        self._render = render
        self._listening = Listening(host, port, sockets)
        self._operators = operators
        self._header_seconds = header_seconds
        self._pages: Mapping[str, Callable[[], Awaitable[web.Response]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/healthz": self._readyz,
            "/metrics": self._metrics,
        }
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listening.port

    @property
    def serving(self) -> bool:
        return self._listening.active

    async def start(self) -> None:
        """Raises OSError when the address cannot be listened on."""
        server = QuietServer(
            self._respond,
            lambda: _plain(HTTPStatus.BAD_REQUEST),
            header_timeout=self._header_seconds,
            max_connections=MAX_CONNECTIONS,
        )
        # What a person is sending is not cut off.
        patience = 1 if self._operators is None else ANSWER_SECONDS
        self._runner = web.ServerRunner(server, shutdown_timeout=patience)
        await self._runner.setup()
        await self._listening.start(self._runner)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        try:
            if self._operators is not None and self._operators.has(path):
                response = await self._operators.respond(request, path)
            elif (page := self._pages.get(path)) is None:
                response = _plain(HTTPStatus.NOT_FOUND)
            elif request.method not in ("GET", "HEAD"):
                response = _plain(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})
            else:
                response = await page()
        except Exception:  # noqa: BLE001 - a bug must be seen, and the caller told so
            _log.exception("a request on the operations port ended with a bug")
            response = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        # aiohttp would name itself, Python and their versions.
        response.headers["Server"] = "replyd"
        if not request.content.is_eof():
            response.force_close()
        return response

    async def _livez(self) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self) -> web.Response:
        problems = await self._health.problems()
        status = "not ready" if problems else "ready"
        body = {"status": status, "problems": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def _metrics(self) -> web.Response:
        body, content_type = self._render()
        return web.Response(body=body, headers={"Content-Type": content_type})


def _plain(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> web.Response:
    usual = {"Content-Type": "text/plain; charset=utf-8", "Server": "replyd"}
    body = f"{status.phrase}\n".encode()
    return web.Response(status=status, body=body, headers={**usual, **(headers or {})})
