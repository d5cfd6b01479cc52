"""What every queue tells of its depth. Real clocks here: the queues keep time themselves."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from replyd.adapters.memory import MemoryQueue
from replyd.adapters.queue_depths import SqsDepths
from replyd.adapters.sqs import SqsWakeups
from replyd.errors import DependencyDown
from replyd.ports import Depth, WakeupQueue, WatchedQueue
from tests.contract.conftest import client


@dataclass
class Queue:
    """The port, and what fills and empties the queue. Messages are parked after one receive."""

    port: WatchedQueue
    messages: WakeupQueue


@pytest.fixture
async def queue(queues: str) -> AsyncIterator[Queue]:
    if not queues:
        memory = MemoryQueue(visibility_seconds=30, wait_seconds=1, max_receives=1)
        yield Queue(memory, memory)
        return
    name = f"w-{uuid.uuid4().hex[:12]}"
    async with client("sqs", queues) as sqs:
        url, _ = await _made(sqs, name)
        yield Queue(
            SqsDepths(sqs, url), SqsWakeups(sqs, sqs, url, wait_seconds=1, visibility_seconds=30)
        )


async def _made(sqs: Any, name: str) -> tuple[str, str]:
    """The URLs of the queue and of its dead-letter queue."""
    dead = (await sqs.create_queue(QueueName=f"{name}-dlq"))["QueueUrl"]
    asked = await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": asked["Attributes"]["QueueArn"], "maxReceiveCount": 1}
    attributes = {"RedrivePolicy": json.dumps(policy)}
    return (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"], dead


@pytest.fixture
async def without_policy(queues: str) -> AsyncIterator[WatchedQueue]:
    if not queues:
        yield MemoryQueue(max_receives=None)
        return
    async with client("sqs", queues) as sqs:
        made = await sqs.create_queue(QueueName=f"w-{uuid.uuid4().hex[:12]}")
        yield SqsDepths(sqs, made["QueueUrl"])


async def test_an_empty_queue_has_nothing(queue: Queue) -> None:
    assert await queue.port.depth() == Depth()
    assert await queue.port.dead_letters() == Depth()


async def test_messages_are_visible_in_flight_or_delayed(queue: Queue) -> None:
    for body, delay in (("a", 0), ("b", 0), ("c", 60)):
        await queue.messages.send(body, delay)
    assert await queue.port.depth() == Depth(visible=2, delayed=1)
    held = await queue.messages.receive()
    assert await queue.port.depth() == Depth(in_flight=2, delayed=1)
    await queue.messages.delete(held[:1])
    assert await queue.port.depth() == Depth(in_flight=1, delayed=1)
    assert await queue.port.dead_letters() == Depth()


async def test_what_was_received_too_often_is_among_the_dead(queue: Queue) -> None:
    await queue.messages.send("a", 0)
    await queue.messages.hide(await queue.messages.receive(), 0)
    assert await queue.messages.receive() == []
    # First, and again: the dead-letter queue is looked for only once.
    for _ in range(2):
        assert await queue.port.dead_letters() == Depth(visible=1)
    assert await queue.port.depth() == Depth()


async def test_a_queue_without_a_redrive_policy_has_no_dead_letters(
    without_policy: WatchedQueue,
) -> None:
    assert await without_policy.dead_letters() is None
    assert await without_policy.depth() == Depth()


# --- on a stand-in only ---------------------------------------------------------------------------


async def test_a_policy_whose_queue_is_gone_is_named_and_the_queue_is_told(ministack: str) -> None:
    name = f"w-{uuid.uuid4().hex[:12]}"
    async with client("sqs", ministack) as sqs:
        url, dead = await _made(sqs, name)
        await sqs.delete_queue(QueueUrl=dead)
        queue = SqsDepths(sqs, url)
        await sqs.send_message(QueueUrl=url, MessageBody="a")
        assert (await queue.depth()).visible == 1
        with pytest.raises(DependencyDown, match=f"{name}-dlq does not exist"):
            await queue.dead_letters()
        # Somebody mends it.
        await sqs.create_queue(QueueName=f"{name}-dlq")
        assert await queue.dead_letters() == Depth()
