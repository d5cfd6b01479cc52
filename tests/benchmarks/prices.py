"""What AWS asks, in dollars: on demand, us-east-1, as published in November 2026.

https://aws.amazon.com/sqs/pricing/, https://aws.amazon.com/dynamodb/pricing/on-demand/. Free tiers
and discounts are left out, and so are OpenAI, Twilio, and the machines."""

from collections import Counter
from dataclasses import dataclass

AS_OF = "2026-11"
# A request to SQS of up to 64 KiB; a batch of ten is one. A long poll is one.
SQS_REQUEST = 0.40 / 1e6
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html: one
# for each KB of the item written, and for each 4 KB read.
DYNAMODB_WRITE_UNIT = 0.625 / 1e6
DYNAMODB_READ_UNIT = 0.125 / 1e6

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


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: `counts` has requests by operation, DynamoDB's too, which are charged by its
    units."""

    counts: Counter[str]
    write_units: float
    read_units: float

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage(
            self.counts - before.counts,
            self.write_units - before.write_units,
            self.read_units - before.read_units,
        )

    @property
    def requests(self) -> int:
        """Receives left out."""
        return self.counts.total() - self.counts["ReceiveMessage"]

    @property
    def dollars(self) -> float:
        sqs = sum(count for operation, count in self.counts.items() if operation in _SQS)
        return (
            sqs * SQS_REQUEST
            + self.write_units * DYNAMODB_WRITE_UNIT
            + self.read_units * DYNAMODB_READ_UNIT
        )
