"""The depths of the queues, told for as long as the process runs, whatever a queue answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from replyd.adapters.memory import LoopClock, MemoryQueue, Recorder
from replyd.domain.events import DependencyFailed, QueueMeasured
from replyd.errors import DependencyDown, Permanent, Temporary
from replyd.ports import Depth
from replyd.runtime.progress import Progress
from replyd.runtime.queue_depths import READING_SECONDS, QueueDepths

INTERVAL = 60.0


@dataclass(slots=True)
class FailingQueue(MemoryQueue):
    """`failures`: raised instead of an answer, in order; `hanging`: no answer comes."""

    failures: list[Exception] = field(default_factory=list)
    hanging: bool = False

    async def depth(self) -> Depth:
        if self.failures:
            raise self.failures.pop(0)
        if self.hanging:
            await asyncio.Future()
        return await MemoryQueue.depth(self)


@dataclass
class Watch:
    replies: FailingQueue
    handoff: MemoryQueue
    telemetry: Recorder
    progress: Progress
    task: "asyncio.Task[None]"

    def told(self) -> list[QueueMeasured]:
        """Since the last call."""
        found = [e for e in self.telemetry.events if isinstance(e, QueueMeasured)]
        self.telemetry.events = [e for e in self.telemetry.events if e not in found]
        return found


@asynccontextmanager
async def watching(*failures: Exception) -> AsyncIterator[Watch]:
    replies, handoff = FailingQueue(failures=list(failures)), MemoryQueue(max_receives=None)
    telemetry, progress = Recorder(), Progress(LoopClock().elapsed)
    depths = QueueDepths(
        queues={"replies": replies, "handoff": handoff},
        interval_seconds=INTERVAL,
        telemetry=telemetry,
        progress=progress,
    )
    task = asyncio.create_task(depths.run())
    await asyncio.sleep(1)
    try:
        yield Watch(replies, handoff, telemetry, progress, task)
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_both_queues_are_told_at_once_and_every_interval() -> None:
    async with watching() as watch:
        assert watch.told() == [
            QueueMeasured("replies"),
            QueueMeasured("replies_dlq"),
            QueueMeasured("handoff"),
            QueueMeasured("handoff_dlq", known=False),
        ]
        await watch.replies.send("a", 0)
        await watch.replies.send("b", 600)
        watch.replies.dead.append("c")
        await asyncio.sleep(INTERVAL / 2)
        assert watch.told() == []
        await asyncio.sleep(INTERVAL / 2)
        assert watch.told()[:2] == [
            QueueMeasured("replies", visible=1, delayed=1),
            QueueMeasured("replies_dlq", visible=1),
        ]


@pytest.mark.parametrize(
    "failure",
    [
        Temporary("sqs", "did not answer in time"),
        DependencyDown("sqs", "the credentials may not do this", code="AccessDenied"),
        Permanent("sqs", "refused the request as invalid"),
    ],
)
async def test_a_queue_that_cannot_be_read_is_told_and_read_again(failure: Exception) -> None:
    async with watching(failure) as watch:
        first, *others = watch.told()
        assert first == QueueMeasured("replies", known=False)
        assert len(others) == 3
        (failed,) = watch.telemetry.events
        assert isinstance(failed, DependencyFailed)
        assert (failed.dependency, failed.operation) == ("sqs", "depth")
        await asyncio.sleep(INTERVAL)
        assert watch.told()[0] == QueueMeasured("replies")


async def test_a_bug_in_a_reading_ends_neither_it_nor_the_process() -> None:
    async with watching(ValueError("not a number")) as watch:
        assert watch.told()[0] == QueueMeasured("replies", known=False)
        await asyncio.sleep(INTERVAL)
        assert watch.told()[0] == QueueMeasured("replies")


async def test_a_reading_that_never_ends_is_no_progress() -> None:
    async with watching() as watch:
        watch.replies.hanging = True
        await asyncio.sleep(INTERVAL + READING_SECONDS - 5)
        assert watch.progress.stuck() == []
        await asyncio.sleep(10)
        assert watch.progress.stuck() == ["queue depths"]
