"""What AWS asks, in dollars: on demand, us-east-1, as published in November 2026.

https://aws.amazon.com/sqs/pricing/, https://aws.amazon.com/dynamodb/pricing/on-demand/. Free tiers
and discounts are left out, and so are OpenAI, Twilio, and the machines."""

import math
from collections.abc import Mapping

AS_OF = "2026-11"
# A request to SQS of up to 64 KiB; a batch of ten is one. A long poll is one.
SQS_REQUEST = 0.40 / 1e6
# A write of up to 1 KB of an item, and a strongly consistent read of up to 4 KB.
DYNAMODB_WRITE = 0.625 / 1e6
DYNAMODB_READ = 0.125 / 1e6

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html
WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 4096

_SQS = {
    "SendMessage",
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "GetQueueAttributes",
}
_WRITES = {"UpdateItem", "PutItem", "DeleteItem"}
_READS = {"Query", "GetItem", "BatchGetItem"}


def dollars(counts: Mapping[str, float], item_bytes: float) -> float:
    """What these requests cost, by operation, with items of this size: a write and a refused one
    are charged by the whole item, and so is a read, whatever it projects.

    Raises ValueError for an operation without a price."""
    total = 0.0
    for operation, count in counts.items():
        if operation in _SQS:
            total += count * SQS_REQUEST
        elif operation in _WRITES:
            total += count * DYNAMODB_WRITE * math.ceil(item_bytes / WRITE_UNIT_BYTES)
        elif operation in _READS:
            total += count * DYNAMODB_READ * math.ceil(item_bytes / READ_UNIT_BYTES)
        else:
            raise ValueError(f"{operation} has no price")
    return total
