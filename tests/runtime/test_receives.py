"""Wake-ups that are early come several in one receive; no other waits for that."""

import asyncio
from collections.abc import Sequence

import pytest

from replyd.domain.events import TurnClaimed
from replyd.domain.messages import ConversationKey
from replyd.ports import Received
from replyd.runtime.receipts import BATCH, GATHER_SECONDS
from tests.support.faults import FaultyQueue
from tests.support.world import World, message

GAP = GATHER_SECONDS / 20


class NotingQueue(FaultyQueue):
    def __init__(self) -> None:
        super().__init__()
        self.brought: list[int] = []

    async def receive(self) -> Sequence[Received]:
        received = await super().receive()
        if received:
            self.brought.append(len(received))
        return received


async def write(customers: int, quiet_seconds: float) -> tuple[NotingQueue, list[float]]:
    """What each receive brought, and how late the turns began, in seconds."""
    world = World(window={"quiet_seconds": quiet_seconds})
    queue = world.queue = NotingQueue()
    async with world.running() as worker:
        for number in range(customers):
            tel = f"+4477009{number:05}"
            world.converse(ConversationKey(tel, "c"))
            await worker.accept(message(number, sender=f"whatsapp:{tel}"))
            await asyncio.sleep(GAP)
        await asyncio.sleep(10)
    claimed = world.events(TurnClaimed)
    assert len(claimed) == customers
    return queue, [event.late_ms / 1000 for event in claimed]


async def test_what_comes_after_an_early_wake_up_comes_in_one_receive() -> None:
    queue, late = await write(5, quiet_seconds=2)
    assert queue.brought == [1, 4]
    assert late == [pytest.approx(0, abs=0.01)] * 5


async def test_what_comes_on_time_is_received_at_once() -> None:
    queue, late = await write(5, quiet_seconds=0)
    assert queue.brought == [1] * 5
    assert late == [pytest.approx(0, abs=0.01)] * 5


async def test_after_a_full_batch_the_next_receive_is_at_once() -> None:
    queue, _ = await write(2 * BATCH + 5, quiet_seconds=2)
    assert queue.brought[:2] == [1, BATCH]
    assert sum(queue.brought) == 2 * BATCH + 5


async def test_a_drain_does_not_wait_for_more() -> None:
    world = World()
    world.queue = NotingQueue()
    world.converse()
    loop = asyncio.get_running_loop()
    async with world.running() as worker:
        await worker.accept(message(1))
        while not worker.buffer.held:
            await asyncio.sleep(GAP)
        began = loop.time()
    assert loop.time() - began < GAP
