"""The floor, as one process: `python -m tests.benchmarks.parties.floor`.

A bare aiohttp handler that verifies nothing, and a bare loop, which make the requests that replyd
makes: the same to AWS with aiobotocore as it comes, the same to OpenAI and Twilio with aiohttp. No
lease is kept, nothing is retried, and no crash is survived: what replyd costs above this is what it
adds.
"""

import asyncio
import base64
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import web

from tests.benchmarks.doubles.wire import announce

_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
_TABLE, _QUEUE = os.environ["BENCH_TABLE"], os.environ["BENCH_QUEUE"]
_OPENAI, _TWILIO = os.environ["OPENAI_BASE_URL"], os.environ["BENCH_TWILIO_URL"]
_ACCOUNT, _TOKEN = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
_KEY = os.environ["OPENAI_API_KEY"]
_QUIET_SECONDS = int(os.environ["BENCH_QUIET_SECONDS"])
_CONCURRENCY = 100
_PROJECTION = (
    "recipient_tel, conversation_id, company_tel, created_at, thread_id, handoff_to_human, "
    "reply_opted_out, reply_seq"
)
_STAGE = (
    "SET reply_pending = list_append(if_not_exists(reply_pending, :none), :entry), "
    "reply_last_at = :now, conversation_status = :received, updated_at = :iso ADD reply_seq :one"
)
_CLAIM = "SET reply_lease = :lease ADD reply_attempts :one"
_INTEND = "SET reply_outbox = :outbox, reply_lease = :lease"
_COMMIT = (
    "SET messages = list_append(messages, :entries), conversation_status = :sent, "
    "thread_id = :thread, updated_at = :iso, reply_last_turn = :turn, reply_pending = :none "
    "REMOVE reply_lease, reply_outbox, reply_attempts"
)


@dataclass
class Burst:
    """A customer who writes. `known`: the lookup was made for what is being written; `answered`: up
    to which message."""

    key: dict[str, Any]
    thread: str
    known: bool = True
    answered: int = 0
    seq: int = 0
    receipts: list[str] = field(default_factory=list)


class Floor:
    def __init__(self, dynamodb: Any, sqs: Any, polls: Any, session: aiohttp.ClientSession) -> None:
        self._dynamodb = dynamodb
        self._sqs = sqs
        self._polls = polls
        self._session = session
        self._bursts: dict[str, Burst] = {}
        self._turns = asyncio.Semaphore(_CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()

    async def webhook(self, request: web.Request) -> web.Response:
        params = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        customer = params["From"].removeprefix("whatsapp:")
        burst = self._bursts.get(customer)
        if burst is None or not burst.known:
            burst = await self._look_up(customer)
        now = time.time_ns() // 1_000_000
        entry = {"sid": params["MessageSid"], "received_at": now, "message": params}
        answer = await self._update(
            burst.key,
            _STAGE,
            returns="UPDATED_NEW",
            condition="attribute_exists(recipient_tel)",
            **{
                ":none": {"L": []},
                ":entry": {"L": [_serialized(entry)]},
                ":now": {"N": str(now)},
                ":received": {"S": "user_reply_received"},
                ":iso": {"S": _iso()},
                ":one": {"N": "1"},
            },
        )
        burst.seq = int(answer["Attributes"]["reply_seq"]["N"])
        body = {"version": 1, "seq": burst.seq, "key": customer, "message": params}
        await self._sqs.send_message(
            QueueUrl=_QUEUE, MessageBody=json.dumps(body), DelaySeconds=_QUIET_SECONDS
        )
        return web.Response(text=_TWIML, content_type="text/xml")

    async def _look_up(self, customer: str) -> Burst:
        answer = await self._dynamodb.query(
            TableName=_TABLE,
            KeyConditionExpression="recipient_tel = :c",
            ExpressionAttributeValues={":c": {"S": customer}},
            ProjectionExpression=_PROJECTION,
            ConsistentRead=True,
        )
        item = answer["Items"][0]
        key = {name: item[name] for name in ("recipient_tel", "conversation_id")}
        burst = self._bursts.setdefault(customer, Burst(key, ""))
        burst.thread, burst.known = item["thread_id"]["S"], True
        return burst

    async def _update(
        self, key: dict[str, Any], expression: str, *, returns: str, condition: str, **values: Any
    ) -> Any:
        return await self._dynamodb.update_item(
            TableName=_TABLE,
            Key=key,
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValues=returns,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    async def poll(self) -> None:
        while True:
            answer = await self._polls.receive_message(
                QueueUrl=_QUEUE,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=5,
                VisibilityTimeout=60,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
            for message in answer.get("Messages", ()):
                body = json.loads(message["Body"])
                burst = self._bursts[body["key"]]
                burst.receipts.append(message["ReceiptHandle"])
                # Of a burst, the last one's wake-up; one that others overtook is too late.
                if body["seq"] >= burst.seq or body["seq"] <= burst.answered:
                    await self._turns.acquire()
                    task = asyncio.create_task(self._turn(burst, body["message"]))
                    self._tasks.add(task)
                    task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._turns.release()
        task.result()

    async def _turn(self, burst: Burst, message: dict[str, str]) -> None:
        burst.known, burst.answered = False, burst.seq
        receipts, burst.receipts = burst.receipts, []
        lease = _serialized({"owner": "floor", "token": message["MessageSid"], "expires_at": 1})
        claimed = await self._update(
            burst.key,
            _CLAIM,
            returns="ALL_NEW",
            condition="attribute_exists(recipient_tel)",
            **{":lease": lease, ":one": {"N": "1"}},
        )
        pending = [_deserialized(p) for p in claimed["Attributes"]["reply_pending"]["L"]]
        if not pending:
            await self._delete(receipts)
            return
        text = "\n".join(p["message"]["Body"] for p in pending)
        answer = await self._ask(burst, text)
        reply = answer["output"][0]["content"][0]["text"]
        entries = [_entry("user", p["message"]["Body"], p["sid"]) for p in pending]
        outbox = {"turn_id": message["MessageSid"], "kind": "reply", "entries": entries}
        await self._update(
            burst.key,
            _INTEND,
            returns="NONE",
            condition="attribute_exists(reply_lease)",
            **{":outbox": _serialized(outbox), ":lease": lease},
        )
        sid = await self._send(message, reply)
        entries.append(_entry("assistant", reply, sid))
        await self._update(
            burst.key,
            _COMMIT,
            returns="NONE",
            condition="attribute_exists(reply_lease)",
            **{
                ":entries": _serialized(entries),
                ":none": {"L": []},
                ":sent": {"S": "ai_response_sent"},
                ":thread": {"S": answer["id"]},
                ":iso": {"S": _iso()},
                ":turn": {"S": message["MessageSid"]},
            },
        )
        await self._delete(receipts)

    async def _delete(self, receipts: list[str]) -> None:
        handles = [{"Id": str(n), "ReceiptHandle": r} for n, r in enumerate(receipts)]
        await self._sqs.delete_message_batch(QueueUrl=_QUEUE, Entries=handles)

    async def _ask(self, burst: Burst, text: str) -> Any:
        body = {
            "model": "gpt-6-luna",
            "instructions": "You answer customers who write to our company on WhatsApp.",
            "input": [{"type": "message", "role": "user", "content": text}],
            "previous_response_id": burst.thread,
            "store": True,
            "truncation": "auto",
        }
        headers = {"Authorization": f"Bearer {_KEY}"}
        url = f"{_OPENAI}/responses"
        async with self._session.post(url, json=body, headers=headers) as answer:
            return await answer.json()

    async def _send(self, message: dict[str, str], text: str) -> str:
        form = {"From": message["To"], "To": message["From"], "Body": text}
        basic = base64.b64encode(f"{_ACCOUNT}:{_TOKEN}".encode()).decode()
        url = f"{_TWILIO}/2010-04-01/Accounts/{_ACCOUNT}/Messages.json"
        headers = {"Authorization": f"Basic {basic}"}
        async with self._session.post(url, data=form, headers=headers) as answer:
            return str((await answer.json())["sid"])


def _entry(role: str, content: str, message_id: str) -> dict[str, Any]:
    return {"message_id": message_id, "role": role, "content": content, "timestamp": _iso()}


def _iso() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def _serialized(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"M": {name: _serialized(v) for name, v in value.items()}}
    if isinstance(value, list):
        return {"L": [_serialized(v) for v in value]}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


def _deserialized(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "M":
        return {name: _deserialized(v) for name, v in content.items()}
    return [_deserialized(v) for v in content] if kind == "L" else content


async def main() -> None:
    config = AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=200)
    session = get_session()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(session.create_client(service, config=config))
            for service in ("dynamodb", "sqs", "sqs")
        ]
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        floor = Floor(clients[0], clients[1], clients[2], http)
        app = web.Application()
        app.router.add_post("/webhooks/twilio/whatsapp", floor.webhook)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        announce(port=runner.addresses[0][1])
        polling = asyncio.create_task(floor.poll())
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait((polling, waiting), return_when=asyncio.FIRST_COMPLETED)
        polling.cancel()


if __name__ == "__main__":
    asyncio.run(main())
