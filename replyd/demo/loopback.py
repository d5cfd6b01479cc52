"""What the doubles share: an HTTP server on a free loopback port, and faults that wait in line."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

# Pictures come in requests as Base64, several at once.
_MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request instead of, or after, the work. `status` 0 drops the
    connection without an answer."""

    status: int = 0
    code: str = ""
    message: str = ""
    accept: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class LoopbackServer:
    """Binds 127.0.0.1 only. `base_url` is set once started."""

    def __init__(self) -> None:
        self.base_url = ""
        self._faults: deque[Fault] = deque()
        self._runner: web.AppRunner | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        raise NotImplementedError

    async def start(self, port: int = 0) -> None:
        """Raises OSError when `port` is taken; 0 picks a free one."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(self.routes())
        # A request that a fault holds back must not hold up the end.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Safe to call twice, and without a start."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def clear_faults(self) -> None:
        """Forget the faults that no request has met yet."""
        self._faults.clear()

    def _next_fault(self) -> Fault | None:
        return self._faults.popleft() if self._faults else None


def drop(request: web.Request) -> web.Response:
    """Close the connection; the answer that aiohttp wants has nowhere to go."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
