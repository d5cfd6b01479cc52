"""Who writes to whom: names, credentials and records that all parties and doubles agree on."""

from datetime import UTC, datetime
from typing import Any

ACCOUNT = "AC" + "0" * 31 + "1"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
API_KEY = "sk-bench"
PUBLIC_URL = "https://hooks.example.com"
INBOUND_PATH = "/webhooks/twilio/whatsapp"
CREATED = datetime(2026, 11, 22, 10, tzinfo=UTC)
REGION = "us-east-1"
_CUSTOMER = "+4479"
# Twilio sends 80 messages a second from one number.
BUSINESSES = tuple(f"+4477009001{n:02d}" for n in range(20))
_QUESTION = "Good morning! Are you open on Sunday, and do you still have the dark rye bread?"
# A conversation is under way: an outbound template, and a few messages since.
_HISTORY = [
    {
        "M": {
            "message_id": {"S": f"SM{number:032x}"},
            "role": {"S": role},
            "content": {"S": _QUESTION},
            "timestamp": {"S": "2026-11-22T09:00:00.000Z"},
        }
    }
    for number, role in enumerate(["assistant", *["user", "assistant"] * 3])
]
_RECORD: dict[str, Any] = {
    "thread_id": {"S": "resp_" + "0" * 47 + "1"},
    "handoff_to_human": {"BOOL": False},
    "conversation_status": {"S": "ai_response_sent"},
    "messages": {"L": _HISTORY},
    "created_at": {"S": "2026-11-22T09:00:00.000Z"},
    "updated_at": {"S": "2026-11-22T09:00:00.000Z"},
}


def customer(number: int) -> str:
    """The address of customer number so and so."""
    return f"{_CUSTOMER}{number:08d}"


def conversation_id(number: int) -> str:
    """Of customer number so and so; all are of one length, as DynamoDB charges by bytes."""
    return f"c-{number:06d}"


def conversation(count: int, address: str) -> tuple[str, dict[str, Any]] | None:
    """The id and the further attributes of the conversation with that address, as DynamoDB has them
    on the wire; None when it is none of the first `count` customers'."""
    digits = address.removeprefix(_CUSTOMER)
    if digits == address or not digits.isdecimal() or (number := int(digits)) >= count:
        return None
    return conversation_id(number), _RECORDS[number % len(_RECORDS)]


def question(number: int) -> str:
    """What customer number so and so asks; all are of one length."""
    return f"{_QUESTION} ({number:06d})"


def business(number: int) -> str:
    """Whom customer number so and so writes to."""
    return BUSINESSES[number % len(BUSINESSES)]


_RECORDS = [_RECORD | {"company_tel": {"S": tel}} for tel in BUSINESSES]
