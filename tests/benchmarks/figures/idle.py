"""From start to ready and right after it, and what a process does while nothing happens."""

import asyncio
import time
from contextlib import AsyncExitStack

from tests.benchmarks import load, stage
from tests.benchmarks.arithmetic import percentile
from tests.benchmarks.figures.actors import CUSTOMERS
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.load import Customers
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import REPLYD
from tests.benchmarks.results import Figure
from tests.benchmarks.webhooks import Signer

_GROUP = "idle"
# CATCH-UP reads its first list 15 s after the start.
_AFTER_START_SECONDS = 20
_MINUTES_A_MONTH = 60 * 24 * 30
# Customers do not wait until a process that is ready has loaded the SDK of its model.
_RATE, _FIRST_SECONDS = 20.0, 3.0
# Of one start and stop.
_START_SECONDS = 4.0


def seconds(effort: Effort) -> float:
    """That `measure` takes, about."""
    starts = (effort.starts + 1) * _START_SECONDS + effort.starts * (_FIRST_SECONDS + 3)
    return starts + _AFTER_START_SECONDS + effort.idle_seconds


async def measure(bench: Bench) -> None:
    effort, ready, cpu = bench.effort, list[float](), list[float]()
    first: list[list[float]] = []
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        resources = await doubles.provide(REPLYD, CUSTOMERS)
        customers = Customers(Signer(0), CUSTOMERS)
        options = started.Options(on=bench.party_cores)
        for repeat in range(1, effort.starts + 1):
            began = time.monotonic()
            async with started.opened(REPLYD, doubles, options, resources) as party:
                ready.append(time.monotonic() - began)
                cpu.append(party.cpu_seconds())
                outcome = await load.run(party, doubles, customers.arrivals(_RATE, _FIRST_SECONDS))
                first.append([1000 * ack.seconds for ack in outcome.acks])
            bench.results.keep("start", ready=ready[-1], cpu=cpu[-1], ack_ms=first[-1])
            bench.results.say(
                f"start {repeat}/{effort.starts} ready after {ready[-1]:.2f} s, then ack p50 "
                f"{percentile(first[-1], 0.5):.1f} longest {max(first[-1]):.1f} ms, "
                f"{outcome.refused} refused"
            )
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options, resources))
        # What it does once after the start, CATCH-UP's first round among it, is no part of idling.
        await asyncio.sleep(_AFTER_START_SECONDS)
        loaded = party.cpu_seconds()
        usage = await doubles.usage(resources)
        bench.results.say(f"idle for {effort.idle_seconds:.0f} s")
        await asyncio.sleep(effort.idle_seconds)
        share = (party.cpu_seconds() - loaded) / effort.idle_seconds
        usage = await doubles.usage(resources) - usage
    minutes = effort.idle_seconds / 60
    a_minute = {name: n / minutes for name, n in usage.counts.items()}
    operations = ", ".join(f"{name} {n:.1f}" for name, n in sorted(a_minute.items()))
    month = _MINUTES_A_MONTH * usage.dollars / minutes
    bench.results.add(
        [
            Figure.spread(_GROUP, "start to ready", REPLYD, ready, "s", at_most=1.5),
            Figure.spread(_GROUP, "CPU time until ready", REPLYD, cpu, "s"),
            *(
                Figure.spread(
                    _GROUP,
                    f"acknowledgement {label} in the first {_FIRST_SECONDS:g} s after that",
                    REPLYD,
                    [percentile(each, share) for each in first],
                    "ms",
                    note=f"{_RATE:g} messages/s, while OpenAI's SDK is loaded"
                    if label == "p50"
                    else "",
                )
                for label, share in (("p50", 0.5), ("longest", 1.0))
            ),
            Figure(_GROUP, f"CPU time {_AFTER_START_SECONDS} s later", REPLYD, loaded, "s"),
            Figure(_GROUP, "CPU time while idle", REPLYD, 100 * share, "% of a core", at_most=0.5),
            Figure(
                _GROUP,
                "AWS requests a minute",
                REPLYD,
                sum(a_minute.values()),
                "",
                note=operations,
            ),
            Figure(_GROUP, "AWS for an idle month", REPLYD, month, "$"),
        ]
    )
