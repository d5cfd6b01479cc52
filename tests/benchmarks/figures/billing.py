"""What Lambda bills for the two-Lambda way, which waits for the model and Twilio inside a function:
CPU time does not show it."""

import json
from collections.abc import Sequence
from itertools import chain

from tests.benchmarks import connections, load, prices
from tests.benchmarks.figures import actors
from tests.benchmarks.figures.actors import Actor
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.figures.cpu import BESIDE_SECONDS, SHAPES
from tests.benchmarks.figures.latency import MODEL_SECONDS
from tests.benchmarks.parties.started import TWO_LAMBDA
from tests.benchmarks.results import Figure

_GROUP = "Lambda's bill"
# Calls of the model in production take seconds.
REAL_MODEL_SECONDS = 3.0
MEMORY_MB = (128, 256, 512)
# Messages a second: few enough that the functions, on one core here, do not wait for each other.
_RATE, _SECONDS = 5.0, 6.0
_REPEATS = 3
_ASKED = connections.encoded("GET", "/_bench/seconds")


def seconds(_: Effort) -> float:
    """That `measure` takes, about."""
    return actors.START_SECONDS / 2 + _REPEATS * len(SHAPES) * (_SECONDS + BESIDE_SECONDS)


async def measure(bench: Bench) -> None:
    calls: dict[str, list[tuple[list[float], list[float]]]] = {}
    async with actors.opened(bench, [TWO_LAMBDA]) as acting:
        actor = acting[TWO_LAMBDA]
        await actor.stage.model_takes(MODEL_SECONDS)
        for repeat in range(1, _REPEATS + 1):
            for shape, burst in SHAPES.items():
                await _durations(actor)
                arrivals = actor.customers.arrivals(_RATE, _SECONDS, burst)
                outcome = await load.run(actor.party, actor.stage, arrivals)
                webhook, reply = await _durations(actor)
                calls.setdefault(shape, []).append((webhook, reply))
                bench.results.keep("billing", shape=shape, webhook=webhook, reply=reply)
                bench.results.say(
                    f"billing {repeat}/{_REPEATS} {shape:14} {outcome.replies} turns, "
                    f"{len(webhook)} + {len(reply)} calls, {sum(webhook) + sum(reply):.2f} s"
                )
    bench.results.add(
        chain.from_iterable(figures(shape, SHAPES[shape], taken) for shape, taken in calls.items())
    )


async def _durations(actor: Actor) -> tuple[list[float], list[float]]:
    """Seconds of each call of the webhook and of the reply function since the last time."""
    _, body = await actor.party.webhooks.ask(_ASKED)
    webhook, reply = json.loads(body)
    return webhook, reply


def figures(
    shape: str, burst: int, repeats: Sequence[tuple[list[float], list[float]]]
) -> list[Figure]:
    made, column = [], f"{TWO_LAMBDA}, {shape}"
    for name, place in (("webhook", 0), ("reply", 1)):
        means = [1000 * sum(taken[place]) / len(taken[place]) for taken in repeats]
        made.append(Figure.spread(_GROUP, f"a call of the {name} function", column, means, "ms"))
    for model in (MODEL_SECONDS, REAL_MODEL_SECONDS):
        measured = model == MODEL_SECONDS
        for memory in MEMORY_MB:
            dollars = [1e6 * turn(*taken, burst, memory, model) for taken in repeats]
            made.append(
                Figure.spread(
                    _GROUP,
                    f"a million turns, {memory} MB, a model that takes {model:g} s",
                    column,
                    dollars,
                    "$",
                    note="" if measured else f"computed from the calls with {MODEL_SECONDS:g} s",
                )
            )
    return made


def turn(
    webhook: Sequence[float], reply: Sequence[float], burst: int, memory_mb: int, model: float
) -> float:
    """Dollars for one. Of a burst's calls of the reply function the last one asks the model, which
    took MODEL_SECONDS: it is the longest."""
    turns = len(webhook) // burst
    asking = sorted(reply)[-turns:]
    others = sorted(reply)[:-turns]
    longer = [seconds + model - MODEL_SECONDS for seconds in asking]
    functions = prices.lambda_dollars([*webhook, *others, *longer], memory_mb)
    return (functions + len(webhook) * prices.API_GATEWAY_REQUEST) / turns
