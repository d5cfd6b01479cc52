"""How long customers wait beyond their windows, as a process knows it."""

import asyncio
import json

import pytest

from replyd.domain.events import MessageAdopted, TurnClaimed
from replyd.errors import Temporary
from tests.support.world import CUSTOMER, KEY, World, message

QUIET = 2


def waits(world: World) -> list[float]:
    """In seconds, by the claims."""
    return [event.late_ms / 1000 for event in world.events(TurnClaimed)]


async def test_nobody_waits_before_the_window_closes_nor_after_the_turn() -> None:
    world = World()
    world.converse()
    world.model.seconds = 20
    async with world.running() as worker:
        assert worker.buffer.waiting_seconds == 0
        await worker.accept(message(1))
        await asyncio.sleep(QUIET - 0.1)
        assert worker.buffer.waiting_seconds == 0
        await asyncio.sleep(10.1)
        assert worker.buffer.waiting_seconds == pytest.approx(10, abs=0.1)
        await asyncio.sleep(15)
        assert (worker.buffer.held, worker.buffer.waiting_seconds) == (0, 0)
    assert waits(world) == [pytest.approx(0, abs=0.1)]


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_wakeup_is_there_before_its_window_closes(elsewhere: bool) -> None:
    """The way of a wake-up, however slow, is no part of what the customer waits for."""
    world = World()
    world.converse()
    world.queue.send_seconds = 0.4
    async with world.running() as worker:
        await (world.webhook() if elsewhere else worker.accept)(message(1))
        await asyncio.sleep(20)
    assert waits(world) == [0]


async def test_nobody_waits_longer_for_a_clock_that_is_ahead() -> None:
    world = World()
    world.converse()
    await world.webhook()(message(1))
    (queued,) = world.queue.messages.values()
    queued.body = json.dumps(json.loads(queued.body) | {"closes_at": "2100-01-01T00:00:00.000Z"})
    await asyncio.sleep(100)
    async with world.running():
        await asyncio.sleep(20)
    # A window more, and no longer.
    assert waits(world) == [pytest.approx(100, abs=0.1)]


async def test_what_waited_in_the_queue_counts_from_its_window_on() -> None:
    world = World()
    world.converse()
    world.model.seconds = 20
    await world.webhook()(message(1))
    await asyncio.sleep(100)
    async with world.running() as worker:
        await asyncio.sleep(1)
        assert worker.buffer.waiting_seconds == pytest.approx(101 - QUIET, abs=0.1)
        await asyncio.sleep(30)
    assert waits(world) == [pytest.approx(100 - QUIET, abs=0.1)]


async def test_a_turn_that_is_tried_again_still_waits() -> None:
    world = World()
    world.converse()
    world.model.failures = [Temporary("openai", "busy") for _ in range(4)]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(QUIET + 10)
        assert worker.buffer.waiting_seconds == pytest.approx(10, abs=0.1)
        await asyncio.sleep(60)
        assert worker.buffer.waiting_seconds == 0
    assert waits(world) == sorted(waits(world))
    assert waits(world)[-1] > 10


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_who_goes_on_typing_does_not_wait(elsewhere: bool) -> None:
    """Told by the webhook of the same process, or by the record where another took it."""
    world = World(window={"quiet_seconds": 4})
    world.converse()
    async with world.running() as worker:
        accept = world.webhook() if elsewhere else worker.accept
        for number in range(3):
            await accept(message(number))
            await asyncio.sleep(3)
        # The second one's wake-up was due two seconds ago.
        assert worker.buffer.held == 1
        assert worker.buffer.waiting_seconds == 0
        await asyncio.sleep(20)
    assert len(waits(world)) == 1


async def test_a_message_during_a_turn_waits_from_its_end_on() -> None:
    """The next claim, which has the record, tells for how long it has really waited."""
    world = World(window={"max_restarts": 0})
    world.converse()
    world.model.seconds = 20
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(QUIET + 10)
        await worker.accept(message(2))
        await asyncio.sleep(15)
        # The first turn has ended five seconds ago, the second window closed eight before that.
        assert worker.buffer.waiting_seconds == pytest.approx(5, abs=0.2)
        await asyncio.sleep(30)
        assert worker.buffer.waiting_seconds == 0
    assert waits(world)[-1] == pytest.approx(8, abs=0.2)


async def test_another_handlers_message_tells_how_long_it_was_in_the_queue() -> None:
    world = World()
    world.converse()
    params = {"MessageSid": "SM1", "From": CUSTOMER, "To": "+447700900100", "Body": "hi"}
    body = {"twilio_message": params, "conversation_id": KEY.sort, "channel": "whatsapp"}
    await world.queue.send(json.dumps(body), 0)
    await asyncio.sleep(40)
    async with world.running():
        await asyncio.sleep(20)
    (adopted,) = world.events(MessageAdopted)
    assert adopted.waited_ms == pytest.approx(40_000, abs=100)
