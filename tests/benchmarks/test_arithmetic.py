"""What the tables show is computed right."""

import math

import pytest

from tests.benchmarks import prices
from tests.benchmarks.arithmetic import Spread, percentile, ratios


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_percentile_of_one_value_and_of_none() -> None:
    assert percentile([3.0], 0.999) == 3.0
    assert math.isnan(percentile([], 0.5))


def test_a_spread_has_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


def test_ratios_are_taken_repeat_by_repeat() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_a_turn_costs_what_its_requests_cost() -> None:
    """A write is charged by the item's KB, a read by its 4 KB; a batch is one request."""
    counts = {"Query": 1, "UpdateItem": 4, "SendMessage": 1, "DeleteMessageBatch": 1}
    assert prices.dollars(counts, 1024) * 1e6 == pytest.approx(0.125 + 4 * 0.625 + 2 * 0.40)
    assert prices.dollars(counts, 4097) * 1e6 == pytest.approx(2 * 0.125 + 4 * 5 * 0.625 + 0.80)


def test_an_operation_without_a_price_is_no_free_one() -> None:
    with pytest.raises(ValueError, match="TransactWriteItems"):
        prices.dollars({"TransactWriteItems": 1}, 100)
