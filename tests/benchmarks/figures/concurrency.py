"""Many conversations at once in one process: what each takes in memory, and how the loop fares."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import load, stage
from tests.benchmarks.arithmetic import percentile
from tests.benchmarks.figures.actors import CUSTOMERS
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.load import Customers
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import REPLYD, Party
from tests.benchmarks.results import Figure
from tests.benchmarks.stage import Stage
from tests.benchmarks.webhooks import Signer

_GROUP = "concurrency"
# Messages a second on the way in: far from saturation, so that the lag is not that of a backlog.
_RATE = 40.0
_WARM = 200
# Windows stay open for so long after the last message of the first round; and starting and ending.
_OPEN_SECONDS, _BESIDE_SECONDS = 30, 15.0


def seconds(effort: Effort) -> float:
    """That `measure` takes, about."""
    windows = (effort.windows + _WARM) / _RATE
    calls = 2 * (effort.model_calls + _WARM) / _RATE + _OPEN_SECONDS
    return windows + calls + 2 * _BESIDE_SECONDS


class Lag:
    """How late the loop was, and when."""

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []

    def read(self, path: Path) -> None:
        """What parties/watched.py wrote."""
        self._pairs = json.loads(path.read_text())

    def between(self, began: float, over: float) -> list[float]:
        """Seconds, each time."""
        return [late for at, late in self._pairs if began <= at <= over]


async def measure(bench: Bench) -> None:
    await _windows(bench)
    await _model_calls(bench)


async def _windows(bench: Bench) -> None:
    """Windows long enough for all to be open at once."""
    count = bench.effort.windows
    quiet = round((count + _WARM) / _RATE) + _OPEN_SECONDS
    settings = {"REPLYD_TURN__MAX_HELD": str(2 * count)}
    lag = Lag()
    async with _opened(bench, quiet, settings, lag) as (party, doubles, customers):
        before = party.memory_bytes()
        bench.results.say(f"{count} windows open")
        began = time.monotonic()
        await _write(party, customers, count)
        over = time.monotonic()
        assert await doubles.depth(party.resources) == count + _WARM
        each = (party.memory_bytes() - before) / count / 1024
    bench.results.add(
        [
            Figure(_GROUP, f"memory per open window, {count}", REPLYD, each, "KB", at_most=4.0),
            *_lag_figures("while windows open", lag.between(began, over)),
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
    lag = Lag()
    async with _opened(bench, 1, settings, lag) as (party, doubles, customers):
        await doubles.model_takes(count / _RATE + _OPEN_SECONDS)
        before = party.memory_bytes()
        bench.results.say(f"{count} model calls in flight")
        began = time.monotonic()
        await _write(party, customers, count)
        async with asyncio.timeout(60):
            while await doubles.model_calls() < count:
                await asyncio.sleep(0.2)
        over = time.monotonic()
        each = (party.memory_bytes() - before) / count / 1024
        await load.settled(party, doubles, 300)
    bench.results.add(
        [
            Figure(_GROUP, f"memory per turn in flight, {count}", REPLYD, each, "KB", at_most=60.0),
            *_lag_figures("while turns start", lag.between(began, over)),
        ]
    )


@asynccontextmanager
async def _opened(
    bench: Bench, quiet: int, settings: dict[str, str], lag: Lag
) -> AsyncIterator[tuple[Party, Stage, Customers]]:
    """replyd, warm: what it allocates once is not counted. `lag` is there when it has ended."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="replyd-bench-"))
        lag_file = Path(directory, "lag.json")
        stack.callback(lag.read, lag_file)
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        options = started.Options(
            quiet_seconds=quiet,
            on=bench.party_cores,
            replyd=settings,
            conversations=CUSTOMERS,
            lag_file=lag_file,
        )
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        customers = Customers(Signer(9), CUSTOMERS)
        await _write(party, customers, _WARM)
        if quiet == 1:
            await load.settled(party, doubles)
        yield party, doubles, customers


async def _write(party: Party, customers: Customers, count: int) -> None:
    """So many customers, one message each, at a constant rate."""
    acks = await load.deliver(party, customers.arrivals(_RATE, count / _RATE))
    assert all(ack.status == 200 for ack in acks)


def _lag_figures(when: str, late: list[float]) -> list[Figure]:
    return [
        Figure(
            _GROUP,
            f"loop lag {label} {when}",
            REPLYD,
            1000 * percentile(late, share),
            "ms",
            of=len(late),
            at_most=20.0 if label == "p99" else None,
            note=f"{_RATE:g} messages/s, {len(late):,} times" if label == "p99" else "",
        )
        for label, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    ]
