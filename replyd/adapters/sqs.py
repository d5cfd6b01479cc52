"""The two queues on SQS."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from replyd.adapters import aws
from replyd.adapters.grouping import Grouping
from replyd.errors import Temporary
from replyd.ports import NOT_TRACED, Received, TraceContext

# A batch holds at most 10 entries and 1 MiB in all; a body is at most 1 MiB.
BATCH = 10
MAX_BATCH_BYTES = 1024 * 1024
LONGEST_WAIT_SECONDS = 20
LONGEST_DELAY_SECONDS = 900
LONGEST_VISIBILITY_SECONDS = 43_200
# What carries a trace: attributes of a message, which count to its size like its body.
_TRACE = ("traceparent", "tracestate")
_TEXT = "String"


@dataclass(frozen=True, slots=True)
class _Wakeup:
    body: str
    delay_seconds: int
    trace: TraceContext

    def size(self) -> int:
        # What is no text is SQS's to refuse.
        return len(self.body.encode(errors="surrogatepass")) + _size(self.trace)

    def parameters(self) -> dict[str, Any]:
        return {
            "DelaySeconds": self.delay_seconds,
            "MessageBody": self.body,
            **_beside(self.trace),
        }


class SqsWakeups:
    """Implements `ports.WakeupQueue`. Sends, and deletes, of several callers go in one request
    while others are under way. `polls` is a client of its own, so that long polls never hold the
    connections that sends need."""

    def __init__(
        self, client: Any, polls: Any, url: str, *, wait_seconds: int, visibility_seconds: int
    ) -> None:
        if not 0 <= wait_seconds <= LONGEST_WAIT_SECONDS:
            raise ValueError(f"SQS waits 0 to {LONGEST_WAIT_SECONDS} s, not {wait_seconds}")
        if not 0 < visibility_seconds <= LONGEST_VISIBILITY_SECONDS:
            raise ValueError(f"SQS hides for up to {LONGEST_VISIBILITY_SECONDS} s")
        self._client = client
        self._polls = polls
        self._url = url
        self._wait = wait_seconds
        self._visibility = visibility_seconds
        self._sends = Grouping(
            self._send, most=BATCH, most_bytes=MAX_BATCH_BYTES, size_of=_Wakeup.size
        )
        # Receipts have at most 1,024 characters.
        self._deletes = Grouping(self._delete, most=BATCH, most_bytes=MAX_BATCH_BYTES, size_of=len)

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
            raise ValueError(f"SQS delays 0 to {LONGEST_DELAY_SECONDS} s, not {delay_seconds}")
        await self._sends.do(_Wakeup(body, delay_seconds, trace))

    async def _send(self, wakeups: Sequence[_Wakeup]) -> Collection[int]:
        """Also repeats what may have been sent: a wake-up only says "look at this conversation",
        and the second one finds everything settled, see docs/turn-protocol.md."""
        if len(wakeups) == 1:
            alone = wakeups[0].parameters()
            await aws.call("sqs", lambda: self._client.send_message(QueueUrl=self._url, **alone))
            return ()
        entries = [{"Id": str(i), **each.parameters()} for i, each in enumerate(wakeups)]
        answer = await aws.call(
            "sqs",
            lambda: self._client.send_message_batch(QueueUrl=self._url, Entries=entries),
        )
        # A batch call answers 200 though entries failed. Alone, each of them has the retries and
        # the errors of a single one, whoever was to blame.
        return [int(failed["Id"]) for failed in answer.get("Failed", ())]

    async def receive(self) -> Sequence[Received]:
        answer = await aws.call(
            "sqs",
            lambda: self._polls.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=self._wait,
                VisibilityTimeout=self._visibility,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=list(_TRACE),
            ),
        )
        return [_received(m) for m in answer.get("Messages", [])]

    async def probe(self) -> None:
        """A cheap request that raises when the queue cannot be used."""
        await aws.call(
            "sqs",
            lambda: self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn"]
            ),
        )

    async def delete(self, messages: Sequence[Received]) -> None:
        await self._deletes.do(*(message.receipt for message in messages))

    async def _delete(self, receipts: Sequence[str]) -> Collection[int]:
        entries = [{"Id": str(i), "ReceiptHandle": each} for i, each in enumerate(receipts)]
        # What stays behind in `Failed` comes again and is recognised then.
        await aws.call(
            "sqs",
            lambda: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries),
        )
        return ()

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        entries = [
            {"Id": str(i), "ReceiptHandle": m.receipt, "VisibilityTimeout": seconds}
            for i, m in enumerate(messages[:BATCH])
        ]
        await aws.call(
            "sqs",
            lambda: self._client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=entries
            ),
        )


class SqsHandoffs:
    """Implements `ports.HandoffQueue`."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    async def send(self, bodies: Sequence[str], trace: TraceContext = NOT_TRACED) -> None:
        for batch in _batches(bodies, _size(trace)):
            await aws.call("sqs", partial(self._send, batch, trace))

    async def _send(self, bodies: Sequence[str], trace: TraceContext) -> None:
        room = MAX_BATCH_BYTES - _size(trace)
        answer = await self._client.send_message_batch(
            QueueUrl=self._url,
            Entries=[
                # A body that leaves no room for a trace goes without.
                {"Id": str(i), "MessageBody": body}
                | _beside(trace if len(body.encode()) <= room else NOT_TRACED)
                for i, body in enumerate(bodies)
            ],
        )
        # A batch call answers 200 though entries failed. Sending all again repeats some, which
        # people's tools drop by SID; it loses none.
        if failed := answer.get("Failed"):
            code = str(failed[0].get("Code", ""))
            raise Temporary(
                "sqs", f"did not take {len(failed)} of {len(bodies)} messages", code=code
            )


def _received(raw: dict[str, Any]) -> Received:
    system = raw.get("Attributes", {})
    return Received(
        raw["MessageId"],
        raw["ReceiptHandle"],
        raw["Body"],
        receives=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=int(system.get("SentTimestamp", 0)),
        trace=_trace_of(raw.get("MessageAttributes", {})),
    )


def _beside(trace: TraceContext) -> dict[str, Any]:
    """What carries the trace in a request that sends a message."""
    attributes = {
        name: {"DataType": _TEXT, "StringValue": value} for name, value in _values(trace).items()
    }
    return {"MessageAttributes": attributes} if attributes else {}


def _trace_of(attributes: dict[str, Any]) -> TraceContext:
    return TraceContext(*(attributes.get(name, {}).get("StringValue", "") for name in _TRACE))


def _values(trace: TraceContext) -> dict[str, str]:
    return {name: value for name in _TRACE if (value := getattr(trace, name))}


def _size(trace: TraceContext) -> int:
    """In bytes: names, types and values count."""
    return sum(len(f"{name}{_TEXT}{value}") for name, value in _values(trace).items())


def _batches(bodies: Sequence[str], more: int = 0) -> list[list[str]]:
    """In order, each within SQS's limits for a batch. `more`: bytes that go with each body."""
    batches: list[list[str]] = []
    size = 0
    for body in bodies:
        length = min(len(body.encode()) + more, MAX_BATCH_BYTES)
        if not batches or len(batches[-1]) == BATCH or size + length > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(body)
        size += length
    return batches
