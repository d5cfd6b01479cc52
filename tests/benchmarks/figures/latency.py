"""How soon a webhook is acknowledged, and what a reply takes beyond its window and the model, at
several loads up to nine tenths of what a core takes."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.benchmarks import load
from tests.benchmarks.arithmetic import percentile, ratios
from tests.benchmarks.figures import actors, saturation
from tests.benchmarks.figures.actors import Actor
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.load import Outcome, Saturation
from tests.benchmarks.parties.started import FLOOR, PARTIES, QUIET_SECONDS, REPLYD, TWO_LAMBDA
from tests.benchmarks.prices import Usage
from tests.benchmarks.results import Figure

MODEL_SECONDS = 0.2
# Of the saturation: replyd's for it and for the floor, the two-Lambda way's own for that.
SHARES = (0.2, 0.35, 0.5, 0.7, 0.9)
# Where also the tails of the acknowledgement are asked for.
TAILS = (0.5, 0.9)
_ACK, _ADDED, _LOAD = "acknowledgement", "added latency", "under load"
_PERCENTILES = {"p50": 0.5, "p99": 0.99}
_GOALS = {("p50", 0.5): 25.0, ("p99", 0.5): 150.0}
# A turn takes one for as long as the model and its own work do, at up to 80 turns a second.
_REPLY_RUNNERS = 24
_BESIDE_SECONDS = QUIET_SECONDS + 1.5


@dataclass(frozen=True, slots=True)
class Run:
    """One party at one load, once. In milliseconds: `acks`, and `added` beyond window and model."""

    rate: float
    messages: int
    cpu_seconds: float
    usage: Usage
    acks: list[float]
    added: list[float]

    @classmethod
    def of(cls, rate: float, cpu_seconds: float, usage: Usage, outcome: Outcome) -> "Run":
        acks = [1000 * ack.seconds for ack in outcome.acks]
        added = [1000 * (s - QUIET_SECONDS - MODEL_SECONDS) for s in outcome.reply_seconds]
        return cls(rate, len(acks), cpu_seconds, usage, acks, added)


Runs = dict[tuple[float, str], list[Run]]


def seconds(effort: Effort) -> float:
    """That `measure` takes, about."""
    loads = sum(_load_seconds(effort, share) + _BESIDE_SECONDS for share in SHARES)
    open_loops = effort.repeats * len(PARTIES) * loads
    closed_loops = effort.repeats * saturation.seconds(effort, len(PARTIES))
    return actors.START_SECONDS + closed_loops + open_loops


def _load_seconds(effort: Effort, share: float) -> float:
    return effort.tail_seconds if share in TAILS else effort.load_seconds


async def measure(bench: Bench) -> None:
    opened = actors.opened(
        bench, PARTIES, settings=saturation.SETTINGS, reply_runners=_REPLY_RUNNERS
    )
    runs: Runs = {}
    most: dict[str, list[Saturation]] = {}
    async with opened as acting:
        await acting[REPLYD].stage.model_takes(MODEL_SECONDS)
        for repeat in range(1, bench.effort.repeats + 1):
            label = f"{repeat}/{bench.effort.repeats}"
            # Anew each time: what a machine can do also depends on who else has its cores.
            taken = await saturation.measure(bench, acting, label)
            for name, each in taken.items():
                most.setdefault(name, []).append(each)
            await _open_loops(bench, acting, taken, label, runs)
    bench.results.add(saturation.figures(most))
    bench.results.add(
        figures(
            runs, {name: statistics.median(t.turns for t in each) for name, each in most.items()}
        )
    )


async def _open_loops(
    bench: Bench,
    acting: Mapping[str, Actor],
    most: Mapping[str, Saturation],
    repeat: str,
    runs: Runs,
) -> None:
    for share in SHARES:
        for name, actor in acting.items():
            rate = share * most[TWO_LAMBDA if name == TWO_LAMBDA else REPLYD].turns
            label = f"load {repeat} {share:.0%} {name:10} {rate:5.1f}/s"
            try:
                run, refused = await _run(actor, rate, _load_seconds(bench.effort, share))
            except TimeoutError:
                bench.results.say(f"{label} did not settle")
                continue
            runs.setdefault((share, name), []).append(run)
            bench.results.keep(
                "load",
                party=name,
                share=share,
                rate=rate,
                refused=refused,
                cpu_seconds=run.cpu_seconds,
                counts=run.usage.counts,
                ack_ms=[round(ms, 2) for ms in run.acks],
                added_ms=[round(ms, 2) for ms in run.added],
            )
            ack, added = (
                f"p50 {percentile(each, 0.5):5.1f} p99 {percentile(each, 0.99):6.1f}"
                for each in (run.acks, run.added)
            )
            bench.results.say(f"{label} ack {ack}, added {added} ms, {refused} refused")


async def _run(actor: Actor, rate: float, seconds: float) -> tuple[Run, int]:
    """And how many messages were refused. Raises TimeoutError."""
    party, stage, customers = actor
    usage, cpu = await stage.usage(party.resources), party.cpu_seconds()
    outcome = await load.run(party, stage, customers.arrivals(rate, seconds))
    cpu, usage = party.cpu_seconds() - cpu, await stage.usage(party.resources) - usage
    return Run.of(rate, cpu, usage, outcome), outcome.refused


def figures(runs: Runs, most: Mapping[str, float]) -> list[Figure]:
    made = []
    for share in TAILS:
        made += _rates(_ACK, share, runs, most)
        for name, taken in _at(share, runs):
            acks = [run.acks for run in taken]
            made += _percentiles(_ACK, share, name, acks)
            every = [ms for each in acks for ms in each]
            rarest = [percentile(each, 0.999) for each in acks]
            made.append(
                Figure(
                    _ACK,
                    f"p99.9 at {share:.0%}",
                    name,
                    percentile(every, 0.999),
                    "ms",
                    min(rarest),
                    max(rarest),
                    len(every),
                    note=f"of all {len(every):,} samples",
                    repeats=rarest,
                )
            )
        pairs = runs.get((share, REPLYD), []), runs.get((share, FLOOR), [])
        if all(pairs) and len(pairs[0]) == len(pairs[1]):
            p99 = ratios(*([percentile(run.acks, 0.99) for run in taken] for taken in pairs))
            label = f"p99 at {share:.0%}, replyd to floor at the same load"
            made.append(Figure.spread(_ACK, label, REPLYD, p99, "×", at_most=3.0))
    for share in SHARES:
        made += _rates(_ADDED, share, runs, most)
        for name, taken in _at(share, runs):
            made += _percentiles(_ADDED, share, name, [run.added for run in taken])
    for share in TAILS:
        for name, taken in _at(share, runs):
            requests = [run.usage.requests / run.messages for run in taken]
            cpu = [1000 * run.cpu_seconds / run.messages for run in taken]
            made += [
                Figure.spread(
                    _LOAD, f"AWS requests per inbound at {share:.0%}", name, requests, ""
                ),
                Figure.spread(_LOAD, f"CPU time per inbound at {share:.0%}", name, cpu, "ms"),
            ]
    return made


def _at(share: float, runs: Runs) -> Iterable[tuple[str, list[Run]]]:
    return ((name, runs[share, name]) for name in PARTIES if (share, name) in runs)


def _rates(group: str, share: float, runs: Runs, most: Mapping[str, float]) -> list[Figure]:
    made = []
    for name, taken in _at(share, runs):
        rate = statistics.median(run.rate for run in taken)
        note = "more than it can take" if rate > most[name] else ""
        made.append(Figure(group, f"messages a second at {share:.0%}", name, rate, "", note=note))
    return made


def _percentiles(
    group: str, share: float, name: str, repeats: list[list[float]]
) -> Iterable[Figure]:
    for label, p in _PERCENTILES.items():
        values = [percentile(each, p) for each in repeats]
        goal = _GOALS.get((label, share)) if (group, name) == (_ADDED, REPLYD) else None
        yield Figure.spread(group, f"{label} at {share:.0%}", name, values, "ms", at_most=goal)
