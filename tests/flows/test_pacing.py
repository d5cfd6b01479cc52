"""Slots, and the pace of a key, on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replyd.adapters.memory import LoopClock
from replyd.errors import Busy, Temporary
from replyd.flows.pacing import LONGEST_PAUSE_SECONDS, FairSlots, KeyPace
from tests.support.virtual_time import VirtualTimeLoop


def pace(concurrency: int = 1, **limits: float | None) -> KeyPace:
    return KeyPace("openai", LoopClock(), concurrency=concurrency, **limits)  # type: ignore[arg-type]


def time() -> float:
    return asyncio.get_running_loop().time()


class Calls:
    """Calls of one second each; who began when, and who was refused with which delay."""

    def __init__(self, key: KeyPace, seconds: float = 1) -> None:
        self.key = key
        self.seconds = seconds
        self.began: list[tuple[str, float]] = []
        self.refused: list[tuple[str, float, float | None]] = []
        self.at_once = self.most = 0

    async def call(self, tenant: str, tokens: int = 0) -> None:
        try:
            async with self.key.slot(tenant, tokens):
                self.began.append((tenant, time()))
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                try:
                    await asyncio.sleep(self.seconds)
                finally:
                    self.at_once -= 1
        except Busy as busy:
            self.refused.append((tenant, time(), busy.delay))

    def start(self, tenants: str, tokens: int = 0) -> "list[asyncio.Task[None]]":
        return [asyncio.create_task(self.call(t, tokens)) for t in tenants]

    @property
    def order(self) -> str:
        return "".join(tenant for tenant, _ in self.began)


@asynccontextmanager
async def idle_in_the_end(key: KeyPace, concurrency: int = 1) -> AsyncIterator[None]:
    """Nothing is left of all calls: as many as ever may be made at once."""
    yield
    await asyncio.sleep(LONGEST_PAUSE_SECONDS)
    calls = Calls(key)
    await asyncio.gather(*calls.start("z" * (concurrency + 1)))
    assert calls.most == concurrency
    assert len(calls.began) == concurrency + 1


# --- how many at once --------------------------------------------------------------------------


async def test_no_more_than_its_concurrency_at_once() -> None:
    calls = Calls(pace(3))
    async with idle_in_the_end(calls.key, 3):
        await asyncio.gather(*calls.start("a" * 10))
        assert calls.most == 3
        assert [at for _, at in calls.began] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


async def test_a_flood_of_a_thousand_delays_another_tenant_by_one_slot() -> None:
    calls = Calls(pace(1, max_wait_seconds=2000))
    flood = calls.start("a" * 1000)
    await asyncio.sleep(10.5)
    (single,) = calls.start("b")
    await single
    assert calls.order == "a" * 11 + "b"
    # The one under way has ended at 11.
    assert calls.began[-1][1] == 11
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_tenants_take_turns_and_each_is_served_in_its_order() -> None:
    key = pace(1)
    got: list[str] = []

    async def call(name: str) -> None:
        async with key.slot(name[0]):
            got.append(name)
            await asyncio.sleep(0.1)

    names = [f"a{n}" for n in range(5)] + [f"b{n}" for n in range(3)] + ["c0"]
    await asyncio.gather(*map(call, names))
    assert got == ["a0", "b0", "c0", "a1", "b1", "a2", "b2", "a3", "a4"]


async def test_who_has_waited_long_enough_is_told_to_come_back() -> None:
    calls = Calls(pace(1), seconds=20)
    async with idle_in_the_end(calls.key):
        calls.start("ab")
        await asyncio.sleep(6)
        # Nobody knows when the call under way ends: no sooner than it has taken already.
        assert calls.refused == [("b", 5, 5)]
        assert calls.order == "a"


# --- rates -------------------------------------------------------------------------------------


async def test_requests_keep_to_the_limit_of_a_minute() -> None:
    calls = Calls(pace(100, requests_per_minute=60, max_wait_seconds=1000), seconds=0)
    await asyncio.gather(*calls.start("a" * 150))
    times = [at for _, at in calls.began]
    assert times[:7] == pytest.approx([0] * 6 + [60 / 55])
    for end in times:
        assert sum(end - 59.999 < at <= end for at in times) <= 60
    assert times[-1] == pytest.approx(144 * 60 / 55)


async def test_a_rate_is_shared_fairly_too() -> None:
    calls = Calls(pace(100, requests_per_minute=60, max_wait_seconds=1000), seconds=0)
    flood = calls.start("a" * 100)
    await asyncio.sleep(3)
    (single,) = calls.start("b")
    await single
    name, at = calls.began[-1]
    assert name == "b"
    assert at == pytest.approx(3 * 60 / 55)
    await asyncio.gather(*flood)


async def test_a_call_that_would_wait_too_long_is_refused_at_once_with_the_time() -> None:
    calls = Calls(pace(100, tokens_per_minute=6000), seconds=0)
    await calls.call("a", 600)
    await calls.call("a", 600)
    ((_, at, delay),) = calls.refused
    assert at == 0
    assert delay == pytest.approx(600 * 60 / 5401)
    await calls.call("a", 400)
    assert calls.began[-1][1] == pytest.approx(400 * 60 / 5401)


async def test_the_delay_counts_those_who_wait_too() -> None:
    calls = Calls(pace(100, requests_per_minute=60), seconds=0)
    await asyncio.gather(*calls.start("a" * 30))
    assert len(calls.began) == 6 + 4
    delays = [delay or 0 for _, _, delay in calls.refused]
    # So they do not all come back at the same moment.
    assert max(delays) > 15
    assert min(delays) < 2
    assert all(at == 5 for _, at, _ in calls.refused)


async def test_what_a_call_really_used_is_booked() -> None:
    key = pace(10, tokens_per_minute=6000)
    async with key.slot("a", 600) as slot:
        slot.used(0)
    started = time()
    async with key.slot("a", 600) as slot:
        slot.used(600 + 60)
    async with key.slot("a", 300):
        assert time() - started == pytest.approx(360 * 60 / 5401)


async def test_tokens_given_back_let_those_who_wait_go() -> None:
    key = pace(10, tokens_per_minute=6000)
    calls = Calls(key)
    async with key.slot("a", 600) as slot:
        (waiting,) = calls.start("b", 400)
        await asyncio.sleep(1)
        assert calls.began == []
        slot.used(10)
        await waiting
    assert calls.began == [("b", 1)]


# --- Retry-After -------------------------------------------------------------------------------


async def throttle(key: KeyPace, delay: float | None, after: float = 0) -> None:
    async def call() -> None:
        async with key.slot("a"):
            await asyncio.sleep(after)
            raise Busy("openai", "throttled", delay=delay)

    with pytest.raises(Busy, match="throttled"):
        await call()


async def test_a_throttled_key_is_left_alone_by_everybody() -> None:
    calls = Calls(pace(2))
    async with idle_in_the_end(calls.key, 2):
        await throttle(calls.key, 20)
        await calls.call("b")
        assert calls.refused == [("b", 0, 20)]
        await asyncio.sleep(14)
        await calls.call("b")
        assert calls.refused[1:] == [("b", 14, 6)]
        await asyncio.sleep(2)
        # What is left is worth waiting for.
        await asyncio.gather(*calls.start("bc"))
        assert calls.began == [("b", 20), ("c", 20)]


async def test_those_who_wait_already_do_not_wait_in_vain() -> None:
    calls = Calls(pace(1))
    holder = asyncio.create_task(throttle(calls.key, 30, after=1))
    await asyncio.gather(holder, *calls.start("bbc"))
    assert calls.refused == [("b", 1, 30), ("b", 1, 30), ("c", 1, 30)]


async def test_a_short_pause_keeps_those_who_wait() -> None:
    calls = Calls(pace(1), seconds=0)
    holder = asyncio.create_task(throttle(calls.key, 3, after=1))
    await asyncio.gather(holder, *calls.start("bc"))
    assert calls.began == [("b", 4), ("c", 4)]


async def test_the_longest_pause_counts_and_none_is_for_ever() -> None:
    calls = Calls(pace(2))
    await throttle(calls.key, 4)
    waiting = calls.start("b")
    await asyncio.sleep(1)
    await asyncio.gather(*waiting)
    assert calls.began == [("b", 4)]
    await throttle(calls.key, 86_400)
    await calls.call("c")
    assert calls.refused == [("c", 5, LONGEST_PAUSE_SECONDS)]


async def test_only_throttling_pauses_a_key() -> None:
    calls = Calls(pace(1), seconds=0)
    await throttle(calls.key, None)
    with pytest.raises(Temporary):
        async with calls.key.slot("a"):
            raise Temporary("openai", "HTTP 503", delay=60)
    await calls.call("b")
    assert calls.began == [("b", 0)]


# --- cancellation ------------------------------------------------------------------------------


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    calls = Calls(pace(1))
    async with idle_in_the_end(calls.key):
        tasks = calls.start("aab")
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert calls.began == [("a", 0), ("b", 1)]


async def test_a_cancelled_waiter_for_tokens_lets_others_go() -> None:
    calls = Calls(pace(10, tokens_per_minute=6000), seconds=0)
    await calls.call("a", 600)
    (large,) = calls.start("c", 400)
    (small,) = calls.start("b", 50)
    await asyncio.sleep(1)
    large.cancel()
    await small
    assert calls.order == "ab"
    assert calls.began[-1][1] == 1


async def test_a_cancelled_holder_frees_its_slot() -> None:
    calls = Calls(pace(1))
    async with idle_in_the_end(calls.key):
        first, second = calls.start("ab")
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        assert calls.began == [("a", 0), ("b", 0.5)]


async def test_a_slot_that_comes_with_the_cancellation_goes_on_to_the_next() -> None:
    calls = Calls(pace(1))
    async with idle_in_the_end(calls.key):
        first, second, third = calls.start("abc")
        await asyncio.sleep(0.5)
        # Each of them hears of it in the same step of the loop.
        first.cancel()
        await asyncio.sleep(0)
        second.cancel()
        await third
        assert calls.began == [("a", 0), ("c", 0.5)]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "throttled", "cancel"]),
        st.sampled_from("abc"),
        st.sampled_from([0, 0, 0.2, 1, 4]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(ACTIONS, st.integers(1, 3))
def test_whatever_happens_the_key_is_free_in_the_end(
    actions: list[tuple[str, str, float]], concurrency: int
) -> None:
    async def run() -> None:
        key = pace(concurrency, requests_per_minute=120)
        calls = Calls(key)
        tasks: list[asyncio.Task[None]] = []

        async def throttled(tenant: str, seconds: float) -> None:
            async with key.slot(tenant):
                await asyncio.sleep(0.3)
                raise Busy("openai", "throttled", delay=seconds)

        for action, tenant, seconds in actions:
            if action == "call":
                tasks += calls.start(tenant)
            elif action == "throttled":
                tasks.append(asyncio.create_task(throttled(tenant, seconds)))
            elif tasks:
                tasks[int(seconds * 7) % len(tasks)].cancel()
            await asyncio.sleep(seconds / 2)
        async with idle_in_the_end(key, concurrency):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert calls.most <= concurrency

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


# --- slots without a pace ----------------------------------------------------------------------


async def test_a_tenant_has_its_limit_and_leaves_the_rest_to_others() -> None:
    slots = FairSlots(4, per_tenant=2)
    began: list[tuple[str, float]] = []

    async def turn(tenant: str) -> None:
        async with slots.slot(tenant):
            began.append((tenant, time()))
            await asyncio.sleep(1)

    await asyncio.gather(*map(turn, "aaaaabbbc"))
    assert [t for t, at in began if at == 0] == ["a", "a", "b", "b"]
    assert [t for t, at in began if at == 1] == ["a", "c", "b", "a"]
    assert [t for t, at in began if at == 2] == ["a"]
