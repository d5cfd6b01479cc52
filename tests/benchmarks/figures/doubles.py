"""How much the doubles can take, so that it is known that they are not what is measured."""

import asyncio
import json
import time
from collections.abc import Callable

from tests.benchmarks import connections, stage, town
from tests.benchmarks.connections import Connections
from tests.benchmarks.figures.context import Bench, Effort
from tests.benchmarks.results import Figure
from tests.support.cpu import process_seconds

_GROUP = "doubles"
_AT_ONCE = 16
_SECONDS = 3.0
_REQUEST = Callable[[int], bytes]


def seconds(_: Effort) -> float:
    """That `measure` takes, about."""
    return 3 * (_SECONDS + 1.0) + 3.0


async def measure(bench: Bench) -> None:
    """CPU time of a double for a request, and how many it took while the bench asked as fast as it
    can."""
    async with stage.opened(bench.other_cores) as doubles:
        resources = await doubles.provide("capacity", 10_000)

        def update(number: int) -> bytes:
            customer = {"S": town.customer(number % 10_000)}
            entry = {"M": {"sid": {"S": f"SM{number:032x}"}, "body": {"S": town.question(number)}}}
            body = {
                "TableName": resources.table,
                "Key": {
                    "recipient_tel": customer,
                    "conversation_id": {"S": town.conversation_id(number % 10_000)},
                },
                "ConditionExpression": "(attribute_exists(#n0) AND NOT #n1.#n2 >= :v0)",
                "UpdateExpression": "SET #n3 = :v1, #n1 = :v2 ADD #n4 :v3",
                "ExpressionAttributeNames": {
                    "#n0": "recipient_tel",
                    "#n1": "reply_lease",
                    "#n2": "expires_at",
                    "#n3": "reply_pending",
                    "#n4": "reply_seq",
                },
                "ExpressionAttributeValues": {
                    ":v0": {"N": "1"},
                    ":v1": {"L": [entry]},
                    ":v2": {"M": {"expires_at": {"N": "0"}}},
                    ":v3": {"N": "1"},
                },
                "ReturnValues": "ALL_NEW",
            }
            return _aws("DynamoDB_20120810.UpdateItem", body)

        def send(number: int) -> bytes:
            text = json.dumps({"body": town.question(number)})
            body = {"QueueUrl": resources.replies_url, "MessageBody": text, "DelaySeconds": 900}
            return _aws("AmazonSQS.SendMessage", body)

        def respond(number: int) -> bytes:
            body = {"model": "gpt-6-luna", "input": town.question(number)}
            return connections.encoded("POST", "/v1/responses", json.dumps(body).encode())

        for name, running, request in (
            ("UpdateItem", doubles.aws, update),
            ("SendMessage", doubles.aws, send),
            ("responses", doubles.vendors, respond),
        ):
            port = running.hello["port"]
            before = process_seconds(running.pid)
            count, seconds = await _hammer(port, request)
            each = 1e6 * (process_seconds(running.pid) - before) / count
            note = f"{count / seconds:,.0f}/s taken from one client"
            bench.results.say(f"{name}: {each:.0f} µs, {note}")
            bench.results.add([Figure(_GROUP, f"CPU of {name}", "double", each, "µs", note=note)])


async def _hammer(port: int, request: _REQUEST) -> tuple[int, float]:
    requests = [request(number) for number in range(20_000)]
    count, began = 0, time.monotonic()

    async def ask() -> None:
        nonlocal count
        while time.monotonic() - began < _SECONDS:
            status, answer = await connected.ask(requests[count % len(requests)])
            assert status == 200, answer
            count += 1

    async with Connections(port) as connected:
        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return count, time.monotonic() - began


def _aws(target: str, body: object) -> bytes:
    headers = f"X-Amz-Target: {target}\r\n"
    return connections.encoded("POST", "/", json.dumps(body).encode(), headers)
