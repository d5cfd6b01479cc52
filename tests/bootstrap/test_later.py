"""What is loaded later is loaded once, and whoever needs it waits."""

import asyncio
import threading

import pytest

from replyd.bootstrap.later import Later


class Making:
    """Something that takes until it is let go. `times`: how often it was begun."""

    def __init__(self) -> None:
        self.times = 0
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.times += 1
        assert self.let_go.wait(10)
        return "made"


async def test_it_is_made_once_for_all_who_ask() -> None:
    making = Making()
    later = Later(making)
    asked = [asyncio.create_task(later.get()) for _ in range(3)]
    # Nobody holds up the loop, which gets here.
    await asyncio.sleep(0)
    making.let_go.set()
    assert await asyncio.gather(*asked) == ["made"] * 3
    assert await later.get() == "made"
    assert making.times == 1


async def test_who_gives_up_does_not_take_it_from_others() -> None:
    making = Making()
    later = Later(making)
    impatient, patient = (asyncio.create_task(later.get()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    making.let_go.set()
    assert await patient == "made"
    assert impatient.cancelled()


async def test_what_is_still_being_made_is_waited_for_to_be_closed() -> None:
    making = Making()
    later = Later(making)
    asked = asyncio.create_task(later.get())
    await asyncio.sleep(0)
    asked.cancel()
    closing = asyncio.create_task(later.made())
    await asyncio.sleep(0)
    assert not closing.done()
    making.let_go.set()
    assert await closing == "made"


async def test_nothing_is_made_to_be_closed() -> None:
    making = Making()
    assert await Later(making).made() is None
    assert making.times == 0


async def test_a_failure_reaches_all_who_ask_and_nobody_who_closes() -> None:
    def fails() -> str:
        raise ImportError("half an installation")

    later = Later(fails)
    for _ in range(2):
        with pytest.raises(ImportError, match="half an installation"):
            await later.get()
    assert await later.made() is None
