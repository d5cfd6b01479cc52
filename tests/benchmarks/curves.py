"""What the plot shows: added latency by load."""

import statistics
from typing import Any, NamedTuple

from tests.benchmarks.arithmetic import percentile


class Point(NamedTuple):
    """`rate`: messages a second; `ms`: median of the repeats' percentiles."""

    rate: float
    ms: float


def points(content: dict[str, Any], party: str, share: float) -> list[Point]:
    """A party's added latency at each load, at this percentile (0 to 1)."""
    repeats: dict[float, list[dict[str, Any]]] = {}
    for sample in content["samples"].get("load", ()):
        if sample["party"] == party:
            repeats.setdefault(sample["share"], []).append(sample)
    return sorted(
        Point(
            statistics.median(sample["rate"] for sample in taken),
            statistics.median(percentile(sample["added_ms"], share) for sample in taken),
        )
        for taken in repeats.values()
    )
