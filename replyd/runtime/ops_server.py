"""The operations port: liveness, readiness, metrics, and the operator API. Only the last one asks
who is there: keep the port private."""

import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from replyd.runtime.health import Health
from replyd.runtime.listening import Listening
from replyd.runtime.operator_api import ANSWER_SECONDS, OperatorApi


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
    ) -> None:
        self._health = health
        self._render = render
        self._listening = Listening(host, port, sockets)
        self._operators = operators
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listening.port

    @property
    def serving(self) -> bool:
        return self._listening.active

    async def start(self) -> None:
        """Raises OSError when the address cannot be listened on."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/healthz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        if self._operators is not None:
            self._operators.add_to(app)
        # What a person is sending is not cut off.
        patience = 1 if self._operators is None else ANSWER_SECONDS
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=patience)
        await self._runner.setup()
        await self._listening.start(self._runner)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = await self._health.problems()
        status = "not ready" if problems else "ready"
        body = {"status": status, "problems": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body, content_type = self._render()
        return web.Response(body=body, headers={"Content-Type": content_type})
