"""What operators' commands ask of SQS and DynamoDB, on a stand-in."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from replyd.adapters import aws
from replyd.adapters.dead_letters import DeadLetters
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.table_scan import TableScan
from replyd.domain.messages import ConversationKey
from replyd.errors import DependencyDown
from tests.contract.conftest import create_table


@pytest.fixture(autouse=True)
def endpoint(ministack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


@pytest.fixture
async def sqs() -> AsyncIterator[Any]:
    async with aws.create_client("sqs", region="us-east-1") as client:
        yield client


@pytest.fixture
async def dynamodb() -> AsyncIterator[Any]:
    async with aws.create_client("dynamodb", region="us-east-1") as client:
        yield client


@pytest.mark.parametrize("sort_key", ["conversation_id", ""])
async def test_a_table_is_read_to_its_end(dynamodb: Any, sort_key: str) -> None:
    layout = TableLayout(f"t{uuid4().hex[:12]}", sort_key=sort_key)
    await create_table(dynamodb, layout)
    store, table = DynamoStore(dynamodb, layout), TableScan(dynamodb, layout)
    keys = {ConversationKey(f"+44770090000{n}", "c" if sort_key else "") for n in range(4)}
    for key in keys:
        # More than the 1 MB of a page in all.
        await store.create(key, {"blob": "x" * 300_000})
    for part in ("2026-11-22#b", "2026-11-21#a"):
        await store.put_side("archive#c-1", {"messages": [part]}, None, part=part)
    await store.put_side("archive#c-10", {"messages": []}, None, part="2026-11-23#c")
    pages = [page async for page in table.pages()]
    found = [key for page in pages for key, _ in page.items]
    assert len(pages) > 1
    assert len(found) == 7
    assert keys < set(found)
    assert sum(page.units for page in pages) > 0
    for place in (0, 3, 6):
        behind = [key async for page in table.pages(found[place]) for key, _ in page.items]
        assert behind == found[place + 1 :]
    archived = [item async for page in table.parts("archive#c-1") for _, item in page.items]
    assert sorted(m for i in archived for m in i["messages"]) == ["2026-11-21#a", "2026-11-22#b"]
    assert (await table.size()).items >= 0


async def test_a_message_goes_back_with_its_attributes(sqs: Any) -> None:
    name = f"q{uuid4().hex[:12]}"
    dead = (await sqs.create_queue(QueueName=f"{name}-dlq"))["QueueUrl"]
    arn = (await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]
    policy = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 10}
    source = (
        await sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)})
    )["QueueUrl"]
    attributes = {"trace": {"DataType": "String", "StringValue": "abc"}}
    await sqs.send_message(QueueUrl=dead, MessageBody="hi", MessageAttributes=attributes)
    letters = DeadLetters(sqs)
    queue = await letters.of(source)
    assert queue is not None
    assert (queue.name, queue.visible) == (f"{name}-dlq", 1)
    (message,) = await letters.receive(queue)
    assert message.sent_at > 1_700_000_000_000
    assert await letters.receive(queue) == []
    await letters.give_back(queue, [message])
    (message,) = await letters.receive(queue)
    await letters.move_back(queue, message)
    answer = await sqs.receive_message(QueueUrl=source, MessageAttributeNames=["All"])
    (moved,) = answer["Messages"]
    assert moved["Body"] == "hi"
    assert moved["MessageAttributes"]["trace"]["StringValue"] == "abc"
    again = await letters.of(source)
    assert again is not None
    assert (again.visible, again.in_flight) == (0, 0)


async def test_no_policy_and_a_policy_without_its_queue(sqs: Any) -> None:
    name = f"q{uuid4().hex[:12]}"
    plain = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    assert await DeadLetters(sqs).of(plain) is None
    dead = (await sqs.create_queue(QueueName=f"{name}-dlq"))["QueueUrl"]
    arn = (await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]
    policy = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 10}
    await sqs.set_queue_attributes(QueueUrl=plain, Attributes={"RedrivePolicy": json.dumps(policy)})
    await sqs.delete_queue(QueueUrl=dead)
    with pytest.raises(DependencyDown, match=f"{name}-dlq does not exist: make it"):
        await DeadLetters(sqs).of(plain)
