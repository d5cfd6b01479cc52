"""SQS and DynamoDB for load, as one process: `python -m tests.benchmarks.doubles.aws`.

Signatures are not checked, nothing is written to disk. `/_bench/…` is the bench's own.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable
from functools import partial
from typing import Any

from tests.benchmarks import town
from tests.benchmarks.doubles import queues, tables
from tests.benchmarks.doubles.queues import Queues
from tests.benchmarks.doubles.tables import Tables
from tests.benchmarks.doubles.wire import Answer, Request, serve

_DYNAMODB = "application/x-amz-json-1.0"


class AwsDouble:
    """`counts`: requests by operation and table or queue."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.queues = Queues()
        self.counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if not operation:
            return self._control(request)
        body = request.json()
        if service == "AmazonSQS":
            self.queues.base_url = f"http://{request.headers['host']}"
            self._count(operation, str(body.get("QueueUrl", "")).rpartition("/")[2])
            return self._sqs(operation, body)
        self._count(operation, body.get("TableName", ""))
        try:
            found = self.tables.answer(operation, body)
        except tables.Failure as failure:
            return Answer(failure.body, 400, _DYNAMODB)
        return Answer(found, 200, _DYNAMODB)

    def _count(self, operation: str, resource: str) -> None:
        self.counts[operation, resource] += 1

    def _sqs(self, operation: str, body: queues.Body) -> Answer | Awaitable[Answer]:
        try:
            found = self.queues.operations[operation](body)
        except queues.Failure as failure:
            return Answer(failure.body, 400, _DYNAMODB)
        if isinstance(found, Awaitable):
            return self._slow(found)
        return Answer(found, 200, _DYNAMODB)

    async def _slow(self, receive: Awaitable[Any]) -> Answer:
        return Answer(await receive, 200, _DYNAMODB)

    def _control(self, request: Request) -> Answer:
        match request.path:
            case "/_bench/counts":
                return Answer([[*key, count] for key, count in self.counts.items()])
            case "/_bench/units":
                found = self.tables.tables.values()
                return Answer({t.name: [t.write_units, t.read_units] for t in found})
            case "/_bench/depth":
                return Answer({name: len(q.messages) for name, q in self.queues.queues.items()})
            case "/_bench/seed":
                wanted = json.loads(request.body)
                self.tables.seed(wanted["table"], partial(town.conversation, wanted["count"]))
                return Answer({})
        return Answer({}, 404)


if __name__ == "__main__":
    asyncio.run(serve(AwsDouble()))
