"""The bench: `python -m tests.benchmarks [--quick] [--only FIGURE …] [--json FILE]`.

docs/performance.md says what is measured and how.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from rich.console import Console

from tests.benchmarks.figures import acknowledgement, concurrency, cpu, doubles, growth, idle
from tests.benchmarks.figures.context import QUICK, THOROUGH, Bench, bench
from tests.benchmarks.report import Report

# Of the table, where it goes to a file or a pipe.
FILE_WIDTH = 130
# In the order in which they are worth having.
FIGURES: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "doubles": doubles.measure,
    "cpu": cpu.measure,
    "latency": acknowledgement.measure,
    "idle": idle.measure,
    "concurrency": concurrency.measure,
    "growth": growth.measure,
}


async def run(report: Report, names: list[str], *, quick: bool) -> bool:
    """Whether all could be measured; one that fails keeps none of the others from it."""
    made, complete = bench(report, QUICK if quick else THOROUGH), True
    for name in names:
        try:
            await FIGURES[name](made)
        except (TimeoutError, RuntimeError, OSError) as error:
            complete = False
            report.say(f"{name} was not measured: {error or type(error).__name__}")
    return complete


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, rougher figures")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    report = Report(console, options.quick)
    complete = False
    try:
        complete = asyncio.run(run(report, options.only, quick=options.quick))
    finally:
        # What was measured before it failed or was stopped is worth having.
        console.print(report.table())
        if options.json is not None:
            report.write(options.json)
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
