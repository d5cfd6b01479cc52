"""CPU time and AWS requests, for each inbound message and each turn."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import load
from tests.benchmarks.arithmetic import ratios
from tests.benchmarks.figures import actors
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.load import Customers
from tests.benchmarks.parties.started import (
    ASSISTANTS,
    EXCHANGE,
    FLOOR,
    QUIET_SECONDS,
    REPLYD,
    TWO_LAMBDA,
    Party,
)
from tests.benchmarks.prices import Usage
from tests.benchmarks.results import Figure
from tests.benchmarks.stage import Stage

# Messages a second, far below what each of the parties can do on one core.
RATE = 20.0
TRIES = 3
SINGLE = "single"
SHAPES: Mapping[str, int] = {SINGLE: 1, "burst of three": 3}
_UNITS = ("write_units", "read_units")
PARTIES = (FLOOR, TWO_LAMBDA, ASSISTANTS, REPLYD)
_CPU, _REQUESTS = "CPU time", "AWS"
# What a sample takes beside the load: the window, and until all is quiet.
BESIDE_SECONDS = QUIET_SECONDS + 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One party, one shape, once."""

    cpu_seconds: float
    messages: int
    replies: int
    usage: Usage

    @property
    def per_message_ms(self) -> float:
        return 1000 * self.cpu_seconds / self.messages

    @property
    def per_turn_ms(self) -> float:
        return 1000 * self.cpu_seconds / self.replies

    def kept(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "cpu_seconds": self.cpu_seconds,
            "messages": self.messages,
            "replies": self.replies,
            "write_units": self.usage.write_units,
            "read_units": self.usage.read_units,
            "counts": self.usage.counts,
        }

    @property
    def requests(self) -> float:
        """To AWS for each message, without what goes on by the clock."""
        return self.usage.requests / self.messages


async def sample(
    party: Party, stage: Stage, customers: Customers, *, burst: int, seconds: float
) -> Sample:
    """Raises RuntimeError when not every message was answered."""
    arrivals = customers.arrivals(RATE, seconds, burst)
    usage, cpu = await stage.usage(party.resources), party.cpu_seconds()
    outcome = await load.run(party, stage, arrivals)
    cpu = party.cpu_seconds() - cpu
    usage = await stage.usage(party.resources) - usage
    bursts = len(arrivals) // burst
    if outcome.refused or outcome.replies < bursts:
        raise RuntimeError(
            f"{party.name}: {outcome.refused} messages refused, {outcome.replies} replies to "
            f"{bursts} bursts"
        )
    return Sample(cpu, len(arrivals), outcome.replies, usage)


async def complete_sample(
    party: Party, stage: Stage, customers: Customers, *, burst: int, seconds: float
) -> Sample:
    """As `sample`, once more where something went unanswered: on a busy machine that happens."""
    for _ in range(TRIES - 1):
        try:
            return await sample(party, stage, customers, burst=burst, seconds=seconds)
        except (RuntimeError, TimeoutError):
            await asyncio.sleep(1)
    return await sample(party, stage, customers, burst=burst, seconds=seconds)


class Samples:
    """By shape and party, one for each repeat."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[Sample]] = {}

    def add(self, shape: str, party: str, taken: Sample) -> None:
        self._taken.setdefault((shape, party), []).append(taken)

    def of(self, shape: str, party: str) -> list[Sample]:
        return self._taken[shape, party]

    def per_message_ms(self, shape: str, party: str) -> list[float]:
        return [s.per_message_ms for s in self.of(shape, party)]

    def ratio(self, shape: str, to: str, of: str = REPLYD) -> list[float]:
        """One's CPU time to another's, repeat by repeat."""
        return ratios(self.per_message_ms(shape, of), self.per_message_ms(shape, to))


def seconds(effort: Effort) -> float:
    """That `measure` takes, about."""
    each = effort.sample_seconds + BESIDE_SECONDS
    samples = len(SHAPES) * len(PARTIES) + 1
    return actors.START_SECONDS + effort.repeats * samples * each


async def measure(bench: Bench) -> None:
    effort, results = bench.effort, bench.results
    samples = Samples()
    async with AsyncExitStack() as stack:
        acting = await stack.enter_async_context(actors.opened(bench, (*PARTIES, EXCHANGE)))
        for repeat in range(1, effort.repeats + 1):
            for shape, burst in SHAPES.items():
                for name, (party, doubles, customers) in acting.items():
                    # It knows no bursts.
                    if name == EXCHANGE and shape != SINGLE:
                        continue
                    taken = await complete_sample(
                        party, doubles, customers, burst=burst, seconds=effort.sample_seconds
                    )
                    samples.add(shape, name, taken)
                    results.keep("cpu", shape=shape, party=name, **taken.kept())
                    results.say(
                        f"CPU {repeat}/{effort.repeats} {shape:14} {name:22} "
                        f"{taken.per_message_ms:6.2f} ms a message, "
                        f"{taken.requests:.2f} requests"
                    )
    results.add(figures(samples))


def figures(samples: Samples) -> list[Figure]:
    found = []
    for shape in SHAPES:
        for party in PARTIES:
            values = samples.per_message_ms(shape, party)
            found.append(Figure.spread(_CPU, f"per inbound, {shape}", party, values, "ms"))
        for party in PARTIES:
            turns = [s.per_turn_ms for s in samples.of(shape, party)]
            found.append(Figure.spread(_CPU, f"per turn, {shape}", party, turns, "ms"))
        for other, goal in ((FLOOR, 1.3), (TWO_LAMBDA, 0.2), (ASSISTANTS, None)):
            found.append(
                Figure.spread(
                    _CPU,
                    f"replyd to {other}, {shape}",
                    REPLYD,
                    samples.ratio(shape, other),
                    "×",
                    at_most=goal,
                )
            )
    values = samples.per_message_ms(SINGLE, EXCHANGE)
    found += [
        Figure.spread(_CPU, f"per inbound, {SINGLE}", EXCHANGE, values, "ms"),
        Figure.spread(
            _CPU,
            f"exchange to two_lambda, {SINGLE}",
            EXCHANGE,
            samples.ratio(SINGLE, TWO_LAMBDA, EXCHANGE),
            "×",
        ),
    ]
    for shape in SHAPES:
        goal = 7.0 if shape == SINGLE else 3.7
        for party in PARTIES:
            taken = samples.of(shape, party)
            found.append(
                Figure.spread(
                    _REQUESTS,
                    f"requests per inbound, {shape}",
                    party,
                    [s.requests for s in taken],
                    "",
                    at_most=goal if party == REPLYD else None,
                    note=_by_operation(taken),
                )
            )
        for party in PARTIES:
            costs = [_million_turns(s) for s in samples.of(shape, party)]
            found.append(
                Figure.spread(
                    _REQUESTS,
                    f"a million turns, {shape}",
                    party,
                    costs,
                    "$",
                    note=_units(samples.of(shape, party)),
                )
            )
    return found


def _million_turns(taken: Sample) -> float:
    return 1e6 * taken.usage.dollars / taken.replies


def _units(taken: list[Sample]) -> str:
    turns = sum(s.replies for s in taken)
    writes, reads = (sum(getattr(s.usage, n) for s in taken) / turns for n in _UNITS)
    return f"{writes:.1f} write and {reads:.1f} read units a turn; receives included"


def _by_operation(taken: list[Sample]) -> str:
    total: Counter[str] = sum((s.usage.counts for s in taken), Counter())
    messages = sum(s.messages for s in taken)
    parts = (f"{name} {count / messages:.2f}" for name, count in sorted(total.items()))
    return ", ".join(parts)
