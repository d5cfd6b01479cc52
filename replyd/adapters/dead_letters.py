"""A queue's dead-letter queue on SQS, for operators: look, move back, empty."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from replyd.adapters import aws
from replyd.errors import DependencyDown, Permanent
from replyd.ports import DeadMessage, DeadQueue

# SQS: a receive brings at most ten.
BATCH = 10
# How long what we look at is away from others, should we end before giving it back.
LOOK_SECONDS = 60

_NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_PURGING = {"AWS.SimpleQueueService.PurgeQueueInProgress", "PurgeQueueInProgress"}


class DeadLetters:
    """Implements `ports.DeadLetterQueues`; `client` is an aiobotocore SQS client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def of(self, source: str) -> DeadQueue | None:
        """The one that the redrive policy of the queue names."""
        arn = dead_letter_arn(await self._attributes(source))
        if not arn:
            return None
        url = await self.url_of(arn)
        counts = await self._attributes(url)
        return DeadQueue(
            source,
            url,
            _name(arn),
            visible=int(counts.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(counts.get("ApproximateNumberOfMessagesNotVisible", 0)),
        )

    async def url_of(self, arn: str) -> str:
        """Of the queue with this ARN; DependencyDown, which names it, where it does not exist."""
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
        return str(answer["QueueUrl"])

    async def _attributes(self, url: str) -> dict[str, str]:
        answer = await aws.call(
            "sqs",
            lambda: self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]),
        )
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes

    async def receive(self, queue: DeadQueue) -> Sequence[DeadMessage]:
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
        """What fails comes back by itself, after LOOK_SECONDS."""
        for start in range(0, len(messages), BATCH):
            entries = [
                {"Id": str(i), "ReceiptHandle": m.receipt, "VisibilityTimeout": 0}
                for i, m in enumerate(messages[start : start + BATCH])
            ]
            request = {"QueueUrl": queue.url, "Entries": entries}
            await aws.call("sqs", partial(self._client.change_message_visibility_batch, **request))

    async def move_back(self, queue: DeadQueue, message: DeadMessage) -> None:
        send: dict[str, Any] = {"QueueUrl": queue.source, "MessageBody": message.body}
        if message.attributes:
            send["MessageAttributes"] = dict(message.attributes)
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


def dead_letter_arn(attributes: Mapping[str, str]) -> str:
    """Of the dead-letter queue that a queue's redrive policy names; empty without one."""
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return str(policy.get("deadLetterTargetArn", ""))


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]


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
