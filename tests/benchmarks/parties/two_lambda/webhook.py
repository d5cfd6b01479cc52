"""IncomingWebhookHandler: checks the signature, finds the conversation, queues the message."""

import json
import logging
import os
from typing import Any
from urllib.parse import parse_qsl

import boto3
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError
from twilio.request_validator import RequestValidator

logger = logging.getLogger()
table = boto3.resource("dynamodb").Table(os.environ["BENCH_TABLE"])
sqs = boto3.client("sqs")
validator = RequestValidator(os.environ["TWILIO_AUTH_TOKEN"])

REPLIES_QUEUE_URL = os.environ["BENCH_QUEUE"]
HANDOFF_QUEUE_URL = os.environ["BENCH_HANDOFF_QUEUE"]
WEBHOOK_URL = os.environ["BENCH_WEBHOOK_URL"]
DELAY_SECONDS = int(os.environ["BENCH_QUIET_SECONDS"])
TWIML = {
    "statusCode": 200,
    "headers": {"content-type": "text/xml"},
    "body": "<Response/>",
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    params = dict(parse_qsl(event["body"], keep_blank_values=True))
    signature = event["headers"].get("x-twilio-signature", "")
    if not validator.validate(WEBHOOK_URL, params, signature):
        return {"statusCode": 403, "body": ""}
    customer = params["From"].removeprefix("whatsapp:")
    business = params["To"].removeprefix("whatsapp:")
    conversation = find_conversation(customer, business)
    if conversation is None:
        logger.warning("no conversation for message %s", params["MessageSid"])
        return TWIML
    payload = {
        "twilio_message": params,
        "recipient_tel": customer,
        "conversation_id": conversation["conversation_id"],
        "thread_id": conversation.get("thread_id"),
        "channel": "whatsapp",
    }
    if conversation.get("handoff_to_human"):
        sqs.send_message(QueueUrl=HANDOFF_QUEUE_URL, MessageBody=json.dumps(payload))
        return TWIML
    if remember(conversation, params):
        sqs.send_message(
            QueueUrl=REPLIES_QUEUE_URL,
            MessageBody=json.dumps(payload),
            DelaySeconds=DELAY_SECONDS,
        )
    return TWIML


def find_conversation(customer: str, business: str) -> dict[str, Any] | None:
    items = table.query(
        KeyConditionExpression=Key("recipient_tel").eq(customer),
        ProjectionExpression=(
            "recipient_tel, conversation_id, company_tel, created_at, thread_id, handoff_to_human"
        ),
    )["Items"]
    matching = [item for item in items if item.get("company_tel") == business]
    return max(matching, key=lambda item: item["created_at"], default=None)


def remember(conversation: dict[str, Any], params: dict[str, str]) -> bool:
    """Notes the message in the record, from where the whole burst is answered. False when Twilio
    has delivered it a second time."""
    try:
        table.update_item(
            Key={
                "recipient_tel": conversation["recipient_tel"],
                "conversation_id": conversation["conversation_id"],
            },
            UpdateExpression=(
                "SET pending_messages = list_append(if_not_exists(pending_messages, :none), :new), "
                "last_message_sid = :sid, conversation_status = :status"
            ),
            ConditionExpression=(
                "attribute_not_exists(last_message_sid) OR last_message_sid <> :sid"
            ),
            ExpressionAttributeValues={
                ":none": [],
                ":new": [{"message_id": params["MessageSid"], "content": params["Body"]}],
                ":sid": params["MessageSid"],
                ":status": "user_reply_received",
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False
    return True
