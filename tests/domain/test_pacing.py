from itertools import chain, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replyd.domain.pacing import Bucket, FairOrder, Rates

# Sixty seconds, whenever they begin, without the moment that ends them.
MINUTE = 60 - 1e-3


def always(_: str) -> bool:
    return True


# --- the bucket --------------------------------------------------------------------------------


def test_a_tenth_of_the_limit_goes_at_once_and_the_rest_evenly() -> None:
    bucket = Bucket.of(600)
    assert bucket.wait(60, 1000) == 0
    empty = bucket.take(60, 1000)
    assert empty.wait(1, 1000) == pytest.approx(60 / 541)
    assert empty.wait(60, 1000) == pytest.approx(60 / 541 * 60)
    assert empty.wait(60, 1007) == 0


def test_one_a_minute_is_one_a_minute() -> None:
    bucket = Bucket.of(1).take(1, 1000)
    assert bucket.wait(1, 1000) == 60
    assert bucket.wait(1, 1059) == pytest.approx(1)
    assert bucket.wait(1, 1060) == 0


def test_what_is_larger_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt() -> None:
    bucket = Bucket.of(600).take(1, 1000)
    assert bucket.wait(600, 1000) == pytest.approx(60 / 541)
    bucket = bucket.take(600, 1010)
    assert bucket.level == 60 - 600
    assert bucket.wait(1, 1010) == pytest.approx(541 * 60 / 541)


def test_what_was_not_used_comes_back_and_never_more_than_the_bucket_holds() -> None:
    bucket = Bucket.of(600).take(50, 1000)
    assert bucket.take(-20, 1000).level_at(1000) == 30
    assert bucket.take(-900, 1000).level_at(1000) == 60


def test_a_clock_that_stands_still_brings_nothing_in() -> None:
    bucket = Bucket.of(600).take(60, 1000)
    assert bucket.level_at(1000) == 0
    assert bucket.take(0, 990).take(0, 1000).level_at(1000) == 0


def test_a_backlog_is_counted_to_its_end() -> None:
    bucket = Bucket.of(600)
    assert bucket.backlog(60, 1000) == 0
    assert bucket.backlog(601, 1000) == pytest.approx(60)


class Taking(RuleBasedStateMachine):
    """Somebody takes as much as the bucket gives, at any times."""

    LIMIT = 40

    def __init__(self) -> None:
        super().__init__()
        self.bucket = Bucket.of(self.LIMIT)
        self.now = 1000.0
        self.taken: list[tuple[float, float]] = []

    @rule(seconds=st.floats(0, 90, allow_subnormal=False))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(amount=st.integers(1, 4))
    def somebody_takes(self, amount: int) -> None:
        if not self.bucket.wait(amount, self.now):
            self.take(amount)

    @rule(amount=st.integers(1, 4))
    def somebody_waits_and_takes(self, amount: int) -> None:
        wait = self.bucket.wait(amount, self.now)
        assert wait <= 60
        self.now += wait
        # The promise about the time holds, but for a float's precision.
        assert self.bucket.wait(amount, self.now) == pytest.approx(0, abs=1e-6)
        self.take(amount)

    @rule()
    def somebody_is_greedy(self) -> None:
        while not self.bucket.wait(1, self.now):
            self.take(1)

    @precondition(lambda self: self.taken)
    @rule()
    def the_last_call_used_less(self) -> None:
        at, amount = self.taken[-1]
        if at == self.now and amount > 1:
            self.bucket = self.bucket.take(-1, self.now)
            self.taken[-1] = at, amount - 1

    def take(self, amount: int) -> None:
        self.bucket = self.bucket.take(amount, self.now)
        self.taken.append((self.now, amount))

    @invariant()
    def no_minute_sees_more_than_the_limit(self) -> None:
        recent = [amount for at, amount in self.taken if at > self.now - MINUTE]
        assert sum(recent) <= self.LIMIT


Taking.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestTaking = Taking.TestCase


@given(st.integers(1, 200), st.lists(st.floats(0, 20), max_size=200))
@example(7, [0.0] * 20 + [8.5] * 20)
def test_no_minute_sees_more_than_any_limit(limit: int, pauses: list[float]) -> None:
    bucket, now, times = Bucket.of(limit), 0.0, []
    for pause in pauses:
        now += pause
        if not bucket.wait(1, now):
            bucket = bucket.take(1, now)
            times.append(now)
    for end in times:
        assert sum(end - MINUTE < at <= end for at in times) <= limit


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 60, 500])
def test_most_of_the_limit_can_be_used_for_long(limit: int) -> None:
    bucket, now, times = Bucket.of(limit), 0.0, []
    while now < 600:
        if not (wait := bucket.wait(1, now)):
            bucket = bucket.take(1, now)
            times.append(now)
        now += wait
    assert 0.9 * limit * 10 <= len(times) <= limit * 10 + 1
    assert all(later >= earlier for earlier, later in pairwise(times))


def test_rates_wait_for_whatever_takes_longest() -> None:
    rates = Rates.of(60, 6000)
    assert rates.wait(600, 0) == 0
    taken = rates.take(600, 0)
    assert taken.wait(0, 0) == 0
    assert taken.wait(600, 0) == pytest.approx(600 * 60 / 5401)
    for _ in range(6):
        rates = rates.take(0, 0)
    assert rates.wait(0, 0) == pytest.approx(60 / 55)
    assert rates.pause(10).wait(0, 0) == 10
    assert rates.pause(10).pause(5).wait(0, 8) == 2
    assert rates.pause(10).wait(0, 11) == 0
    assert rates.backlog(10, 0, 0) == pytest.approx(10 * 60 / 55)
    assert rates.book(12_000, 0).backlog(1, 1, 0) == pytest.approx(11_401 * 60 / 5401)


def test_without_limits_nobody_waits() -> None:
    rates = Rates.of(None, None).take(1e9, 0).book(1e9, 0)
    assert rates.wait(1e9, 0) == 0
    assert rates.backlog(10**6, 1e9, 0) == 0


# --- the order ---------------------------------------------------------------------------------


def served(order: FairOrder[str], turns: int) -> str:
    """The next ones; an item's first letter is its tenant."""
    text = []
    for _ in range(turns):
        head = order.head(always)
        assert head is not None
        assert order.serve(head[0]) == head[1]
        text.append(head[1])
    return " ".join(text)


def waiting(*items: str) -> FairOrder[str]:
    order: FairOrder[str] = FairOrder()
    for item in items:
        order.push(item[0], item)
    return order


def test_tenants_take_turns_and_each_serves_its_own_in_order() -> None:
    order = waiting("a1", "a2", "a3", "b1", "c1", "c2")
    assert served(order, 6) == "a1 b1 c1 a2 c2 a3"
    assert len(order) == 0
    assert order.head(always) is None


def test_a_tenant_that_comes_late_is_next() -> None:
    order = waiting(*(f"a{i}" for i in range(1000)))
    assert served(order, 3) == "a0 a1 a2"
    order.push("b", "b0")
    assert served(order, 2) == "b0 a3"


def test_a_tenant_that_asks_for_one_thing_at_a_time_gets_no_more_than_its_turn() -> None:
    order = waiting(*(f"a{i}" for i in range(1000)))
    assert served(order, 1) == "a0"
    text = ""
    for number in range(3):
        order.push("b", f"b{number}")
        text += served(order, 1)
        order.push("c", f"c{number}")
        text += served(order, 1) + served(order, 1)
    assert text == "b0c0a1b1c1a2b2c2a3"


def test_who_has_left_is_not_served() -> None:
    order = waiting("a1", "a2", "b1", "b2")
    order.drop("a", "a1")
    order.drop("b", "b1")
    order.drop("b", "b2")
    assert list(order) == ["a2"]
    assert served(order, 1) == "a2"


def test_a_tenant_at_its_limit_keeps_its_place() -> None:
    order = waiting("a1", "a2", "b1", "b2", "b3")
    assert order.head(lambda tenant: tenant != "a") == ("b", "b1")
    order.serve("b")
    assert order.head(lambda tenant: tenant == "x") is None
    assert served(order, 4) == "a1 b2 a2 b3"


class Waiting(RuleBasedStateMachine):
    """However tenants come and leave, nobody is overtaken twice."""

    TENANTS = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.order: FairOrder[str] = FairOrder()
        self.waiting: dict[str, list[str]] = {tenant: [] for tenant in "abcd"}
        # How often each other tenant was served since a tenant began to wait for its turn.
        self.overtaken: dict[str, dict[str, int]] = {}
        self.count = 0

    @rule(tenant=TENANTS, items=st.integers(1, 5))
    def some_come(self, tenant: str, items: int) -> None:
        for _ in range(items):
            self.count += 1
            item = f"{tenant}{self.count}"
            self.order.push(tenant, item)
            self.waiting[tenant].append(item)
            self.overtaken.setdefault(tenant, {})

    @rule(tenant=TENANTS, data=st.data())
    def one_leaves(self, tenant: str, data: st.DataObject) -> None:
        if self.waiting[tenant]:
            item = data.draw(st.sampled_from(self.waiting[tenant]))
            self.waiting[tenant].remove(item)
            self.order.drop(tenant, item)
            if not self.waiting[tenant]:
                del self.overtaken[tenant]

    @rule()
    def one_is_served(self) -> None:
        head = self.order.head(always)
        if head is None:
            assert not any(self.waiting.values())
            return
        tenant, item = head
        assert self.order.serve(tenant) == self.waiting[tenant].pop(0) == item
        self.overtaken.pop(tenant)
        if self.waiting[tenant]:
            self.overtaken[tenant] = {}
        for other, by in self.overtaken.items():
            if other != tenant:
                by[tenant] = by.get(tenant, 0) + 1
                assert by[tenant] == 1

    @invariant()
    def it_holds_who_waits(self) -> None:
        assert sorted(self.order) == sorted(chain(*self.waiting.values()))
        assert len(self.order) == sum(map(len, self.waiting.values()))


Waiting.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestWaiting = Waiting.TestCase
