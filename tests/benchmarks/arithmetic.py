"""Percentiles, medians and ratios, as the tables show them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank: the smallest value that `share` of all (0 to 1) do not exceed. NaN of
    nothing."""
    if not values:
        return math.nan
    rank = math.ceil(share * len(values))
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some repeats, and between which values they lay."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Repeat by repeat: a machine that is slower for a while is slower for both."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
