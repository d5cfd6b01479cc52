"""The bench: `python -m tests.benchmarks [--quick] [--only FIGURE …] [--json FILE]`.

docs/performance.md says what is measured and how.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tests.benchmarks.figures import billing, concurrency, cpu, doubles, growth, idle, latency
from tests.benchmarks.figures.context import QUICK, THOROUGH, Bench, Effort, bench
from tests.benchmarks.progress import Progress
from tests.benchmarks.report import markdown
from tests.benchmarks.results import Results, write


class Part(NamedTuple):
    """`seconds`: that `measure` takes, about."""

    measure: Callable[[Bench], Awaitable[None]]
    seconds: Callable[[Effort], float]


# In the order in which they are worth having.
FIGURES: Mapping[str, Part] = {
    "doubles": Part(doubles.measure, doubles.seconds),
    "cpu": Part(cpu.measure, cpu.seconds),
    "latency": Part(latency.measure, latency.seconds),
    "idle": Part(idle.measure, idle.seconds),
    "concurrency": Part(concurrency.measure, concurrency.seconds),
    "growth": Part(growth.measure, growth.seconds),
    "billing": Part(billing.measure, billing.seconds),
}


async def run(results: Results, names: list[str], effort: Effort) -> bool:
    """Whether all could be measured; one that fails keeps none of the others from it."""
    made, complete = bench(results, effort), True
    for name in names:
        results.progress.begin(name)
        try:
            await FIGURES[name].measure(made)
        except (TimeoutError, RuntimeError, OSError) as error:
            complete = False
            results.say(f"{name} was not measured: {error or type(error).__name__}")
    return complete


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, rougher figures")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    effort = QUICK if options.quick else THOROUGH
    progress = Progress({name: FIGURES[name].seconds(effort) for name in options.only})
    results = Results(Console(), options.quick, progress)
    complete = False
    try:
        complete = asyncio.run(run(results, options.only, effort))
    finally:
        # What was measured before it failed or was stopped is worth having.
        content = results.content()
        if options.json is not None:
            write(content, options.json)
        sys.stdout.write(markdown(content))
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
