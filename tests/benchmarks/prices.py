"""What AWS asks, in dollars: on demand, us-east-1, November 2026, second-hand.

https://aws.amazon.com/sqs/pricing/, https://aws.amazon.com/dynamodb/pricing/on-demand/,
https://aws.amazon.com/lambda/pricing/, https://aws.amazon.com/api-gateway/pricing/,
https://aws.amazon.com/ec2/pricing/on-demand/. Free tiers and discounts are left out, and so are
OpenAI and Twilio."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

AS_OF = "2026-11"
# A request to SQS of up to 64 KiB; a batch of ten is one. A long poll is one.
SQS_REQUEST = 0.40 / 1e6
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html: one
# for each KB of the item written, and for each 4 KB read.
DYNAMODB_WRITE_UNIT = 0.625 / 1e6
DYNAMODB_READ_UNIT = 0.125 / 1e6
# Lambda on x86, by the time from a function's call to its end in whole milliseconds.
LAMBDA_GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / 1e6
API_GATEWAY_REQUEST = 1.00 / 1e6
# c6i.large: two vCPUs.
EC2_HOUR, EC2_CORES = 0.085, 2

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
# These go on by the clock, whether messages come or not: receives, and looks at queues' depths.
_BY_THE_CLOCK = ("ReceiveMessage", "GetQueueAttributes")


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
        """For messages: what goes on without them is left out."""
        return self.counts.total() - sum(self.counts[name] for name in _BY_THE_CLOCK)

    @property
    def dollars(self) -> float:
        sqs = sum(count for operation, count in self.counts.items() if operation in _SQS)
        return (
            sqs * SQS_REQUEST
            + self.write_units * DYNAMODB_WRITE_UNIT
            + self.read_units * DYNAMODB_READ_UNIT
        )


def lambda_dollars(seconds: Iterable[float], memory_mb: int) -> float:
    """Of calls of a function that took so long."""
    return sum(
        LAMBDA_REQUEST + math.ceil(1000 * s) / 1000 * memory_mb / 1024 * LAMBDA_GB_SECOND
        for s in seconds
    )
