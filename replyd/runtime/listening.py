"""Where a server of ours listens: an address of its own, or sockets that it was handed."""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp import web

# Connections that wait to be accepted: a burst, or those that come while a process is replaced.
BACKLOG = 1024


class Listening:
    """`port` of 0 takes a free one. `sockets` are listening already and are used instead; others
    may hold them too, so they are closed and never shut down."""

    def __init__(
        self,
        host: str,
        port: int,
        sockets: Sequence[socket.socket] = (),
        *,
        reuse_port: bool = False,
    ) -> None:
        self._host = host
        self._reuse_port = reuse_port
        self._sockets = sockets
        self._runner: web.BaseRunner | None = None
        self.port = port

    async def start(self, runner: web.BaseRunner) -> None:
        """Raises OSError when the address cannot be listened on."""
        sites: list[web.BaseSite] = [
            web.SockSite(runner, each, backlog=BACKLOG) for each in self._sockets
        ]
        if not sites:
            reuse = self._reuse_port or None
            own = web.TCPSite(runner, self._host, self.port, backlog=BACKLOG, reuse_port=reuse)
            sites.append(own)
        for site in sites:
            await site.start()
        self._runner = runner
        # The address of a Unix socket is its path.
        self.port = next((a[1] for a in runner.addresses if isinstance(a, tuple)), 0)

    async def stop(self) -> None:
        """Accept no more. What waits in a socket that others hold too is theirs."""
        if self._runner is None or not self.active:
            return
        if self._sockets:
            loop = asyncio.get_running_loop()
            for each in self._sockets:
                loop.remove_reader(each)
            # asyncio forgets a connection that it has accepted, and whose transport it makes in the
            # next turn of the loop, when the server is closed in between. On an address of its own
            # that is one of those that are reset anyway.
            await asyncio.sleep(0)
        for site in list(self._runner.sites):
            await site.stop()

    @property
    def active(self) -> bool:
        """Whether connections are accepted."""
        return self._runner is not None and bool(self._runner.addresses)
