"""What every figure is given."""

from dataclasses import dataclass

from tests.benchmarks import processes
from tests.benchmarks.report import Report


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often."""

    repeats: int = 5
    # One sample of CPU time.
    sample_seconds: float = 8.0
    # One run at a load.
    load_seconds: float = 15.0
    saturation_seconds: float = 8.0
    # A whole `catchup.interval_seconds`: one round of CATCH-UP is in it.
    idle_seconds: float = 300.0
    starts: int = 5
    windows: int = 5_000
    model_calls: int = 1_000
    table_sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    instances: tuple[int, ...] = (1, 2, 4)
    burst_seconds: float = 60.0
    # A turn takes one for as long as the model does: 0.2 s, at up to 70 turns a second.
    reply_runners: int = 16


THOROUGH = Effort()
QUICK = Effort(
    repeats=5,
    sample_seconds=3.0,
    load_seconds=5.0,
    saturation_seconds=4.0,
    idle_seconds=12.0,
    starts=3,
    windows=1_000,
    model_calls=200,
    table_sizes=(1_000, 100_000),
    instances=(1, 2),
    burst_seconds=10.0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """`party_cores`: one for whoever is measured, so that figures are per core; `other_cores`: for
    the doubles. On a machine with one core both are that one."""

    report: Report
    effort: Effort
    party_cores: tuple[int, ...]
    other_cores: tuple[int, ...]


def bench(report: Report, effort: Effort) -> Bench:
    first, *others = processes.cores()
    return Bench(report, effort, (first,), tuple(others) or (first,))
