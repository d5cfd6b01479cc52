"""More conversations in the table, more instances, more messages than usual."""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from tests.benchmarks import load, stage
from tests.benchmarks.arithmetic import percentile, ratios
from tests.benchmarks.connections import Connections
from tests.benchmarks.figures import saturation
from tests.benchmarks.figures.actors import CUSTOMERS, Actor, warmed
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.figures.saturation import OPEN_CONVERSATIONS, SETTINGS
from tests.benchmarks.load import Customers, Saturation
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import REPLYD, Options, Party
from tests.benchmarks.results import Figure
from tests.benchmarks.webhooks import Signer

_GROUP = "growth"
# What is usual, as a share of the saturation; ten times as much comes in the burst.
USUAL = 0.2
_TIMES = 10
_USUAL_SECONDS = 5.0
_DRAIN_SECONDS = 900.0
# A prime, so that customers from all over a table write, and all of them before one does again.
_STRIDE = 7_919
# Of one start, warming included, and stop.
_START_SECONDS = 8.0


def seconds(effort: Effort) -> float:
    """That `measure` takes, about."""
    runs = effort.repeats * (len(effort.table_sizes) + len(effort.instances))
    starts = _START_SECONDS * (2 + sum(effort.instances))
    loops = runs * (effort.saturation_seconds + saturation.BESIDE_SECONDS)
    return loops + starts + 2.5 * effort.burst_seconds


async def measure(bench: Bench) -> None:
    sizes = await _table_sizes(bench)
    await _instances(bench)
    await _burst(bench, USUAL * max(taken.turns for taken in sizes))


async def _table_sizes(bench: Bench) -> list[Saturation]:
    """Of the smallest table."""
    effort, options = bench.effort, Options(on=bench.party_cores, replyd=SETTINGS)
    found: dict[int, list[Saturation]] = {size: [] for size in effort.table_sizes}
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        for repeat in range(effort.repeats):
            for size in effort.table_sizes:
                await doubles.seed(party.resources, size)
                customers = Customers(Signer(10 * size + repeat), size, stride=_STRIDE)
                taken = await _saturated(bench, Actor(party, doubles, customers), f"table {size:,}")
                found[size].append(taken)
    smallest, *_ = effort.table_sizes
    for size, each in found.items():
        _add(bench, f"table of {size:,}", each, found[smallest] if size != smallest else ())
    return found[smallest]


async def _instances(bench: Bench) -> None:
    """Several on one queue and table, and on as many cores as can be spared."""
    effort = bench.effort
    cores = bench.party_cores + tuple(c for c in bench.other_cores if c not in bench.party_cores)
    found: dict[int, list[Saturation]] = {count: [] for count in effort.instances}
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        actors = {}
        for count in effort.instances:
            # One core is for the doubles and the load, where there are more.
            mine = cores[: max(1, min(count, len(cores) - 1))]
            options = Options(on=mine, replyd=SETTINGS)
            resources = await doubles.provide(f"{REPLYD}-{count}", CUSTOMERS)
            parties = [
                await stack.enter_async_context(started.opened(REPLYD, doubles, options, resources))
                for _ in range(count)
            ]
            customers = Customers(Signer(count), CUSTOMERS)
            actors[count] = Actor(_together(parties), doubles, customers)
            await warmed(actors[count], of=count)
            bench.results.say(f"{count} instances have started")
        for _ in range(effort.repeats):
            for count, actor in actors.items():
                found[count].append(await _saturated(bench, actor, f"{count} instances"))
    fewest, *_ = effort.instances
    for count, taken in found.items():
        used = max(1, min(count, len(cores) - 1))
        note = f"on {used} of {len(cores)} cores, the load on the rest"
        _add(bench, f"{count} instances", taken, found[fewest] if count != fewest else (), note)


async def _saturated(bench: Bench, actor: Actor, label: str) -> Saturation:
    taken = await load.saturate(
        *actor,
        open_conversations=OPEN_CONVERSATIONS,
        seconds=bench.effort.saturation_seconds,
    )
    saturation.kept(bench.results, taken, party=REPLYD, of=label)
    each = 1000 / taken.turns_per_cpu_second
    bench.results.say(f"{label}: {taken.turns:.1f} turns/s, {each:.2f} ms of CPU a turn")
    return taken


def _add(
    bench: Bench,
    label: str,
    taken: Sequence[Saturation],
    first: Sequence[Saturation],
    note: str = "",
) -> None:
    """`first`: what it is compared with, if anything. Where a turn takes the same CPU time, turns
    grow with the cores."""
    cpu, of_first = ([1000 / t.turns_per_cpu_second for t in each] for each in (taken, first))
    turns = [t.turns for t in taken]
    made = [
        Figure.spread(_GROUP, f"turns a second, {label}", REPLYD, turns, "", note=note),
        Figure.spread(_GROUP, f"CPU time for a turn, {label}", REPLYD, cpu, "ms"),
    ]
    if first:
        name = f"CPU time for a turn, {label}, to the first"
        made.append(Figure.spread(_GROUP, name, REPLYD, ratios(cpu, of_first), "×"))
    bench.results.add(made)


class _Shared(Connections):
    """Webhooks go to the instances in turn."""

    def __init__(self, all_of_them: list[Connections]) -> None:
        super().__init__(0)
        self._every = all_of_them
        self._next = 0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._next = (self._next + 1) % len(self._every)
        return await self._every[self._next].ask(request)


def _together(parties: list[Party]) -> Party:
    return replace(
        parties[0],
        pids=tuple(pid for party in parties for pid in party.pids),
        webhooks=_Shared([party.webhooks for party in parties]),
    )


async def _burst(bench: Bench, usual: float) -> None:
    """Ten times as many messages as usual for a while, and then none until all is answered. What is
    refused is counted: Twilio would deliver it again."""
    effort, rate = bench.effort, _TIMES * usual
    options = Options(on=bench.party_cores, replyd=SETTINGS)
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        customers = Customers(Signer(77), CUSTOMERS)
        await load.run(party, doubles, customers.arrivals(usual, _USUAL_SECONDS))
        arrivals = customers.arrivals(rate, effort.burst_seconds)
        bench.results.say(f"{rate:.0f} messages/s for {effort.burst_seconds:.0f} s")
        before = await doubles.taken()
        acks = await load.deliver(party, arrivals)
        over = time.monotonic()
        taken = sum(ack.status == 200 for ack in acks)
        backlog = taken - (await doubles.taken() - before)
        bench.results.say(f"{taken} of {len(acks)} taken, {backlog} not yet answered")
        await load.settled(party, doubles, _DRAIN_SECONDS)
        drained = time.monotonic() - over
        replies = await doubles.taken() - before
    label = f"after {_TIMES} × the usual {usual:.0f}/s for {effort.burst_seconds:.0f} s"
    seconds = [ack.seconds for ack in acks if ack.status == 200]
    refused = len(acks) - taken
    note = f"{taken} taken, {refused} refused, {replies} replies"
    p99 = 1000 * percentile(seconds, 0.99)
    bench.results.keep("burst", rate=rate, ack_ms=[round(1000 * s, 2) for s in seconds])
    bench.results.add(
        [
            Figure(_GROUP, f"backlog {label}", REPLYD, backlog, "messages", note=note),
            Figure(_GROUP, f"drained {label}", REPLYD, drained, "s"),
            Figure(_GROUP, "acknowledgement p99 in the burst", REPLYD, p99, "ms", of=len(seconds)),
        ]
    )
