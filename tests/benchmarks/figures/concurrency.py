"""Many conversations at once in one process: what each takes in memory, and how the loop fares."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.benchmarks import connections, load, stage
from tests.benchmarks.arithmetic import percentile
from tests.benchmarks.connections import Connections
from tests.benchmarks.figures.context import Bench
from tests.benchmarks.load import Customers
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import REPLYD, Party
from tests.benchmarks.report import Figure
from tests.benchmarks.stage import Stage
from tests.benchmarks.webhooks import Signer

_GROUP = "5 concurrency"
# Messages a second on the way in: far from saturation, so that the lag is not that of a backlog.
_RATE = 40.0
_WARM = 200
_PROBE_SECONDS = 0.02
_LIVEZ = connections.encoded("GET", "/livez")


async def measure(bench: Bench) -> None:
    await _windows(bench)
    await _model_calls(bench)


async def _windows(bench: Bench) -> None:
    """Windows long enough for all to be open at once."""
    count = bench.effort.windows
    quiet = round((count + _WARM) / _RATE) + 30
    settings = {"REPLYD_TURN__MAX_HELD": str(2 * count)}
    async with _opened(bench, quiet, settings) as (party, doubles, customers):
        before = party.memory_bytes()
        bench.report.say(f"{count} windows open")
        async with _lag(party) as lag:
            await _write(party, customers, count)
        assert await doubles.depth(party.resources) == count + _WARM
        each = (party.memory_bytes() - before) / count / 1024
    bench.report.add(
        [
            Figure(_GROUP, f"memory per open window, {count}", REPLYD, each, "KB", goal="≤ 4 KB"),
            _lag_figure("loop lag p99 while windows open", lag),
        ]
    )


async def _model_calls(bench: Bench) -> None:
    """Turns that all wait for the model."""
    count = bench.effort.model_calls
    settings = {
        "REPLYD_TURN__CONCURRENCY": str(count),
        "REPLYD_TURN__CONCURRENCY_PER_BUSINESS": str(count),
        "REPLYD_TURN__MAX_HELD": str(2 * count),
        "REPLYD_AI__MAX_CONCURRENT": str(count),
        "REPLYD_AI__TIMEOUT_SECONDS": "300",
    }
    async with _opened(bench, 1, settings) as (party, doubles, customers):
        await doubles.model_takes(count / _RATE + 30)
        before = party.memory_bytes()
        bench.report.say(f"{count} model calls in flight")
        async with _lag(party) as lag:
            await _write(party, customers, count)
            async with asyncio.timeout(60):
                while await doubles.model_calls() < count:
                    await asyncio.sleep(0.2)
        each = (party.memory_bytes() - before) / count / 1024
        await load.settled(party, doubles, 300)
    bench.report.add(
        [
            Figure(
                _GROUP, f"memory per turn in flight, {count}", REPLYD, each, "KB", goal="≤ 60 KB"
            ),
            _lag_figure("loop lag p99 while turns start", lag),
        ]
    )


@asynccontextmanager
async def _opened(
    bench: Bench, quiet: int, settings: dict[str, str]
) -> AsyncIterator[tuple[Party, Stage, Customers]]:
    """replyd, warm: what it allocates once is not counted."""
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        options = started.Options(
            quiet_seconds=quiet, on=bench.party_cores, replyd=settings, conversations=20_000
        )
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        customers = Customers(Signer(9), 20_000)
        await _write(party, customers, _WARM)
        if quiet == 1:
            await load.settled(party, doubles)
        yield party, doubles, customers


async def _write(party: Party, customers: Customers, count: int) -> None:
    """So many customers, one message each, at a constant rate."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for arrival in customers.arrivals(_RATE, count / _RATE):
            if (left := began + arrival.at - time.monotonic()) > 0:
                await asyncio.sleep(left)
            group.create_task(party.webhooks.ask(arrival.webhook.request))


@asynccontextmanager
async def _lag(party: Party) -> AsyncIterator[list[float]]:
    """How long `/livez` takes, which the loop answers when it comes round: an upper bound of its
    lag, with the request itself in it."""
    found: list[float] = []

    async def probe() -> None:
        async with Connections(party.ops_port) as ops:
            while True:
                began = time.monotonic()
                await ops.ask(_LIVEZ)
                found.append(time.monotonic() - began)
                await asyncio.sleep(_PROBE_SECONDS)

    probing = asyncio.create_task(probe())
    try:
        yield found
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


def _lag_figure(name: str, lag: list[float]) -> Figure:
    return Figure(
        _GROUP,
        name,
        REPLYD,
        1000 * percentile(lag, 0.99),
        "ms",
        low=1000 * percentile(lag, 0.5),
        high=1000 * max(lag),
        of=len(lag),
        goal="≤ 20 ms",
        note=f"by /livez at {_RATE:g} messages/s; from p50 to the longest",
    )
