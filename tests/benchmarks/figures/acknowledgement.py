"""How much a core takes, how soon a webhook is acknowledged, and what a reply takes beyond its
window and the model, at half and at nine tenths of that."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from tests.benchmarks import load, stage
from tests.benchmarks.arithmetic import percentile, ratios
from tests.benchmarks.figures.context import Bench
from tests.benchmarks.load import Customers, Outcome
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import FLOOR, PARTIES, QUIET_SECONDS, REPLYD, Party
from tests.benchmarks.report import Figure
from tests.benchmarks.stage import Stage
from tests.benchmarks.webhooks import Signer

OPEN_CONVERSATIONS = 250
MODEL_SECONDS = 0.2
SHARES = (0.5, 0.9)
_SATURATION, _ACK, _ADDED = "3 saturation", "3 acknowledgement", "4 added latency"
_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

# A long window keeps more conversations open than a turn may run at once.
_SETTINGS = {
    "REPLYD_SERVER__MAX_INFLIGHT": "1000",
    "REPLYD_TURN__MAX_HELD": "10000",
}


@dataclass(frozen=True, slots=True)
class Actor:
    party: Party
    stage: Stage
    customers: Customers


class Runs:
    """What open loops gave, by share of the saturation and party, one for each repeat. The floor is
    also driven at replyd's rates, as `floor at replyd's rate`."""

    def __init__(self) -> None:
        self._taken: dict[tuple[float, str], list[Outcome]] = {}

    def add(self, share: float, name: str, outcome: Outcome) -> None:
        self._taken.setdefault((share, name), []).append(outcome)

    def of(self, share: float, name: str) -> list[Outcome]:
        return self._taken.get((share, name), [])


AT_OURS = "floor at replyd's rate"


async def measure(bench: Bench) -> None:
    effort = bench.effort
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        options = started.Options(
            on=bench.party_cores, reply_runners=effort.reply_runners, replyd=_SETTINGS
        )
        actors = {}
        for number, name in enumerate(PARTIES):
            bench.report.say(f"{name} starts")
            party = await stack.enter_async_context(started.opened(name, doubles, options))
            actors[name] = Actor(party, doubles, Customers(Signer(number), 20_000))
            await load.run(party, doubles, actors[name].customers.arrivals(10, 2))
        rates = await _saturations(bench, actors)
        await doubles.model_takes(MODEL_SECONDS)
        runs = await _open_loops(bench, actors, rates)
    bench.report.add(figures(runs, rates))


async def _saturations(bench: Bench, actors: dict[str, Actor]) -> dict[str, float]:
    """Turns of one message a second on one core: the best of some tries, because whatever else the
    machine does only takes away."""
    effort, found, of_cpu = bench.effort, dict[str, list[float]](), dict[str, list[float]]()
    for repeat in range(1, effort.repeats + 1):
        for name, actor in actors.items():
            taken = await load.saturate(
                actor.party,
                actor.stage,
                actor.customers,
                open_conversations=OPEN_CONVERSATIONS,
                seconds=effort.saturation_seconds,
            )
            found.setdefault(name, []).append(taken.turns)
            of_cpu.setdefault(name, []).append(taken.turns_per_cpu_second)
            bench.report.say(
                f"saturation {repeat}/{effort.repeats} {name:10} {taken.turns:6.1f} turns/s on "
                f"{100 * taken.cpu_share:.0f} % of a core, {taken.refused} refused"
            )
    bench.report.add(
        Figure.spread(_SATURATION, "turns of one message a second, per core", name, values, "/s")
        for name, values in found.items()
    )
    bench.report.add(
        Figure.spread(_SATURATION, "turns of one message in a second of CPU", name, values, "")
        for name, values in of_cpu.items()
    )
    to_floor = ratios(of_cpu[REPLYD], of_cpu[FLOOR])
    bench.report.add([Figure.spread(_SATURATION, "replyd to floor, by CPU", REPLYD, to_floor, "×")])
    return {name: max(values) for name, values in found.items()}


async def _open_loops(bench: Bench, actors: dict[str, Actor], rates: dict[str, float]) -> Runs:
    effort, runs = bench.effort, Runs()
    driven = [(name, name, rates[name]) for name in actors]
    driven.append((AT_OURS, FLOOR, rates[REPLYD]))
    for repeat in range(1, effort.repeats + 1):
        for share in SHARES:
            for label, name, rate in driven:
                actor = actors[name]
                arrivals = actor.customers.arrivals(share * rate, effort.load_seconds)
                try:
                    outcome = await load.run(actor.party, actor.stage, arrivals)
                except TimeoutError:
                    bench.report.say(f"{label} did not settle at {share:.0%}")
                    continue
                runs.add(share, label, outcome)
                seconds = [a.seconds for a in outcome.acks]
                bench.report.say(
                    f"load {repeat}/{effort.repeats} {share:.0%} {label:22} "
                    f"{share * rate:5.1f}/s ack p50 {1000 * percentile(seconds, 0.5):6.1f} "
                    f"p99 {1000 * percentile(seconds, 0.99):7.1f} ms, {outcome.refused} refused"
                )
    return runs


def figures(runs: Runs, rates: dict[str, float]) -> list[Figure]:
    found = []
    for share in SHARES:
        for name in (*PARTIES, AT_OURS):
            taken = runs.of(share, name)
            if not taken:
                continue
            rate = share * rates[FLOOR if name == FLOOR else name.replace(AT_OURS, REPLYD)]
            found += _spreads(
                _ACK, f"at {share:.0%}", name, [[a.seconds for a in o.acks] for o in taken], rate
            )
        ours, floor = runs.of(share, REPLYD), runs.of(share, AT_OURS)
        pairs = zip(ours, floor, strict=False)
        p99 = [_p99(mine) / _p99(theirs) for mine, theirs in pairs]
        if p99:
            name = f"p99 at {share:.0%}, replyd to floor at the same rate"
            found.append(Figure.spread(_ACK, name, REPLYD, p99, "×", goal="< 3"))
    goals = {"p50": "≤ 25 ms", "p99": "≤ 150 ms"}
    for share in SHARES:
        for name in PARTIES:
            added = [
                [s - QUIET_SECONDS - MODEL_SECONDS for s in outcome.reply_seconds]
                for outcome in runs.of(share, name)
            ]
            if added:
                wanted = goals if name == REPLYD and share == SHARES[0] else {}
                found += _spreads(
                    _ADDED, f"at {share:.0%}", name, added, share * rates[name], wanted
                )
    return found


def _p99(outcome: Outcome) -> float:
    return percentile([a.seconds for a in outcome.acks], 0.99)


def _spreads(
    group: str,
    name: str,
    party: str,
    samples: list[list[float]],
    rate: float,
    goals: dict[str, str] | None = None,
) -> list[Figure]:
    return [
        Figure.spread(
            group,
            f"{label} {name}",
            party,
            [1000 * percentile(values, p) for values in samples],
            "ms",
            goal=(goals or {}).get(label, ""),
            note=f"{rate:.0f}/s, {min(map(len, samples))} samples a repeat",
        )
        for label, p in _PERCENTILES.items()
    ]
