"""From when to when messages are listed, and how far a round has come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.catch_up import CatchUpPolicy, advanced

POLICY = CatchUpPolicy(
    max_age_ms=3_600, first_ms=500, look_back_ms=86_400, overlap_ms=120, settle_ms=60
)
TIMES = st.integers(0, 10_000_000)


def test_the_list_is_read_from_an_overlap_before_the_cursor() -> None:
    assert POLICY.since(500_000, started_at=0, now=500_300) == 500_000 - 120


def test_without_a_cursor_it_is_read_from_so_long_before_the_start() -> None:
    assert POLICY.since(None, started_at=500_000, now=500_300) == 500_000 - 500


def test_what_another_system_has_answered_is_left_alone_by_default() -> None:
    assert CatchUpPolicy().since(None, started_at=500_000, now=500_300) == 500_000


def test_a_cursor_of_long_ago_counts_for_the_look_back_only() -> None:
    assert POLICY.since(0, started_at=0, now=500_000) == 500_000 - 86_400
    assert POLICY.since(None, started_at=0, now=500_000) == 500_000 - 86_400


def test_what_may_still_be_with_its_webhook_is_left_alone() -> None:
    assert POLICY.until(500_000) == 500_000 - 60


@pytest.mark.parametrize(("age", "too_old"), [(0, False), (3_600, False), (3_601, True)])
def test_people_get_what_is_older_than_the_ai_answers(age: int, too_old: bool) -> None:
    assert POLICY.too_old(500_000 - age, 500_000) is too_old


def test_a_round_moves_the_cursor_to_where_it_came() -> None:
    assert advanced(100, 400, since=50) == 400
    assert advanced(None, 400, since=50) == 400


def test_a_round_that_was_cut_off_at_its_beginning_leaves_it() -> None:
    assert advanced(100, 50, since=50) == 100
    assert advanced(None, 50, since=50) is None


@given(st.none() | TIMES, TIMES, TIMES)
def test_it_never_goes_back_and_never_further_than_the_round(
    cursor: int | None, reached: int, since: int
) -> None:
    after = advanced(cursor, reached, since=since)
    assert after in (cursor, reached)
    if cursor is not None:
        assert after is not None
        assert after >= cursor


@given(st.none() | TIMES, TIMES, TIMES)
def test_what_failed_is_listed_again(cursor: int | None, began: int, now: int) -> None:
    """Whatever a message's time within the round, the next round reads from there or earlier."""
    now = max(now, began, cursor or 0)
    since = POLICY.since(cursor, started_at=began, now=now)
    for failed_at in (since, (since + now) // 2, now):
        after = advanced(cursor, failed_at, since=since)
        assert POLICY.since(after, started_at=began, now=now) <= failed_at
