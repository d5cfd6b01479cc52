"""More conversations in the table, more instances, more messages than usual."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from tests.benchmarks import load, stage
from tests.benchmarks.arithmetic import percentile
from tests.benchmarks.connections import Connections
from tests.benchmarks.figures.acknowledgement import OPEN_CONVERSATIONS
from tests.benchmarks.figures.context import Bench
from tests.benchmarks.load import Customers
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import REPLYD, Party
from tests.benchmarks.report import Figure
from tests.benchmarks.webhooks import Signer

_GROUP = "6 growth"
_SETTINGS = {"REPLYD_SERVER__MAX_INFLIGHT": "1000", "REPLYD_TURN__MAX_HELD": "10000"}
# What is usual, as a share of the saturation; ten times as much comes in the burst.
USUAL = 0.2
_TIMES = 10
_DRAIN_SECONDS = 900.0


async def measure(bench: Bench) -> None:
    saturation = await _table_sizes(bench)
    await _instances(bench)
    await _burst(bench, USUAL * saturation)


async def _table_sizes(bench: Bench) -> float:
    """Turns a second with the smallest table."""
    effort, options = bench.effort, started.Options(on=bench.party_cores, replyd=_SETTINGS)
    found = dict[int, list[float]]()
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        for repeat in range(2):
            for size in effort.table_sizes:
                await doubles.seed(party.resources, size)
                # Customers from all over the table; a thousand must not write twice in a window.
                customers = Customers(Signer(10 * size + repeat), size)
                taken = await load.saturate(
                    party,
                    doubles,
                    customers,
                    open_conversations=OPEN_CONVERSATIONS,
                    seconds=effort.saturation_seconds,
                )
                found.setdefault(size, []).append(taken.turns)
                bench.report.say(f"{size} conversations: {taken.turns:.1f} turns/s")
    bench.report.add(
        Figure.spread(_GROUP, f"turns a second, table of {size:,}", REPLYD, turns, "/s")
        for size, turns in found.items()
    )
    return max(found[effort.table_sizes[0]])


async def _instances(bench: Bench) -> None:
    """Several on the same queue and table, and the same cores."""
    cores = bench.party_cores + tuple(c for c in bench.other_cores if c not in bench.party_cores)
    for count in bench.effort.instances:
        # One core is for the doubles and the load, where there are more.
        mine = cores[: max(1, min(count, len(cores) - 1))]
        options = started.Options(on=mine, replyd=_SETTINGS)
        async with AsyncExitStack() as stack:
            doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
            first = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
            others = [
                await stack.enter_async_context(
                    started.opened(REPLYD, doubles, options, first.resources)
                )
                for _ in range(count - 1)
            ]
            party = _together(first, others)
            taken = await load.saturate(
                party,
                doubles,
                Customers(Signer(count), 20_000),
                open_conversations=OPEN_CONVERSATIONS,
                seconds=bench.effort.saturation_seconds,
            )
        bench.report.say(f"{count} instances: {taken.turns:.1f} turns/s")
        bench.report.add(
            [
                Figure(
                    _GROUP,
                    f"turns a second, {count} instances",
                    REPLYD,
                    taken.turns,
                    "/s",
                    note=f"on {len(mine)} of {len(cores)} cores, the load on the rest",
                )
            ]
        )


class _Shared(Connections):
    """Webhooks go to the instances in turn."""

    def __init__(self, all_of_them: list[Connections]) -> None:
        super().__init__(0)
        self._every = all_of_them
        self._next = 0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._next = (self._next + 1) % len(self._every)
        return await self._every[self._next].ask(request)


def _together(first: Party, others: list[Party]) -> Party:
    every = [first, *others]
    return replace(
        first,
        pids=tuple(pid for party in every for pid in party.pids),
        webhooks=_Shared([party.webhooks for party in every]),
    )


async def _burst(bench: Bench, usual: float) -> None:
    """Ten times as many messages as usual for a while, then as usual again until all is answered.
    What is refused is counted: Twilio would deliver it again."""
    effort, options = bench.effort, started.Options(on=bench.party_cores, replyd=_SETTINGS)
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        party = await stack.enter_async_context(started.opened(REPLYD, doubles, options))
        customers = Customers(Signer(77), 20_000)
        await load.run(party, doubles, customers.arrivals(usual, 5))
        rate = _TIMES * usual
        bench.report.say(f"{rate:.0f} messages/s for {effort.burst_seconds:.0f} s")
        arrivals = customers.arrivals(rate, effort.burst_seconds)
        before = len(await doubles.sent(0))
        acks: list[load.Acknowledged] = []
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                due = began + arrival.at
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                group.create_task(_deliver(party, arrival.webhook.request, due, acks))
        over, sent = time.monotonic(), len(await doubles.sent(before))
        taken = sum(ack.status == 200 for ack in acks)
        await load.settled(party, doubles, _DRAIN_SECONDS)
        drained, replies = time.monotonic() - over, len(await doubles.sent(before))
    seconds = [ack.seconds for ack in acks if ack.status == 200]
    bench.report.add(
        [
            Figure(
                _GROUP,
                f"drain after {_TIMES} × the usual {usual:.0f}/s for {effort.burst_seconds:.0f} s",
                REPLYD,
                drained,
                "s",
                note=f"{taken} taken, {len(acks) - taken} refused, backlog {taken - sent}, "
                f"{replies} replies",
            ),
            Figure(
                _GROUP,
                "acknowledgement p99 in the burst",
                REPLYD,
                1000 * percentile(seconds, 0.99),
                "ms",
                of=len(seconds),
            ),
        ]
    )


async def _deliver(party: Party, request: bytes, due: float, acks: list[load.Acknowledged]) -> None:
    status, _ = await party.webhooks.ask(request)
    acks.append(load.Acknowledged(status, time.monotonic() - due))
