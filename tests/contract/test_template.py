"""The contracts of the store and the wake-up queue, on what `config/cloudformation.yaml` makes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.sqs import SqsWakeups
from replyd.ports import ConversationStore, WakeupQueue
from tests.contract import test_store, test_wakeup_queue
from tests.contract.conftest import client, create_table
from tests.support.stack import Stack, deploy

for module in (test_store, test_wakeup_queue):
    for name, contract in list(vars(module).items()):
        if name.startswith("test_"):
            assert name not in globals(), f"two contract tests are called {name}"
            globals()[name] = contract


def _prefix() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


# The name tells the tests what does not hold on moto.
@pytest.fixture(scope="module", params=["moto"])
def stack(moto: str) -> Stack:
    # A loop factory keeps the loop that pytest-asyncio has set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(deploy(moto, _prefix()))


@pytest.fixture
async def store(moto: str, stack: Stack) -> AsyncIterator[ConversationStore]:
    layout = TableLayout(**stack.settings["conversations"])
    async with client("dynamodb", moto) as dynamodb:
        yield DynamoStore(dynamodb, layout)
        for item in (await dynamodb.scan(TableName=layout.table))["Items"]:
            key = {name: item[name] for name in (layout.partition_key, layout.sort_key)}
            await dynamodb.delete_item(TableName=layout.table, Key=key)


@pytest.fixture
async def indexed_store(moto: str) -> AsyncIterator[ConversationStore]:
    theirs = TableLayout(
        table=f"t-{uuid.uuid4().hex[:12]}",
        partition_key="conversation_id",
        sort_key="",
        lookup_index="by-customer",
        lookup_key="phone",
    )
    async with client("dynamodb", moto) as dynamodb:
        await create_table(dynamodb, theirs)
        stack = await deploy(
            moto, _prefix(), ExistingTable=theirs.table, LookupIndex=theirs.lookup_index
        )
        blank = replace(theirs, table="", lookup_index="")
        yield DynamoStore(dynamodb, replace(blank, **stack.settings["conversations"]))


# The messages of one test must not come in the next: each has a stack of its own.
@pytest.fixture(params=["moto"])
async def wakeups(moto: str) -> AsyncIterator[WakeupQueue]:
    url = (await deploy(moto, _prefix())).settings["queues"]["replies_url"]
    async with client("sqs", moto) as sqs:
        yield SqsWakeups(sqs, sqs, url, wait_seconds=2, visibility_seconds=1)
