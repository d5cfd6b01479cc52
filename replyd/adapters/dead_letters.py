"""A queue's dead-letter queue on SQS, for operators: look, move back, empty."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from replyd.adapters import aws
from replyd.errors import DependencyDown, Permanent

# SQS: a receive brings at most ten.
BATCH = 10
# How long what we look at is away from others, should we end before giving it back.
LOOK_SECONDS = 60

_NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_PURGING = {"AWS.SimpleQueueService.PurgeQueueInProgress", "PurgeQueueInProgress"}


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """A dead-letter queue, with SQS's approximate counts. `source`: the URL it belongs to."""

    source: str
    url: str
    name: str
    visible: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """`sent_at`: when it came to its first queue, epoch ms; `receives`: in all its queues."""

    message_id: str
    receipt: str
    body: str
    sent_at: int = 0
    receives: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


class DeadLetters:
    """Every method raises Temporary, Busy, DependencyDown or Permanent."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def of(self, source: str) -> DeadQueue | None:
        """The one that the redrive policy of the queue `source` names, or None."""
        policy = json.loads((await self._attributes(source)).get("RedrivePolicy") or "{}")
        arn = str(policy.get("deadLetterTargetArn", ""))
        if not arn:
            return None
        # arn:aws:sqs:<region>:<account>:<name>
        *_, account, name = arn.split(":")
        where = {"QueueName": name, "QueueOwnerAWSAccountId": account}
        try:
            answer = await aws.call("sqs", lambda: self._client.get_queue_url(**where))
        except DependencyDown as error:
            if error.code not in _NO_QUEUE:
                raise
            reason = f"the dead-letter queue {name} does not exist: make it, or mend the policy"
            raise DependencyDown("sqs", reason, code=error.code) from error
        url = str(answer["QueueUrl"])
        counts = await self._attributes(url)
        return DeadQueue(
            source,
            url,
            name,
            visible=int(counts.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(counts.get("ApproximateNumberOfMessagesNotVisible", 0)),
        )

    async def _attributes(self, url: str) -> dict[str, str]:
        answer = await aws.call(
            "sqs",
            lambda: self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]),
        )
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes

    async def receive(self, queue: DeadQueue) -> Sequence[DeadMessage]:
        """Up to ten, away from others for LOOK_SECONDS; none when the queue seems empty."""
        answer = await aws.call(
            "sqs",
            lambda: self._client.receive_message(
                QueueUrl=queue.url,
                MaxNumberOfMessages=BATCH,
                # A long poll asks all of SQS's servers, a short one may miss what is there.
                WaitTimeSeconds=1,
                VisibilityTimeout=LOOK_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            ),
        )
        return [_message(raw) for raw in answer.get("Messages", [])]

    async def give_back(self, queue: DeadQueue, messages: Sequence[DeadMessage]) -> None:
        """Make them visible again. What fails becomes so by itself."""
        for start in range(0, len(messages), BATCH):
            entries = [
                {"Id": str(i), "ReceiptHandle": m.receipt, "VisibilityTimeout": 0}
                for i, m in enumerate(messages[start : start + BATCH])
            ]
            request = {"QueueUrl": queue.url, "Entries": entries}
            await aws.call("sqs", partial(self._client.change_message_visibility_batch, **request))

    async def move_back(self, queue: DeadQueue, message: DeadMessage) -> None:
        """Send, then delete: a crash in between leaves it in both queues, never in none."""
        send = {"QueueUrl": queue.source, "MessageBody": message.body}
        if message.attributes:
            send["MessageAttributes"] = message.attributes
        await aws.call("sqs", lambda: self._client.send_message(**send))
        where = {"QueueUrl": queue.url, "ReceiptHandle": message.receipt}
        await aws.call("sqs", lambda: self._client.delete_message(**where))

    async def purge(self, queue: DeadQueue) -> None:
        """SQS takes up to 60 s for it."""
        try:
            await aws.call("sqs", lambda: self._client.purge_queue(QueueUrl=queue.url))
        except Permanent as error:
            if error.code not in _PURGING:
                raise
            reason = "the queue was purged within the last 60 s: wait that long"
            raise Permanent("sqs", reason, code=error.code) from error


def _message(raw: dict[str, Any]) -> DeadMessage:
    system = raw.get("Attributes", {})
    kept = {
        name: {k: v for k, v in value.items() if k in ("DataType", "StringValue", "BinaryValue")}
        for name, value in raw.get("MessageAttributes", {}).items()
    }
    return DeadMessage(
        raw["MessageId"],
        raw["ReceiptHandle"],
        raw["Body"],
        sent_at=int(system.get("SentTimestamp", 0)),
        receives=int(system.get("ApproximateReceiveCount", 0)),
        attributes=kept,
    )
