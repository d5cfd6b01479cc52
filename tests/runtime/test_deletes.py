"""Wake-ups that are done with are deleted, whatever becomes of who does it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from replyd.adapters.memory import CountingIds, LoopClock, MemoryQueue, Recorder
from replyd.domain.messages import ConversationKey
from replyd.domain.wakeup import Wakeup
from replyd.flows.outcomes import Outcome, Settled
from replyd.flows.workbench import News
from replyd.ports import Received
from replyd.runtime.buffer import Buffer
from replyd.runtime.progress import Progress
from replyd.runtime.receipts import BATCH, GATHER_SECONDS

VISIBILITY_SECONDS = 30
HEARTBEAT_SECONDS = 10


class SlowDeletes(MemoryQueue):
    """A delete takes a second before it is carried out."""

    async def delete(self, messages: Sequence[Received]) -> None:
        await asyncio.sleep(1)
        await super().delete(messages)


async def settle(key: ConversationKey, seq: int, news: News) -> Outcome:
    return Settled(seq)


def buffer(queue: MemoryQueue) -> Buffer:
    clock = LoopClock()
    return Buffer(
        answer=settle,
        wakeups=queue,
        clock=clock,
        ids=CountingIds("w"),
        telemetry=Recorder(),
        progress=Progress(clock.elapsed),
        concurrency=50,
        max_held=50,
        visibility_seconds=VISIBILITY_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        turn_seconds=60,
    )


@asynccontextmanager
async def running(queue: MemoryQueue) -> AsyncIterator[Buffer]:
    made = buffer(queue)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def offer(made: Buffer, queue: MemoryQueue, count: int) -> None:
    """A turn for each of so many conversations."""
    for number in range(count):
        await queue.send(f"{number}", 0)
    left = count
    while left:
        for received in await queue.receive():
            made.offer(Wakeup(ConversationKey(received.body, "c"), 1), received)
            left -= 1


async def test_what_is_settled_shortly_one_after_the_other_is_deleted_in_one_request() -> None:
    queue = MemoryQueue()
    async with running(queue) as made:
        for _ in range(2):
            await offer(made, queue, 1)
            await asyncio.sleep(GATHER_SECONDS / 3)
        assert (made.held, queue.requests.get("delete", 0)) == (0, 0)
        await asyncio.sleep(GATHER_SECONDS)
        assert (len(queue.messages), queue.requests["delete"]) == (0, 1)


async def test_as_many_as_fit_into_a_request_are_deleted_at_once() -> None:
    queue = MemoryQueue()
    async with running(queue) as made:
        await offer(made, queue, BATCH)
        await asyncio.sleep(GATHER_SECONDS / 10)
        assert (len(queue.messages), queue.requests["delete"]) == (0, 1)


async def test_a_drain_deletes_what_it_found_on_its_way() -> None:
    queue = SlowDeletes()
    async with running(queue) as made:
        await offer(made, queue, 3)
        await asyncio.sleep(GATHER_SECONDS + 0.5)
        # These are being deleted, and this one waits for more.
        await offer(made, queue, 1)
        await asyncio.sleep(0.1)
        assert (len(queue.messages), made.held) == (4, 0)
        await made.drain(5)
        assert queue.messages == {}


async def test_what_is_superseded_waits_for_its_turn_or_for_enough_of_them() -> None:
    queue = MemoryQueue()
    async with running(queue) as made:
        typing = ConversationKey("+447700900002", "c")
        made.staged(typing, BATCH, LoopClock().now() + 5_000)
        for seq in range(1, BATCH + 1):
            await queue.send("", 0)
            (received,) = await queue.receive()
            made.offer(Wakeup(typing, seq), received)
        await asyncio.sleep(3)
        assert (len(queue.messages), queue.requests.get("delete", 0)) == (BATCH, 0)
        await asyncio.sleep(3)
        assert (len(queue.messages), queue.requests["delete"]) == (0, 1)
        # Each is older than the one before, of a conversation whose turn has not begun.
        made.staged(typing, 100, LoopClock().now() + 5_000)
        for seq in range(25, 0, -1):
            made.offer(Wakeup(typing, seq), Received(f"{seq}", f"{seq}", "x"))
        await asyncio.sleep(1)
        assert queue.requests["delete"] == 2


async def test_what_is_superseded_is_deleted_though_nothing_is_ever_settled() -> None:
    queue = MemoryQueue()
    async with running(queue) as made:
        typing = ConversationKey("+447700900002", "c")
        made.staged(typing, 2, LoopClock().now() + 60_000)
        for seq in (1, 2):
            await queue.send("", 0)
            (received,) = await queue.receive()
            made.offer(Wakeup(typing, seq), received)
        await asyncio.sleep(HEARTBEAT_SECONDS + 1)
        assert (len(queue.messages), queue.requests["delete"]) == (1, 1)


class HangingDeletes(MemoryQueue):
    async def delete(self, _: Sequence[Received]) -> None:
        await asyncio.sleep(3600)


async def test_a_delete_that_hangs_keeps_nobodys_wake_up_from_being_hidden() -> None:
    queue = HangingDeletes()
    async with running(queue) as made:
        await offer(made, queue, 1)
        await asyncio.sleep(1)
        typing = ConversationKey("+447700900002", "c")
        made.staged(typing, 1, LoopClock().now() + 60_000)
        await queue.send("", 0)
        (received,) = await queue.receive()
        made.offer(Wakeup(typing, 1), received)
        await asyncio.sleep(VISIBILITY_SECONDS)
        assert queue.requests["hide"] >= 1
