"""A proxy before a local AWS that counts what passes, by operation."""

from collections import Counter
from typing import Self

import aiohttp
from aiohttp import web


class CountingProxy:
    """`counts`: requests by operation, such as `UpdateItem`; `fail`: operations to answer with 500
    instead, each as many times as its number says."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.counts: Counter[str] = Counter()
        self.fail: Counter[str] = Counter()
        self.base_url = ""
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=2**21)
        app.router.add_route("*", "/{path:.*}", self._pass)
        # A request that is held back must not hold up the end.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await self._listen(0)
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.counts[operation] += 1
        if self.fail[operation] > 0:
            self.fail[operation] -= 1
            return web.json_response({"__type": "InternalServerError"}, status=500)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
        assert self._session is not None
        async with self._session.request(
            request.method,
            self._target + request.raw_path,
            headers=headers,
            data=await request.read(),
        ) as answer:
            dropped = {"transfer-encoding", "connection", "content-length", "date", "server"}
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())
