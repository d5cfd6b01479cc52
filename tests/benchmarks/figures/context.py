"""What every figure is given."""

from dataclasses import dataclass

from tests.benchmarks import processes
from tests.benchmarks.results import Results


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often."""

    repeats: int = 5
    # One sample of CPU time.
    sample_seconds: float = 4.0
    # One run at a load, and at one of which the tails are asked for.
    load_seconds: float = 5.0
    tail_seconds: float = 12.0
    saturation_seconds: float = 5.0
    # A whole `catchup.interval_seconds`: one round of CATCH-UP is in it.
    idle_seconds: float = 300.0
    starts: int = 5
    windows: int = 5_000
    model_calls: int = 1_000
    table_sizes: tuple[int, ...] = (1_000, 1_000_000)
    instances: tuple[int, ...] = (1, 2, 4)
    burst_seconds: float = 60.0


THOROUGH = Effort()
QUICK = Effort(
    sample_seconds=2.0,
    load_seconds=3.0,
    tail_seconds=4.0,
    saturation_seconds=3.0,
    idle_seconds=12.0,
    starts=3,
    windows=1_000,
    model_calls=200,
    instances=(1, 2),
    burst_seconds=10.0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """`party_cores`: one for whoever is measured, so that figures are per core; `other_cores`: for
    the doubles. On a machine with one core both are that one."""

    results: Results
    effort: Effort
    party_cores: tuple[int, ...]
    other_cores: tuple[int, ...]


def bench(results: Results, effort: Effort) -> Bench:
    first, *others = processes.cores()
    return Bench(results, effort, (first,), tuple(others) or (first,))
