from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replyd.domain.breaker import (
    Breaker,
    BreakerPolicy,
    Cause,
    Closed,
    Go,
    HalfOpen,
    Open,
    Stay,
    abandoned,
    admit,
    failed,
    succeeded,
)
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary

POLICY = BreakerPolicy(failures=3, seconds=30)
TIMEOUT = Temporary("openai", "no answer in time", code="timeout")
OTHER = Temporary("openai", "HTTP 500")
DOWN = DependencyDown("openai", "the API key is refused", code="invalid_api_key")
BUSY = Busy("openai", "throttled", delay=7)
REFUSED = Permanent("openai", "the request is refused")
A_TIMEOUT = Cause("openai", "no answer in time", "timeout")
A_REFUSAL = Cause("openai", "the API key is refused", "invalid_api_key")


def after(*outcomes: DependencyError | None, start: Breaker | None = None) -> Breaker:
    """At the time 100, one call after the other."""
    breaker = start or Closed()
    for error in outcomes:
        breaker, answer = admit(breaker, 100)
        assert isinstance(answer, Go)
        if error is None:
            breaker = succeeded(breaker, answer.epoch)
        else:
            breaker = failed(breaker, answer.epoch, error, 100, POLICY)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Closed()),
        ([None], Closed()),
        ([TIMEOUT], Closed(1, A_TIMEOUT)),
        ([TIMEOUT, OTHER], Closed(2, A_TIMEOUT)),
        ([TIMEOUT, OTHER, OTHER], Open(130, A_TIMEOUT, 1)),
        ([TIMEOUT, OTHER, None], Closed()),
        ([OTHER, None, TIMEOUT, OTHER], Closed(2, A_TIMEOUT)),
        # Neither a failure nor an end of failures.
        ([BUSY, REFUSED] * 5, Closed()),
        ([TIMEOUT, BUSY, OTHER, REFUSED], Closed(2, A_TIMEOUT)),
        ([TIMEOUT, BUSY, OTHER, REFUSED, OTHER], Open(130, A_TIMEOUT, 1)),
        ([DOWN], Open(130, A_REFUSAL, 1)),
        # What concerns everybody says more.
        ([TIMEOUT, DOWN], Open(130, A_REFUSAL, 1)),
    ],
)
def test_failures_in_a_row_open_it(
    outcomes: Sequence[DependencyError | None], expected: Breaker
) -> None:
    assert after(*outcomes) == expected


OPEN = Open(130, A_TIMEOUT, 1)
TRIAL = HalfOpen(130, A_TIMEOUT, 2)


@pytest.mark.parametrize(
    ("breaker", "now", "expected"),
    [
        (Closed(), 0, (Closed(), Go(0))),
        (Closed(2, A_TIMEOUT, 4), 0, (Closed(2, A_TIMEOUT, 4), Go(4))),
        (OPEN, 100, (OPEN, Stay(A_TIMEOUT, 30))),
        (OPEN, 129, (OPEN, Stay(A_TIMEOUT, 1))),
        (OPEN, 130, (TRIAL, Go(2))),
        (TRIAL, 130, (TRIAL, Stay(A_TIMEOUT, 0))),
        # A trial that takes long is still the only one.
        (TRIAL, 1e9, (TRIAL, Stay(A_TIMEOUT, 0))),
    ],
)
def test_who_may_call(breaker: Breaker, now: float, expected: tuple[Breaker, Go | Stay]) -> None:
    assert admit(breaker, now) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Closed(epoch=3)),
        # One is enough, and it is still the first failure that tells why.
        (OTHER, Open(170, A_TIMEOUT, 3)),
        (DOWN, Open(170, A_REFUSAL, 3)),
        (BUSY, Open(130, A_TIMEOUT, 3)),
        (REFUSED, Open(130, A_TIMEOUT, 3)),
    ],
)
def test_what_a_trial_shows(error: DependencyError | None, expected: Breaker) -> None:
    found = succeeded(TRIAL, 2) if error is None else failed(TRIAL, 2, error, 140, POLICY)
    assert found == expected


def test_a_trial_that_is_cancelled_leaves_room_for_another() -> None:
    assert abandoned(TRIAL, 2) == Open(130, A_TIMEOUT, 3)
    assert admit(abandoned(TRIAL, 2), 140)[1] == Go(4)
    assert abandoned(Closed(2, A_TIMEOUT, 2), 2) == Closed(2, A_TIMEOUT, 2)


@pytest.mark.parametrize("breaker", [OPEN, TRIAL, Closed(epoch=3)])
def test_a_call_from_before_it_opened_says_nothing(breaker: Breaker) -> None:
    assert succeeded(breaker, 0) == breaker
    assert abandoned(breaker, 0) == breaker
    for error in (TIMEOUT, DOWN, BUSY, REFUSED):
        assert failed(breaker, 0, error, 140, POLICY) == breaker


OUTCOMES = st.sampled_from([None, None, TIMEOUT, OTHER, DOWN, BUSY, REFUSED, "cancelled"])


class Calls(RuleBasedStateMachine):
    """Any calls at once against an oracle that counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker: Breaker = Closed()
        self.now = 0.0
        self.under_way: list[int] = []
        # What the oracle knows: failures in a row, and whether calls wait for a trial.
        self.failures = 0
        self.shut_until: float | None = None
        self.trial: int | None = None
        # Calls that were let in before the latest change.
        self.stale: set[int] = set()

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 31]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_begins(self) -> None:
        self.breaker, answer = admit(self.breaker, self.now)
        if self.shut_until is None:
            assert isinstance(answer, Go)
        elif self.now < self.shut_until:
            assert answer == Stay(self.cause(), self.shut_until - self.now)
        elif self.trial is not None:
            assert answer == Stay(self.cause(), 0)
        else:
            assert isinstance(answer, Go)
            assert answer.epoch not in self.under_way
            self.trial = answer.epoch
        if isinstance(answer, Go):
            self.under_way.append(answer.epoch)

    def cause(self) -> Cause:
        assert not isinstance(self.breaker, Closed)
        return self.breaker.cause

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=OUTCOMES)
    def a_call_ends(self, data: st.DataObject, outcome: DependencyError | str | None) -> None:
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        epoch = self.under_way.pop(index)
        counts = self.trial == epoch if self.shut_until is not None else epoch not in self.stale
        if outcome is None:
            self.breaker = succeeded(self.breaker, epoch)
            if counts:
                self.failures, self.shut_until = 0, None
        elif isinstance(outcome, str):
            self.breaker = abandoned(self.breaker, epoch)
        else:
            self.breaker = failed(self.breaker, epoch, outcome, self.now, POLICY)
            if counts and outcome in (TIMEOUT, OTHER, DOWN):
                self.failures += 1
                if outcome is DOWN or self.failures >= 3 or self.trial == epoch:
                    self.shut_until = self.now + 30
                    self.stale |= set(self.under_way)
        if self.trial == epoch:
            self.trial = None
            self.stale |= set(self.under_way)

    @invariant()
    def it_is_closed_as_long_as_the_oracle_says(self) -> None:
        assert isinstance(self.breaker, Closed) == (self.shut_until is None)

    @invariant()
    def it_can_always_recover(self) -> None:
        if self.trial is None:
            breaker, answer = admit(self.breaker, self.now + 30)
            assert isinstance(answer, Go)
            assert isinstance(succeeded(breaker, answer.epoch), Closed)


Calls.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestCalls = Calls.TestCase
