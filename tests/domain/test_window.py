import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.window import (
    EARLY_MS,
    MAX_DELAY_SECONDS,
    WindowPolicy,
    delay_seconds,
    early_delay_seconds,
)

T = 1_700_000_000_000
POLICY = WindowPolicy(quiet_ms=5_000, max_wait_ms=30_000, max_messages=20)


@pytest.mark.parametrize(
    ("last_at", "first_at", "pending", "closes_at"),
    [
        (T, T, 1, T + 5_000),
        (T + 4_000, T, 2, T + 9_000),
        # Somebody who never stops typing is answered all the same.
        (T + 24_999, T, 9, T + 29_999),
        (T + 25_000, T, 9, T + 30_000),
        (T + 25_001, T, 9, T + 30_000),
        (T + 90_000, T, 9, T + 30_000),
        (T, T, 19, T + 5_000),
        (T, T, 20, 0),
        (T, T, 21, 0),
        # Two instances' clocks differ: the newest message can be stamped before the oldest.
        (T - 2_000, T, 2, T + 3_000),
    ],
)
def test_the_window_closes(last_at: int, first_at: int, pending: int, closes_at: int) -> None:
    found = POLICY.closes_at(last_at=last_at, first_received_at=first_at, pending=pending)
    assert found == closes_at


@pytest.mark.parametrize(
    ("left_ms", "seconds"),
    [
        (-(10**12), 0),
        (-1, 0),
        (0, 0),
        (1, 1),
        (999, 1),
        (1_000, 1),
        (1_001, 2),
        (899_001, 900),
        (900_000, 900),
        (900_001, 900),
        (10**12, 900),
    ],
)
def test_the_delay_in_seconds(left_ms: int, seconds: int) -> None:
    assert delay_seconds(T + left_ms, T) == seconds


def test_no_delay_for_a_full_window() -> None:
    assert delay_seconds(0, T) == 0


@given(st.integers(0, 2 * T), st.integers(0, 2 * T))
def test_a_wakeup_is_never_early_and_never_a_second_late(closes_at: int, now: int) -> None:
    delay = delay_seconds(closes_at, now)
    assert 0 <= delay <= MAX_DELAY_SECONDS
    comes_at = now + 1_000 * delay
    if delay < MAX_DELAY_SECONDS:
        assert comes_at >= closes_at
    if delay:
        assert comes_at < closes_at + 1_000


@given(st.integers(0, 2 * T), st.integers(0, 2 * T))
def test_an_early_wakeup_has_half_a_second_to_come_and_does_not_come_much_too_early(
    closes_at: int, now: int
) -> None:
    delay = early_delay_seconds(closes_at, now)
    assert 0 <= delay <= MAX_DELAY_SECONDS
    comes_at = now + 1_000 * delay
    assert comes_at <= max(closes_at - EARLY_MS, now)
    if delay < MAX_DELAY_SECONDS:
        assert comes_at > closes_at - EARLY_MS - 1_000
