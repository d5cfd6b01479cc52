"""The doubles, started, and what the bench asks of them."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import connections, processes, town
from tests.benchmarks.connections import Connections
from tests.benchmarks.prices import Usage
from tests.benchmarks.processes import Running

Counts = Counter[str]


@dataclass(frozen=True, slots=True)
class Resources:
    """One party's table and queues."""

    table: str
    replies_url: str
    handoff_url: str

    @property
    def replies(self) -> str:
        return self.replies_url.rpartition("/")[2]


class Stage:
    """`aws`, `vendors`: the processes of the doubles."""

    def __init__(self, aws: Running, vendors: Running) -> None:
        self.aws, self.vendors = aws, vendors
        aws_port, vendors_port = aws.hello["port"], vendors.hello["port"]
        self.aws_url = f"http://127.0.0.1:{aws_port}"
        self.vendors_url = f"http://127.0.0.1:{vendors_port}"
        self._aws = Connections(aws_port)
        self._vendors = Connections(vendors_port)

    def close(self) -> None:
        self._aws.close()
        self._vendors.close()

    def environ(self, resources: Resources) -> dict[str, str]:
        """What a party finds everything by."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_REGION": town.REGION,
            "AWS_DEFAULT_REGION": town.REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "OPENAI_API_KEY": town.API_KEY,
            "OPENAI_BASE_URL": f"{self.vendors_url}/v1",
            "TWILIO_ACCOUNT_SID": town.ACCOUNT,
            "TWILIO_AUTH_TOKEN": town.AUTH_TOKEN,
            "BENCH_TWILIO_URL": self.vendors_url,
            "BENCH_WEBHOOK_URL": town.PUBLIC_URL + town.INBOUND_PATH,
            "BENCH_TABLE": resources.table,
            "BENCH_QUEUE": resources.replies_url,
            "BENCH_HANDOFF_QUEUE": resources.handoff_url,
        }

    async def provide(self, name: str, conversations: int) -> Resources:
        """A table with so many conversations, and two queues."""
        table = f"bench-{name}"
        await self._operation(
            "DynamoDB_20120810.CreateTable",
            {
                "TableName": table,
                "KeySchema": [
                    {"AttributeName": "recipient_tel", "KeyType": "HASH"},
                    {"AttributeName": "conversation_id", "KeyType": "RANGE"},
                ],
                "AttributeDefinitions": [
                    {"AttributeName": key, "AttributeType": "S"}
                    for key in ("recipient_tel", "conversation_id")
                ],
            },
        )
        urls = [
            (await self._operation("AmazonSQS.CreateQueue", {"QueueName": f"bench-{name}-{kind}"}))[
                "QueueUrl"
            ]
            for kind in ("replies", "handoff")
        ]
        made = Resources(table, *(self.aws_url + url[url.index("/", 8) :] for url in urls))
        await self.seed(made, conversations)
        return made

    async def seed(self, resources: Resources, conversations: int) -> None:
        """The table anew, with so many conversations."""
        wanted = {"table": resources.table, "count": conversations}
        await self._ask(self._aws, "/_bench/seed", wanted)

    async def _operation(self, target: str, body: Any) -> Any:
        headers = f"X-Amz-Target: {target}\r\n"
        request = connections.encoded("POST", "/", json.dumps(body).encode(), headers)
        status, answer = await self._aws.ask(request)
        assert status == 200, answer
        return json.loads(answer)

    async def usage(self, resources: Resources) -> Usage:
        """Of these, so far."""
        units = await self._ask(self._aws, "/_bench/units")
        return Usage(await self.counts(resources), *units[resources.table])

    async def counts(self, resources: Resources) -> Counts:
        """Requests so far to these, by operation."""
        found: Counts = Counter()
        mine = {resources.table, resources.replies, resources.handoff_url.rpartition("/")[2]}
        for operation, name, count in await self._ask(self._aws, "/_bench/counts"):
            if name in mine:
                found[operation] += count
        return found

    async def depth(self, resources: Resources) -> int:
        """Messages on the replies queue, also those that are delayed or received."""
        depths = await self._ask(self._aws, "/_bench/depth")
        return int(depths[resources.replies])

    async def taken(self) -> int:
        """How many customers have been written to so far."""
        return int(await self._ask(self._vendors, "/_bench/taken"))

    async def sent(self, since: int) -> list[tuple[str, float]]:
        """Customers who were written to, and when by the monotonic clock, from number `since`."""
        found = await self._ask(self._vendors, "/_bench/sent", since)
        return [(recipient.removeprefix("whatsapp:"), at) for recipient, at in found]

    async def model_takes(self, seconds: float) -> None:
        await self._ask(self._vendors, "/_bench/model", {"seconds": seconds})

    async def model_calls(self) -> int:
        """Under way."""
        return int((await self._ask(self._vendors, "/_bench/calls"))["now"])

    async def _ask(self, where: Connections, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        status, answer = await where.ask(connections.encoded("POST", path, content))
        assert status == 200, path
        return json.loads(answer)


@asynccontextmanager
async def opened(on: Iterable[int] = ()) -> AsyncIterator[Stage]:
    """Both doubles, as processes of their own on these cores."""
    async with AsyncExitStack() as stack:
        started = []
        for name in ("aws", "vendors"):
            running = await processes.start([f"tests.benchmarks.doubles.{name}"], on=on)
            stack.push_async_callback(running.end)
            started.append(running)
        aws, vendors = started
        stage = Stage(aws, vendors)
        stack.callback(stage.close)
        yield stage
