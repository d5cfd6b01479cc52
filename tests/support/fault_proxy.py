"""A proxy before a dependency that can be told to have an outage."""

import asyncio
import itertools
import socket
from contextlib import suppress
from typing import Any, Literal

from aiohttp import web

from replyd.demo import twilio_wire
from replyd.demo.openai_double import wire as openai_wire
from tests.support.counting_proxy import CountingProxy

Dependency = Literal["dynamodb", "sqs", "openai", "twilio", "secretsmanager"]
Mode = Literal["failing", "slow", "throttled"]
DEPENDENCIES: tuple[Dependency, ...] = ("dynamodb", "sqs", "openai", "twilio", "secretsmanager")
MODES: tuple[Mode, ...] = ("failing", "slow", "throttled")

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html and its
# kin for the other services: the HTTP status of all of them is 400.
_THROTTLED = {
    "dynamodb": "ProvisionedThroughputExceededException",
    "sqs": "ThrottlingException",
    "secretsmanager": "ThrottlingException",
}


class FaultProxy(CountingProxy):
    """`begin` an outage, `end` it. `seen`: when requests came, by the loop's clock; connections
    that were refused are not among them.

    `failing`: the first half of the outage connections are refused, then requests are answered with
    5xx. `slow`: every other request is carried out, the others are dropped, and no answer comes
    before the outage has ended. `throttled`: as the vendor words it."""

    def __init__(self, dependency: Dependency, target: str) -> None:
        super().__init__(target)
        self._dependency = dependency
        self._mode: Mode | None = None
        self._over = asyncio.Event()
        self._numbers = itertools.count()
        self.seen: list[float] = []
        self._refusing: asyncio.Task[None] | None = None

    async def begin(self, mode: Mode, seconds: float) -> None:
        """For about so many `seconds`, of which the first half may be different."""
        self._mode = mode
        self._over.clear()
        if mode == "failing":
            self._refusing = asyncio.create_task(self._refuse(seconds / 2))

    async def settled(self) -> None:
        """Returns once it listens again."""
        if self._refusing is not None:
            await self._refusing

    async def end(self) -> None:
        self._mode = None
        self._over.set()
        await self.settled()

    async def _refuse(self, seconds: float) -> None:
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            connection.force_close()
        port = int(self.base_url.rpartition(":")[2])
        # Nobody else is to take the port meanwhile.
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", port))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
        await self._listen(port)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(asyncio.get_running_loop().time())
        match self._mode:
            case "failing":
                return self._error(500, "InternalServerError")
            case "throttled":
                return self._error(429, _THROTTLED.get(self._dependency, ""))
            case "slow":
                await request.read()
                answer = await super()._pass(request) if next(self._numbers) % 2 else None
                await self._over.wait()
                # By now the client has gone, or gives up on a connection that breaks.
                return answer or _dropped(request)
            case None:
                return await super()._pass(request)

    def _error(self, status: int, code: str) -> web.Response:
        if self._dependency == "openai":
            return openai_wire.error(status, "Something is wrong.", code="rate_limit_exceeded")
        if self._dependency == "twilio":
            return twilio_wire.error(status, 20429 if status == 429 else 20500)
        body: dict[str, Any] = {"__type": code, "message": "Something is wrong."}
        return web.json_response(body, status=status if status >= 500 else 400)


def _dropped(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
