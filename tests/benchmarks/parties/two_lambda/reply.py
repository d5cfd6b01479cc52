"""ReplyProcessorLambda: when the delay of a burst's last message is over, asks the model and sends
the answer. It is triggered once for each message; the messages before the last find a newer one in
the record and have nothing to do."""

import json
import logging
import os
import time
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError
from twilio.rest import Client

from tests.benchmarks.parties.two_lambda import model

logger = logging.getLogger()
table = boto3.resource("dynamodb").Table(os.environ["BENCH_TABLE"])
sqs = boto3.client("sqs")
twilio = Client(os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"])
# The SDK has no setting for another host.
twilio.api.base_url = os.environ["BENCH_TWILIO_URL"]

HANDOFF_QUEUE_URL = os.environ["BENCH_HANDOFF_QUEUE"]
# Longer than the function's own timeout: whoever took the burst has ended by then.
LOCK_SECONDS = 120


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    failed = []
    for record in event["Records"]:
        try:
            process(json.loads(record["body"]))
        except Exception:
            logger.exception("message %s failed", record["messageId"])
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def process(payload: dict[str, Any]) -> None:
    message = payload["twilio_message"]
    key = {
        "recipient_tel": payload["recipient_tel"],
        "conversation_id": payload["conversation_id"],
    }
    conversation = take_burst(key, message["MessageSid"])
    if conversation is None:
        return
    if conversation.get("handoff_to_human"):
        sqs.send_message(QueueUrl=HANDOFF_QUEUE_URL, MessageBody=json.dumps(payload))
        return
    pending = conversation["pending_messages"]
    texts = [m["content"] for m in pending]
    reply, thread = model.ask(conversation["thread_id"], texts)
    sent = twilio.messages.create(from_=message["To"], to=message["From"], body=reply)
    record_turn(key, pending, reply, thread, str(sent.sid))


def take_burst(key: dict[str, str], sid: str) -> dict[str, Any] | None:
    """The record, locked; None when there is a newer message or somebody else has the burst."""
    now = int(time.time())
    try:
        answer = table.update_item(
            Key=key,
            UpdateExpression="SET processing_until = :until",
            ConditionExpression=(
                "last_message_sid = :sid AND attribute_exists(pending_messages[0]) AND "
                "(attribute_not_exists(processing_until) OR processing_until < :now)"
            ),
            ExpressionAttributeValues={":sid": sid, ":now": now, ":until": now + LOCK_SECONDS},
            ReturnValues="ALL_NEW",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return None
    attributes: dict[str, Any] = answer["Attributes"]
    return attributes


def record_turn(
    key: dict[str, str], pending: list[dict[str, str]], reply: str, thread: str, sid: str
) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    entries = [{**m, "role": "user", "timestamp": now} for m in pending]
    entries.append({"message_id": sid, "role": "assistant", "content": reply, "timestamp": now})
    answered = ", ".join(f"pending_messages[{n}]" for n in range(len(pending)))
    table.update_item(
        Key=key,
        UpdateExpression=(
            "SET messages = list_append(messages, :entries), thread_id = :thread, "
            "conversation_status = :status, updated_at = :now "
            f"REMOVE processing_until, {answered}"
        ),
        ExpressionAttributeValues={
            ":entries": entries,
            ":thread": thread,
            ":status": "ai_response_sent",
            ":now": now,
        },
    )
