"""What every handoff queue does. Real clocks here: the queues keep time themselves."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from replyd.adapters.memory import MemoryHandoffQueue
from replyd.adapters.sqs import MAX_BATCH_BYTES, SqsHandoffs
from replyd.ports import NOT_TRACED, HandoffQueue, TraceContext
from tests.contract.conftest import client

# The longest body that SQS takes.
LONGEST = MAX_BATCH_BYTES

TRACE = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1")

# aiohttp means a body of more than 1 MiB, which a full batch is once it is JSON. botocore has
# it as bytes anyway.
large = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@dataclass
class Queue:
    """The port, and what people's tools take from it: each body with its trace."""

    port: HandoffQueue
    received: Callable[[int], Awaitable[list[tuple[str, TraceContext]]]]


@pytest.fixture
async def queue(queues: str, request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    if not queues:
        memory = MemoryHandoffQueue()

        async def everything(count: int) -> list[tuple[str, TraceContext]]:
            return list(zip(memory.bodies, memory.traces, strict=True))

        yield Queue(memory, everything)
        return
    async with client("sqs", queues) as sqs:
        attributes = {"MaximumMessageSize": str(LONGEST)}
        made = await sqs.create_queue(QueueName=f"h-{uuid.uuid4().hex[:12]}", Attributes=attributes)
        url = made["QueueUrl"]

        async def received(count: int) -> list[tuple[str, TraceContext]]:
            return await _drained(sqs, url, count)

        yield Queue(SqsHandoffs(sqs, url), received)


async def _drained(sqs: Any, url: str, count: int) -> list[tuple[str, TraceContext]]:
    """In the order of arrival, which a standard queue promises only roughly. Without a wait at
    the end: what comes twice comes with the rest."""
    found: list[tuple[str, TraceContext]] = []
    async with asyncio.timeout(30):
        while True:
            answer = await sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1 if len(found) < count else 0,
                MessageAttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            found += [(message["Body"], _trace_of(message)) for message in messages]
            if not messages and len(found) >= count:
                return found


def _trace_of(message: dict[str, Any]) -> TraceContext:
    attributes = message.get("MessageAttributes", {})
    return TraceContext(**{name: each["StringValue"] for name, each in attributes.items()})


async def arrived(queue: Queue, bodies: Sequence[str]) -> None:
    await queue.port.send(bodies)
    assert await queue.received(len(bodies)) == [(body, NOT_TRACED) for body in bodies]


async def test_a_body_comes_as_it_was_sent(queue: Queue) -> None:
    await arrived(queue, ['{"text": "\\u0000 ☺ 漢字 <&>\\r\\n\\t "}'])


async def test_nothing_is_sent_for_nobody(queue: Queue) -> None:
    await arrived(queue, [])


@pytest.mark.parametrize("count", [2, 10, 11, 35])
async def test_all_of_them_in_order(queue: Queue, count: int) -> None:
    await arrived(queue, [f"body {number}" for number in range(count)])


async def test_the_same_body_twice_comes_twice(queue: Queue) -> None:
    await arrived(queue, ["again", "again"])


@large
async def test_what_fits_no_batch_goes_in_several(queue: Queue) -> None:
    """Four of 400 KiB: two to a batch, counted in bytes and not in characters."""
    await arrived(queue, [str(number) + "☺" * (400 * 1024 // 3) for number in range(4)])


@large
async def test_the_longest_body_goes_alone(queue: Queue) -> None:
    await arrived(queue, ["before", "x" * LONGEST, "after"])


async def test_what_xml_has_no_character_for_is_escaped_by_json(queue: Queue) -> None:
    """SQS takes XML's characters only; a body is ASCII JSON, which has no others."""
    text = "".join(map(chr, range(32))) + "\x7f\ufffe\uffff\U0001f600"
    body = json.dumps({"text": text})
    await arrived(queue, [body])
    assert json.loads(body)["text"] == text


async def test_a_trace_is_beside_every_body(queue: Queue) -> None:
    bodies = [f"body {number}" for number in range(11)]
    await queue.port.send(bodies, TRACE)
    assert await queue.received(11) == [(body, TRACE) for body in bodies]


@large
async def test_a_trace_counts_to_the_size_of_a_batch(queue: Queue) -> None:
    """Two that would fill one exactly, without it."""
    bodies = ["x" * (LONGEST // 2), "y" * (LONGEST // 2)]
    await queue.port.send(bodies, TRACE)
    assert await queue.received(2) == [(body, TRACE) for body in bodies]


@large
async def test_a_body_that_leaves_no_room_for_a_trace_goes_all_the_same(queue: Queue) -> None:
    bodies = ["before", "x" * (LONGEST - 50), "after"]
    await queue.port.send(bodies, TRACE)
    found = await queue.received(3)
    assert [body for body, _ in found] == bodies
    assert [found[0][1], found[2][1]] == [TRACE, TRACE]
