"""One contract suite for every implementation of a port."""

import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Any

import pytest
from aiobotocore.session import get_session
from moto.server import ThreadedMotoServer

from replyd.adapters.aws_direct import DirectClient
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.memory import MemoryQueue, MemoryStore
from replyd.adapters.sqs import SqsWakeups
from replyd.ports import ConversationStore, WakeupQueue
from tests.support.dynamodb_local import CannotRunError, dynamodb_local

# Endpoints that are asked through the SDK, and not past it.
_BY_THE_SDK: set[str] = set()


@pytest.fixture(scope="session")
def local() -> Iterator[str]:
    try:
        with dynamodb_local() as url:
            yield url
    except CannotRunError as reason:
        pytest.skip(f"DynamoDB Local: {reason}")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def canned() -> Iterator[str]:
    """The double that the bench loads: it must refuse what DynamoDB refuses. Here it stands for
    `aws.direct = false`, too."""
    command = [sys.executable, "-m", "tests.benchmarks.doubles.aws"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            _BY_THE_SDK.add(url)
            yield url
        finally:
            process.terminate()


@cache
def _session() -> Any:
    """One for all tests: it keeps the services' descriptions, which take long to read."""
    session = get_session()
    session.set_credentials("local", "local")
    return session


@asynccontextmanager
async def client(service: str, endpoint_url: str) -> AsyncIterator[Any]:
    """As `adapters.aws.create_client` makes it, but for the endpoint."""
    async with _session().create_client(
        service, region_name="us-east-1", endpoint_url=endpoint_url
    ) as made:
        if endpoint_url in _BY_THE_SDK or service not in ("dynamodb", "sqs"):
            yield made
            return
        direct = DirectClient(made, _session(), connect_timeout=3, read_timeout=20, connections=50)
        async with aclosing(direct):
            yield direct


async def create_table(dynamodb: Any, layout: TableLayout) -> None:
    names = [n for n in (layout.partition_key, layout.sort_key) if n]
    arguments: dict[str, Any] = {
        "TableName": layout.table,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [
            {"AttributeName": n, "KeyType": kind}
            for n, kind in zip(names, ("HASH", "RANGE"), strict=False)
        ],
    }
    if layout.lookup_index:
        names.append(layout.address_attribute)
        arguments["GlobalSecondaryIndexes"] = [
            {
                "IndexName": layout.lookup_index,
                "KeySchema": [{"AttributeName": layout.address_attribute, "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ]
    arguments["AttributeDefinitions"] = [{"AttributeName": n, "AttributeType": "S"} for n in names]
    await dynamodb.create_table(**arguments)
    await dynamodb.get_waiter("table_exists").wait(
        TableName=layout.table, WaiterConfig={"Delay": 1}
    )


def _fresh_layout(**changes: str) -> TableLayout:
    return TableLayout(f"t-{uuid.uuid4().hex[:12]}", **changes)


def endpoint(request: pytest.FixtureRequest) -> str:
    """Of the backend that the parameter names; empty for memory."""
    return "" if request.param == "memory" else str(request.getfixturevalue(request.param))


@pytest.fixture(params=["memory", "ministack", "moto", "local", "canned"])
def tables(request: pytest.FixtureRequest) -> str:
    """The endpoint of something that has DynamoDB tables; empty for memory."""
    return endpoint(request)


@pytest.fixture(params=["memory", "ministack", "moto", "canned"])
def queues(request: pytest.FixtureRequest) -> str:
    """The endpoint of something that has SQS queues; empty for memory."""
    return endpoint(request)


@pytest.fixture
async def store(tables: str) -> AsyncIterator[ConversationStore]:
    """A table with the default keys."""
    if not tables:
        yield MemoryStore()
        return
    async with client("dynamodb", tables) as dynamodb:
        layout = _fresh_layout()
        await create_table(dynamodb, layout)
        yield DynamoStore(dynamodb, layout)


@pytest.fixture
async def indexed_store(tables: str) -> AsyncIterator[ConversationStore]:
    """A table keyed by the conversation alone, with an index by customer that has only keys."""
    names = {
        "partition_key": "conversation_id",
        "sort_key": "",
        "lookup_index": "by-customer",
        "lookup_key": "phone",
    }
    if not tables:
        yield MemoryStore(partition_key="conversation_id", sort_key="", address_attribute="phone")
        return
    async with client("dynamodb", tables) as dynamodb:
        layout = _fresh_layout(**names)
        await create_table(dynamodb, layout)
        yield DynamoStore(dynamodb, layout)


@pytest.fixture
def concurrent(request: pytest.FixtureRequest) -> None:
    """For tests of what several do at once: moto's threads undo each other's writes (conditional
    ones on a table, deletes on a queue)."""
    if "moto" in request.node.name:
        pytest.skip("moto's threads undo each other's writes")


@pytest.fixture
async def wakeups(queues: str) -> AsyncIterator[WakeupQueue]:
    """A queue with a visibility timeout of 1 s and long polls of 2 s."""
    if not queues:
        yield MemoryQueue(visibility_seconds=1, wait_seconds=2)
        return
    async with client("sqs", queues) as sqs:
        queue = await sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:12]}")
        yield SqsWakeups(sqs, sqs, queue["QueueUrl"], wait_seconds=2, visibility_seconds=1)
