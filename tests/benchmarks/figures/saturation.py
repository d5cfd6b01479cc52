"""How much a core takes."""

import statistics
from collections.abc import Mapping

from tests.benchmarks import load, prices
from tests.benchmarks.arithmetic import ratios
from tests.benchmarks.figures.actors import Actor
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.load import Saturation
from tests.benchmarks.parties.started import FLOOR, REPLYD
from tests.benchmarks.results import Figure, Results

_GROUP = "saturation"
# With windows of 2 s up to 159 turns a second, which is more than a core takes.
OPEN_CONVERSATIONS = 350
# Nothing that would be reached before the core's end, where the defaults are for less.
SETTINGS = {"REPLYD_SERVER__MAX_INFLIGHT": "1000", "REPLYD_TURN__MAX_HELD": "10000"}
# What a closed loop takes beside what is measured: until it is in its stride, and until it ends.
BESIDE_SECONDS = 8.0


def seconds(effort: Effort, parties: int) -> float:
    """That `measure` takes, about."""
    return parties * (effort.saturation_seconds + BESIDE_SECONDS)


async def measure(bench: Bench, actors: Mapping[str, Actor], label: str) -> dict[str, Saturation]:
    """Of one message to a turn on one core, by party. Raises TimeoutError."""
    found = {}
    for name, actor in actors.items():
        taken = await load.saturate(
            *actor, open_conversations=OPEN_CONVERSATIONS, seconds=bench.effort.saturation_seconds
        )
        found[name] = taken
        kept(bench.results, taken, party=name)
        bench.results.say(
            f"saturation {label} {name:10} {taken.turns:6.1f} turns/s on "
            f"{100 * taken.cpu_share:.0f} % of a core, {taken.refused} refused"
        )
    return found


def kept(results: Results, taken: Saturation, **labels: object) -> None:
    results.keep(
        "saturation",
        **labels,
        turns=taken.turns,
        cpu_share=taken.cpu_share,
        replies=taken.replies,
        cpu_seconds=taken.cpu_seconds,
        refused=taken.refused,
        counts=taken.usage.counts,
    )


def figures(found: Mapping[str, list[Saturation]]) -> list[Figure]:
    turns = {name: [t.turns for t in taken] for name, taken in found.items()}
    by_cpu = {name: [t.turns_per_cpu_second for t in taken] for name, taken in found.items()}
    made = []
    for label, values in (
        ("turns of one message a second, one core", turns),
        ("turns of one message in a second of CPU", by_cpu),
    ):
        made += [Figure.spread(_GROUP, label, name, each, "") for name, each in values.items()]
        to_floor = ratios(values[REPLYD], values[FLOOR])
        made.append(Figure.spread(_GROUP, f"{label}: replyd to floor", REPLYD, to_floor, "×"))
    for name, taken in found.items():
        requests = [t.requests for t in taken]
        made.append(Figure.spread(_GROUP, "AWS requests for each turn", name, requests, ""))
    # A function is not paid by the hour.
    for name in (FLOOR, REPLYD):
        middle = statistics.median(turns[name])
        hourly = Figure(
            _GROUP, "turns in an hour, one core", name, 3600 * middle, "", note="computed"
        )
        core = prices.EC2_HOUR / prices.EC2_CORES
        note = "computed: one process for each core of a c6i.large, on demand"
        million = 1e6 * core / (3600 * middle / 2)
        label = "EC2 for a million turns, at half of that"
        made += [hourly, Figure(_GROUP, label, name, million, "$", note=note)]
    return made
