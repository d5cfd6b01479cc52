"""Wake-ups that are done with are deleted, whatever becomes of who does it."""

import asyncio
from collections.abc import Sequence

from replyd.adapters.memory import CountingIds, LoopClock, MemoryQueue, Recorder
from replyd.domain.messages import ConversationKey
from replyd.domain.wakeup import Wakeup
from replyd.flows.outcomes import Outcome, Settled
from replyd.flows.workbench import News
from replyd.ports import Received
from replyd.runtime.buffer import Buffer
from replyd.runtime.progress import Progress


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
        visibility_seconds=30,
        heartbeat_seconds=10,
        turn_seconds=60,
    )


async def offered(queue: MemoryQueue, count: int) -> Buffer:
    """With a turn for each of so many conversations."""
    made = buffer(queue)
    for number in range(count):
        await queue.send(f"{number}", 0)
    while made.held < count:
        for received in await queue.receive():
            made.offer(Wakeup(ConversationKey(received.body, "c"), 1), received)
    return made


async def test_a_drain_deletes_what_it_found_on_its_way() -> None:
    queue = SlowDeletes()
    made = await offered(queue, 3)
    await asyncio.sleep(0.5)
    assert len(queue.messages) == made.held == 3
    # Those who were about to delete are cancelled: nothing of theirs is a turn.
    await made.drain(5)
    assert queue.messages == {}


async def test_what_piled_up_is_deleted_in_one_go() -> None:
    queue = MemoryQueue()
    made = await offered(queue, 1)
    await asyncio.sleep(1)
    assert (made.held, queue.requests["delete"]) == (0, 1)
    queue.requests.clear()
    # Each is older than the one before, of a conversation whose turn has not begun.
    for number in range(25):
        made.offer(
            Wakeup(ConversationKey("x", "c"), 25 - number), Received(f"{number}", f"{number}", "x")
        )
    await asyncio.sleep(1)
    assert queue.requests["delete"] == 1


async def test_what_is_superseded_while_a_delete_is_under_way_costs_no_request_of_its_own() -> None:
    queue = SlowDeletes()
    made = await offered(queue, 1)
    typing = ConversationKey("+447700900002", "c")
    await asyncio.sleep(0.5)
    # The first one's wake-up is being deleted. This window closes in five seconds.
    made.staged(typing, 2, LoopClock().now() + 5_000)
    for seq in (1, 2):
        await queue.send("", 0)
        (received,) = await queue.receive()
        made.offer(Wakeup(typing, seq), received)
    await asyncio.sleep(3)
    assert (len(queue.messages), queue.requests["delete"]) == (2, 1)
    await asyncio.sleep(5)
    assert (len(queue.messages), queue.requests["delete"]) == (0, 2)
