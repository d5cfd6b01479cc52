"""What many ask for at once goes together, and nobody pays for it."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replyd.adapters.grouping import PATIENCE_SECONDS, Grouping
from replyd.errors import Permanent, Temporary
from tests.support.virtual_time import VirtualTimeLoop

TRIP = 0.01
OUTAGE = Temporary("sqs", "failed on its side")
REFUSAL = Permanent("sqs", "refused the request as invalid")


@dataclass
class Wire:
    """The other side. `seconds`: that requests take, one after the other, then `TRIP`. `fails`: an
    error for requests with that entry; `leaves`: what is not taken among several; `closing`:
    seconds to give a request up."""

    seconds: list[float] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    leaves: set[str] = field(default_factory=set)
    closing: float = 0.0
    most_bytes: int = 100
    # When each request began, what was in it, and how many of them ended.
    began: list[tuple[float, str]] = field(default_factory=list)
    ended: int = 0
    by: "set[asyncio.Task[Any] | None]" = field(default_factory=set)

    def __post_init__(self) -> None:
        self.grouping = Grouping(self.request, most=10, most_bytes=self.most_bytes, size_of=len)

    async def request(self, entries: Sequence[str]) -> list[int]:
        loop = asyncio.get_running_loop()
        self.began.append((round(loop.time(), 6), " ".join(entries)))
        self.by.add(asyncio.current_task())
        try:
            await asyncio.sleep(self.seconds.pop(0) if self.seconds else TRIP)
        except asyncio.CancelledError:
            await asyncio.sleep(self.closing)
            raise
        self.ended += 1
        for entry in entries:
            if entry in self.fails:
                raise self.fails[entry]
        return [i for i, e in enumerate(entries) if e in self.leaves] if len(entries) > 1 else []

    def sends(self, *entries: str) -> list["asyncio.Task[None]"]:
        """Each by a task of its own."""
        return [asyncio.create_task(self.grouping.do(each)) for each in entries]


async def outcomes(tasks: Sequence["asyncio.Task[None]"]) -> list[BaseException | None]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def run(main: Coroutine[Any, Any, None]) -> None:
    async def leaving_nothing() -> None:
        await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(leaving_nothing())


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def wrapped(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))  # type: ignore[arg-type]  # of an async def it is one

    return wrapped


@in_virtual_time
async def test_a_lone_one_goes_at_once() -> None:
    wire = Wire()
    for number in range(3):
        await wire.grouping.do(str(number))
    assert wire.began == [(0.0, "0"), (0.01, "1"), (0.02, "2")]
    # Within its caller's task.
    assert wire.by == {asyncio.current_task()}


@in_virtual_time
async def test_what_comes_while_a_request_is_under_way_goes_together_when_it_has_ended() -> None:
    wire = Wire()
    tasks = wire.sends("a")
    for name in "bcd":
        await asyncio.sleep(0.001)
        tasks += wire.sends(name)
    assert await outcomes(tasks) == [None] * 4
    assert wire.began == [(0.0, "a"), (TRIP, "b c d")]


@in_virtual_time
async def test_of_those_that_come_at_the_same_time_one_goes_at_once() -> None:
    wire = Wire()
    assert await outcomes(wire.sends("a", "b", "c")) == [None] * 3
    assert wire.began == [(0.0, "a"), (TRIP, "b c")]


@in_virtual_time
async def test_a_full_group_waits_for_nothing() -> None:
    wire = Wire()
    names = [f"{number}" for number in range(26)]
    tasks = wire.sends(names[0])
    await asyncio.sleep(0.001)
    tasks += wire.sends(*names[1:])
    assert await outcomes(tasks) == [None] * 26
    assert [at for at, _ in wire.began] == [0.0, 0.001, 0.001, 0.011]
    assert [len(group.split()) for _, group in wire.began] == [1, 10, 10, 5]
    assert " ".join(group for _, group in wire.began).split() == names


@in_virtual_time
async def test_several_of_one_caller_are_as_those_of_many() -> None:
    wire = Wire()
    await wire.grouping.do()
    assert wire.began == []
    await wire.grouping.do(*(f"{number}" for number in range(23)))
    assert [len(group.split()) for _, group in wire.began] == [10, 10, 3]


@in_virtual_time
async def test_a_slow_request_holds_the_next_up_for_a_moment_only() -> None:
    wire = Wire(seconds=[4.0, 4.0])
    tasks = wire.sends("slow")
    for name in "bcd":
        await asyncio.sleep(0.02)
        tasks += wire.sends(name)
    await asyncio.wait(tasks[3:])
    # Neither for that which is slow in its turn.
    second = PATIENCE_SECONDS
    assert wire.began == [(0.0, "slow"), (second, "b c"), (2 * second, "d")]
    assert asyncio.get_running_loop().time() == pytest.approx(2 * second + TRIP)
    assert await outcomes(tasks) == [None] * 4


@in_virtual_time
async def test_a_group_has_no_more_bytes_than_it_may() -> None:
    wire = Wire(most_bytes=5)
    assert await outcomes(wire.sends("first", "aa", "bbb", "c", "larger", "d")) == [None] * 6
    assert [group for _, group in wire.began] == ["first", "aa bbb", "c", "larger", "d"]


@in_virtual_time
async def test_an_outage_is_everybodys_in_the_request() -> None:
    wire = Wire(fails={"b": OUTAGE})
    tasks = wire.sends("first", "a", "b")
    await asyncio.sleep(TRIP * 1.5)
    tasks += wire.sends("c")
    assert await outcomes(tasks) == [None, OUTAGE, OUTAGE, None]
    assert [group for _, group in wire.began] == ["first", "a b", "c"]


@in_virtual_time
async def test_what_is_refused_spoils_nothing_for_others() -> None:
    wire = Wire(fails={"poison": REFUSAL})
    assert await outcomes(wire.sends("first", "a", "poison", "b")) == [None, None, REFUSAL, None]
    alone = [(2 * TRIP, each) for each in ("a", "poison", "b")]
    assert wire.began == [(0.0, "first"), (TRIP, "a poison b"), *alone]
    assert await outcomes(wire.sends("poison")) == [REFUSAL]


@in_virtual_time
async def test_what_was_left_goes_alone_and_has_its_own_end() -> None:
    wire = Wire(leaves={"b", "c"})
    tasks = wire.sends("first", "a", "b", "c")
    await asyncio.sleep(TRIP * 2.5)
    assert [task.done() for task in tasks] == [True, True, False, False]
    wire.fails = {"b": OUTAGE}
    assert await outcomes(tasks) == [None, None, OUTAGE, None]
    assert [group for _, group in wire.began] == ["first", "a b c", "b", "c"]


@in_virtual_time
async def test_what_was_left_goes_again_only_for_those_who_still_wait() -> None:
    wire = Wire(leaves={"b", "c"})
    tasks = wire.sends("first", "a", "b", "c")
    await asyncio.sleep(TRIP * 1.5)
    tasks[2].cancel()
    await outcomes(tasks)
    assert [group for _, group in wire.began] == ["first", "a b c", "c"]


@in_virtual_time
async def test_a_bug_is_told_and_leaves_nobody_waiting() -> None:
    bug = KeyError("Id")
    wire = Wire(fails={"a": bug})
    assert await outcomes(wire.sends("first", "a", "b")) == [None, bug, bug]
    assert await outcomes(wire.sends("c")) == [None]


@in_virtual_time
async def test_of_several_the_first_error_is_raised_when_all_have_ended() -> None:
    names = [f"{number}" for number in range(12)]
    wire = Wire(fails={"3": OUTAGE})
    with pytest.raises(Temporary):
        await wire.grouping.do(*names)
    assert wire.ended == 2


@in_virtual_time
async def test_one_that_is_cancelled_before_it_is_on_its_way_does_not_go() -> None:
    wire = Wire()
    tasks = wire.sends("a")
    await asyncio.sleep(0.001)
    tasks += wire.sends("b", "c")
    await asyncio.sleep(0.001)
    tasks[1].cancel()
    ended = await outcomes(tasks)
    assert [type(each) for each in ended] == [type(None), asyncio.CancelledError, type(None)]
    assert [group for _, group in wire.began] == ["a", "c"]


@in_virtual_time
async def test_when_all_that_wait_are_cancelled_nothing_goes() -> None:
    wire = Wire()
    tasks = wire.sends("a")
    await asyncio.sleep(0.001)
    waiting = wire.sends("b", "c")
    await asyncio.sleep(0.001)
    for task in waiting:
        task.cancel()
    await outcomes(tasks + waiting)
    await asyncio.sleep(1)
    await wire.grouping.do("d")
    assert [group for _, group in wire.began] == ["a", "d"]


@in_virtual_time
async def test_one_that_is_cancelled_on_its_way_takes_nobody_along() -> None:
    wire = Wire()
    tasks = wire.sends("first", "a", "b")
    await asyncio.sleep(TRIP * 1.5)
    tasks[1].cancel()
    ended = await outcomes(tasks)
    assert isinstance(ended[1], asyncio.CancelledError)
    assert ended[2] is None
    assert wire.began == [(0.0, "first"), (TRIP, "a b")]
    assert wire.ended == 2


@in_virtual_time
async def test_a_request_is_given_up_with_the_last_who_waits_for_it() -> None:
    wire = Wire(seconds=[TRIP, 4.0], closing=0.001)
    tasks = wire.sends("first", "a", "b")
    await asyncio.sleep(TRIP + 0.001)
    behind = wire.sends("c")
    await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])
    # It is over when the last one hears of it, and holds nobody up any more.
    assert asyncio.get_running_loop().time() == pytest.approx(0.013)
    assert await outcomes(behind) == [None]
    assert wire.began == [(0.0, "first"), (TRIP, "a b"), (0.013, "c")]
    assert wire.ended == 2


@in_virtual_time
async def test_a_lone_one_that_is_cancelled_holds_nobody_up() -> None:
    wire = Wire(seconds=[4.0])
    tasks = wire.sends("a", "b")
    await asyncio.sleep(0.001)
    tasks[0].cancel()
    ended = await outcomes(tasks)
    assert [type(each) for each in ended] == [asyncio.CancelledError, type(None)]
    assert wire.began == [(0.0, "a"), (0.001, "b")]
    assert wire.ended == 1


@in_virtual_time
async def test_all_who_wait_may_be_cancelled_just_as_their_request_begins() -> None:
    wire = Wire()
    waiting: list[asyncio.Task[None]] = []

    async def first() -> None:
        await wire.grouping.do("first")
        # The task of the next request was made, and has not run yet.
        assert len(waiting) == 2
        for task in waiting:
            task.cancel()

    before = asyncio.create_task(first())
    await asyncio.sleep(0.001)
    waiting += wire.sends("a", "b")
    assert await outcomes([before]) == [None]
    await outcomes(waiting)
    assert await outcomes(wire.sends("c")) == [None]
    assert wire.began[-1] == (TRIP, "c")
    assert wire.ended == 2


@in_virtual_time
async def test_a_deadline_ends_the_wait_of_its_own_request_only() -> None:
    wire = Wire(seconds=[TRIP, 4.0])
    first = wire.sends("first")
    await asyncio.sleep(0.001)

    async def webhook(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await wire.grouping.do(str(seconds))

    ended = await asyncio.gather(webhook(1.0), webhook(9.0), return_exceptions=True)
    assert isinstance(ended[0], TimeoutError)
    assert ended[1] is None
    assert wire.began == [(0.0, "first"), (TRIP, "1.0 9.0")]
    assert await outcomes(first) == [None]


@in_virtual_time
async def test_a_request_that_somebody_else_cancels_leaves_nobody_waiting() -> None:
    """As a loop does that ends, with every task there is."""
    wire = Wire(seconds=[TRIP, 4.0])
    tasks = wire.sends("first", "a", "b")
    await asyncio.sleep(TRIP * 1.5)
    (request,) = [task for task in asyncio.all_tasks() if task.get_name() == "group"]
    request.cancel()
    async with asyncio.timeout(1):
        ended = await outcomes(tasks)
    assert ended[0] is None
    assert [type(each) for each in ended[1:]] == [asyncio.CancelledError] * 2
    await wire.grouping.do("c")


Plan = tuple[float, int, float | None]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    plans=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.012, 0.03, 0.2]),
            st.integers(1, 12),
            st.none() | st.sampled_from([0.0, 0.0005, 0.02, 0.3]),
        ),
        max_size=25,
    ),
    seconds=st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.5]), max_size=20),
    poison=st.sets(st.integers(0, 24), max_size=2),
    left=st.sets(st.integers(0, 24), max_size=3),
)
def test_everybody_hears_how_it_ended_and_nobody_waits_long(
    plans: list[Plan], seconds: list[float], poison: set[int], left: set[int]
) -> None:
    """`plans`: when after the one before, how many entries, and after how long it is cancelled."""

    async def main() -> None:
        wire = Wire(
            seconds=list(seconds),
            fails={f"{number}.0": REFUSAL for number in poison},
            leaves={f"{number}.0" for number in left},
            most_bytes=1000,
        )
        loop = asyncio.get_running_loop()
        asked: dict[str, float] = {}
        tasks = []

        async def send(number: int, count: int, patience: float | None) -> None:
            names = [f"{number}.{i}" for i in range(count)]
            asked.update(dict.fromkeys(names, loop.time()))
            async with asyncio.timeout(patience):
                await wire.grouping.do(*names)

        for number, (pause, count, patience) in enumerate(plans):
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(send(number, count, patience)))
        ended = await outcomes(tasks)
        went: dict[str, float] = {}
        for at, group in wire.began:
            assert len(group.split()) <= 10
            for name in group.split():
                went.setdefault(name, at)
        for number, (_, count, patience) in enumerate(plans):
            names = {f"{number}.{i}" for i in range(count)}
            if isinstance(ended[number], TimeoutError):
                assert patience is not None
                continue
            assert ended[number] == (REFUSAL if number in poison else None)
            assert names <= went.keys()
        for name, at in went.items():
            assert at - asked[name] <= PATIENCE_SECONDS + 1e-6
        # Once each, but for those that were sent again alone.
        together = [n for _, g in wire.began if " " in g for n in g.split()]
        assert len(together) == len(set(together))

    run(main())
