"""SQS for load: standard queues in memory, with delay, visibility, receipts and long polls."""

import asyncio
import hashlib
import heapq
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Body = Mapping[str, Any]
# A standard queue's visibility timeout, seconds.
VISIBILITY_SECONDS = 30
BATCH = 10


class Failure(Exception):
    """An error answer in SQS's JSON protocol."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.body = {"__type": f"com.amazonaws.sqs#{code}", "message": message}


@dataclass(slots=True)
class Message:
    message_id: str
    body: str
    digest: str
    sent_ms: int
    attributes: dict[str, Any]
    receives: int = 0
    receipt: str = ""
    visible_at: float = 0.0


@dataclass(slots=True)
class Queue:
    """`schedule`: when which message becomes visible; entries of which the message knows better
    are skipped. `dead_letters`: where a message goes that was received `max_receives` times, 0 for
    nowhere."""

    name: str
    url: str
    attributes: dict[str, str]
    messages: dict[str, Message] = field(default_factory=dict)
    schedule: list[tuple[float, int, str]] = field(default_factory=list)
    waiting: set["asyncio.Future[None]"] = field(default_factory=set)
    dead_letters: str = ""
    max_receives: int = 0

    def put(self, message: Message, visible_at: float, number: int) -> None:
        message.visible_at = visible_at
        self.messages[message.message_id] = message
        heapq.heappush(self.schedule, (visible_at, number, message.message_id))
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
                break

    def due(self, now: float) -> Message | None:
        while self.schedule and self.schedule[0][0] <= now:
            visible_at, _, message_id = heapq.heappop(self.schedule)
            message = self.messages.get(message_id)
            if message is not None and message.visible_at == visible_at:
                return message
        return None

    def depths(self, now: float) -> dict[str, int]:
        hidden = [m for m in self.messages.values() if m.visible_at > now]
        received = sum(m.receives > 0 for m in hidden)
        return {
            "ApproximateNumberOfMessages": len(self.messages) - len(hidden),
            "ApproximateNumberOfMessagesNotVisible": received,
            "ApproximateNumberOfMessagesDelayed": len(hidden) - received,
        }

    def next_at(self) -> float:
        return self.schedule[0][0] if self.schedule else float("inf")


class Queues:
    """The operations, by name, each from a request's body to an answer's; `base_url` is where the
    queues' URLs begin."""

    def __init__(self) -> None:
        self.base_url = ""
        self.queues: dict[str, Queue] = {}
        self._numbers = itertools.count(1)
        self.operations: dict[str, Callable[[Body], Any | Awaitable[Any]]] = {
            "CreateQueue": self._create,
            "GetQueueUrl": self._get_url,
            "GetQueueAttributes": self._get_attributes,
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
            "ChangeMessageVisibility": self._change,
            "ChangeMessageVisibilityBatch": self._change_batch,
        }

    def named(self, name: str) -> Queue:
        try:
            return self.queues[name]
        except KeyError:
            raise Failure("QueueDoesNotExist", "The specified queue does not exist.") from None

    def _queue(self, body: Body) -> Queue:
        return self.named(str(body["QueueUrl"]).rpartition("/")[2])

    def _create(self, body: Body) -> Any:
        name = body["QueueName"]
        if name not in self.queues:
            url = f"{self.base_url}/000000000000/{name}"
            arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
            attributes = {"QueueArn": arn, **body.get("Attributes", {})}
            self.queues[name] = queue = Queue(name, url, attributes)
            if redrive := json.loads(attributes.get("RedrivePolicy", "{}")):
                queue.dead_letters = redrive["deadLetterTargetArn"].rpartition(":")[2]
                queue.max_receives = int(redrive["maxReceiveCount"])
        return {"QueueUrl": self.queues[name].url}

    def _get_url(self, body: Body) -> Any:
        return {"QueueUrl": self.named(body["QueueName"]).url}

    def _get_attributes(self, body: Body) -> Any:
        queue = self._queue(body)
        counts = {name: str(count) for name, count in queue.depths(_now()).items()}
        return {"Attributes": queue.attributes | counts}

    def _put(self, queue: Queue, entry: Body) -> dict[str, str]:
        number = next(self._numbers)
        text = entry["MessageBody"]
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        attributes = entry.get("MessageAttributes", {})
        message = Message(f"m-{number}", text, digest, time.time_ns() // 1_000_000, attributes)
        queue.put(message, _now() + entry.get("DelaySeconds", 0), number)
        return {"MessageId": message.message_id, "MD5OfMessageBody": digest}

    def _send(self, body: Body) -> Any:
        return self._put(self._queue(body), body)

    def _send_batch(self, body: Body) -> Any:
        queue = self._queue(body)
        sent = [{"Id": e["Id"], **self._put(queue, e)} for e in body["Entries"]]
        return {"Successful": sent, "Failed": []}

    async def _receive(self, body: Body) -> Any:
        queue, loop = self._queue(body), asyncio.get_running_loop()
        deadline = loop.time() + body.get("WaitTimeSeconds", 0)
        wanted = body.get("MaxNumberOfMessages", 1)
        visibility = body.get("VisibilityTimeout", VISIBILITY_SECONDS)
        names = set(body.get("MessageAttributeNames", ()))
        while not (found := self._take(queue, wanted, visibility, names)):
            if loop.time() >= deadline:
                return {}
            waiter = loop.create_future()
            queue.waiting.add(waiter)
            alarm = loop.call_at(min(deadline, queue.next_at()), _ring, waiter)
            try:
                await waiter
            finally:
                alarm.cancel()
                queue.waiting.discard(waiter)
        return {"Messages": found}

    def _take(self, queue: Queue, wanted: int, visibility: int, names: set[str]) -> list[Any]:
        found: list[Any] = []
        now = _now()
        while len(found) < wanted and (message := queue.due(now)) is not None:
            if queue.max_receives and message.receives >= queue.max_receives:
                del queue.messages[message.message_id]
                self.named(queue.dead_letters).put(message, now, next(self._numbers))
                continue
            message.receives += 1
            message.receipt = f"{message.message_id}/{message.receives}"
            queue.put(message, now + visibility, next(self._numbers))
            found.append(
                {
                    "MessageId": message.message_id,
                    "ReceiptHandle": message.receipt,
                    "Body": message.body,
                    "MD5OfBody": message.digest,
                    "Attributes": {
                        "ApproximateReceiveCount": str(message.receives),
                        "SentTimestamp": str(message.sent_ms),
                    },
                }
            )
            kept = message.attributes
            if "All" not in names:
                kept = {name: value for name, value in kept.items() if name in names}
            if kept:
                found[-1]["MessageAttributes"] = kept
        return found

    def _held(self, queue: Queue, entry: Body) -> Message | None:
        """The message that a receipt stands for; an old receipt stands for none."""
        receipt = str(entry["ReceiptHandle"])
        message = queue.messages.get(receipt.partition("/")[0])
        return message if message is not None and message.receipt == receipt else None

    def _drop(self, queue: Queue, entry: Body) -> None:
        if (message := self._held(queue, entry)) is not None:
            del queue.messages[message.message_id]

    def _delete(self, body: Body) -> Any:
        self._drop(self._queue(body), body)
        return {}

    def _delete_batch(self, body: Body) -> Any:
        queue = self._queue(body)
        for entry in body["Entries"]:
            self._drop(queue, entry)
        return {"Successful": [{"Id": e["Id"]} for e in body["Entries"]], "Failed": []}

    def _hide(self, queue: Queue, entry: Body) -> None:
        if (message := self._held(queue, entry)) is not None:
            queue.put(message, _now() + entry["VisibilityTimeout"], next(self._numbers))

    def _change(self, body: Body) -> Any:
        self._hide(self._queue(body), body)
        return {}

    def _change_batch(self, body: Body) -> Any:
        queue = self._queue(body)
        for entry in body["Entries"]:
            self._hide(queue, entry)
        return {"Successful": [{"Id": e["Id"]} for e in body["Entries"]], "Failed": []}


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ring(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
