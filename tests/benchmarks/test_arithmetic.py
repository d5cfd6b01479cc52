"""What the tables show is computed right."""

import math
from collections import Counter

import pytest

from tests.benchmarks.arithmetic import Spread, percentile, ratios
from tests.benchmarks.figures import billing
from tests.benchmarks.figures.latency import MODEL_SECONDS
from tests.benchmarks.prices import Usage, lambda_dollars


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


def test_usage_costs_requests_of_sqs_and_units_of_dynamodb() -> None:
    counts = Counter({"Query": 1, "UpdateItem": 4, "SendMessage": 1, "DeleteMessageBatch": 1})
    turn = Usage(counts, write_units=9, read_units=2)
    assert turn.requests == 7
    assert turn.dollars * 1e6 == pytest.approx(2 * 0.40 + 9 * 0.625 + 2 * 0.125)
    polled = Usage(counts + Counter({"ReceiveMessage": 5}), 10, 2.5)
    assert polled.requests == 7
    assert (polled - turn).dollars * 1e6 == pytest.approx(5 * 0.40 + 0.625 + 0.5 * 0.125)


def test_lambda_bills_whole_milliseconds_of_memory_and_each_call() -> None:
    a_second = lambda_dollars([0.9991], 1024)
    assert a_second == pytest.approx(0.20e-6 + 0.0000166667)
    assert lambda_dollars([0.5, 0.5], 512) == pytest.approx(2 * 0.20e-6 + 0.5 * 0.0000166667)


def test_a_turn_on_lambda_waits_for_the_model_once() -> None:
    webhook, reply = [0.01] * 6, [0.02, 0.02, 0.25] * 2
    short = billing.turn(webhook, reply, 3, 1024, MODEL_SECONDS)
    real = billing.turn(webhook, reply, 3, 1024, MODEL_SECONDS + 1)
    assert real - short == pytest.approx(0.0000166667)
    functions = 6 * 0.20e-6 + (0.03 + 0.29) * 0.0000166667
    assert short == pytest.approx(functions + 3 * 1.00e-6)
