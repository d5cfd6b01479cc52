"""A load balancer that asks `/readyz`, before instances that have no socket unit."""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from tests.process.units import Unit

# How often each is asked; the first wrong answer takes it out.
ASK_SECONDS = 0.5


class Balancer:
    """Passes connections on to the units that are ready, in turn; to the next one where it gets
    none. `url`: where it listens."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._ready: set[Unit] = set(units)
        self._turns = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._asking = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in (self._asking, *self._tasks):
            task.cancel()
        await asyncio.gather(self._asking, *self._tasks, return_exceptions=True)

    async def _ask(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                for unit in self._units:
                    ok = False
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{unit.process.ops}/readyz") as answer:
                            ok = answer.status == 200
                    (self._ready.add if ok else self._ready.discard)(unit)
                await asyncio.sleep(ASK_SECONDS)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = [unit for unit in self._units if unit in self._ready]
        first = next(self._turns)
        for n in range(len(ready)):
            address = urlsplit(ready[(first + n) % len(ready)].process.webhooks)
            try:
                theirs, ours = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                continue
            pumps = {
                asyncio.create_task(_pump(reader, ours)),
                asyncio.create_task(_pump(theirs, writer)),
            }
            self._tasks |= pumps
            for pump in pumps:
                pump.add_done_callback(self._tasks.discard)
            return
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
