"""What one request to SQS holds, and who hears of its errors."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from replyd.adapters.aws import TRIES
from replyd.adapters.sqs import BATCH, MAX_BATCH_BYTES, SqsWakeups
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import NOT_TRACED, Received, TraceContext
from tests.support.virtual_time import VirtualTimeLoop

TRACE = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1")


def error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "any"
    )


TIMEOUT = ReadTimeoutError(endpoint_url="http://sqs")


@dataclass
class Sdk:
    """In the place of a client. `batches`, `alone`: what requests answer, one after the other, then
    success: an error, or the codes with which entries fail by their bodies."""

    batches: list[Exception | dict[str, str]] = field(default_factory=list)
    alone: dict[str, list[Exception]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def send_message(self, **message: Any) -> dict[str, Any]:
        assert message.pop("QueueUrl") == "http://sqs/q"
        self.asked.append(("SendMessage", message))
        await asyncio.sleep(0.01)
        if failures := self.alone.get(message["MessageBody"]):
            raise failures.pop(0)
        return {}

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._batch("SendMessageBatch", request, "MessageBody")

    async def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._batch("DeleteMessageBatch", request, "ReceiptHandle")

    async def _batch(self, operation: str, request: dict[str, Any], name: str) -> dict[str, Any]:
        assert request.pop("QueueUrl") == "http://sqs/q"
        entries = request.pop("Entries")
        assert not request
        assert len({entry["Id"] for entry in entries}) == len(entries) <= BATCH
        self.asked.append((operation, entries))
        await asyncio.sleep(0.01)
        answer = self.batches.pop(0) if self.batches else {}
        if isinstance(answer, Exception):
            raise answer
        failed = [
            {"Id": entry["Id"], "Code": answer[entry[name]], "SenderFault": True}
            for entry in entries
            if entry[name] in answer
        ]
        # Out of order, as an answer may be.
        return {"Successful": [], "Failed": failed[::-1]}

    def counts(self) -> dict[str, int]:
        return dict(Counter(operation for operation, _ in self.asked))


def queue(sdk: Sdk) -> SqsWakeups:
    return SqsWakeups(sdk, sdk, "http://sqs/q", wait_seconds=1, visibility_seconds=30)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


async def ended(*calls: Awaitable[None]) -> list[Any]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def together(sdk: Sdk, first: Awaitable[None], *calls: Awaitable[None]) -> list[Any]:
    """How `calls` ended, which had to wait for the `first`. Nothing more is said of that."""
    before, *after = await ended(first, *calls)
    assert before is None
    del sdk.asked[0]
    return after


def test_one_alone_is_a_single_message() -> None:
    async def main() -> None:
        sdk = Sdk()
        await queue(sdk).send("a", 7, TRACE)
        ((operation, message),) = sdk.asked
        assert operation == "SendMessage"
        assert message["MessageBody"] == "a"
        assert message["DelaySeconds"] == 7
        assert message["MessageAttributes"].keys() == {"traceparent", "tracestate"}

    run(main())


def test_in_a_batch_each_has_its_own_delay_and_trace() -> None:
    async def main() -> None:
        sdk, other = Sdk(), TraceContext(TRACE.traceparent)
        wakeups = queue(sdk)
        calls = [wakeups.send("a", 0, TRACE), wakeups.send("b", 900, other), wakeups.send("c", 5)]
        assert await together(sdk, wakeups.send("first", 0), *calls) == [None] * 3
        ((operation, entries),) = sdk.asked
        assert operation == "SendMessageBatch"
        assert [(e["MessageBody"], e["DelaySeconds"]) for e in entries] == [
            ("a", 0),
            ("b", 900),
            ("c", 5),
        ]
        attributes = [set(e.get("MessageAttributes", ())) for e in entries]
        assert attributes == [{"traceparent", "tracestate"}, {"traceparent"}, set()]

    run(main())


def test_a_delay_that_sqs_does_not_know_spoils_no_batch() -> None:
    async def main() -> None:
        sdk = Sdk()
        wakeups = queue(sdk)
        calls = [wakeups.send("a", 0), wakeups.send("b", 901), wakeups.send("c", 0)]
        found = await together(sdk, wakeups.send("first", 0), *calls)
        assert [each and type(each) for each in found] == [None, ValueError, None]
        assert sdk.counts() == {"SendMessageBatch": 1}

    run(main())


@pytest.mark.parametrize(("trace", "batches"), [(NOT_TRACED, [2, 1]), (TRACE, [1, 1, 1])])
def test_a_batch_holds_1_mib_with_the_traces(trace: TraceContext, batches: list[int]) -> None:
    async def main() -> None:
        sdk = Sdk()
        wakeups = queue(sdk)
        # Bytes and not characters.
        half = "x" + "☺" * (MAX_BATCH_BYTES // 6)
        await together(
            sdk, wakeups.send("first", 0), *(wakeups.send(half, 0, trace) for _ in range(3))
        )
        assert [
            len(asked) if operation == "SendMessageBatch" else 1 for operation, asked in sdk.asked
        ] == batches

    run(main())


def test_a_failure_of_the_whole_batch_is_everybodys_once_it_has_been_repeated() -> None:
    async def main() -> None:
        sdk = Sdk(batches=[error("InternalFailure", 500)] * TRIES)
        wakeups = queue(sdk)
        found = await together(
            sdk, wakeups.send("first", 0), *(wakeups.send(body, 0) for body in "abc")
        )
        assert [type(each) for each in found] == [Temporary] * 3
        assert sdk.counts() == {"SendMessageBatch": TRIES}

    run(main())


@pytest.mark.parametrize("failure", [error("InternalFailure", 500), TIMEOUT])
def test_a_batch_is_repeated_as_a_whole(failure: Exception) -> None:
    async def main() -> None:
        sdk = Sdk(batches=[failure])
        wakeups = queue(sdk)
        assert (
            await together(
                sdk, wakeups.send("first", 0), *(wakeups.send(body, 0) for body in "abc")
            )
            == [None] * 3
        )
        assert sdk.counts() == {"SendMessageBatch": 2}

    run(main())


ALONE: list[tuple[list[Exception], type[DependencyError] | None, int]] = [
    ([], None, 1),
    ([error("InternalFailure", 500)], None, 2),
    ([error("InternalFailure", 500)] * TRIES, Temporary, TRIES),
    ([error("ThrottlingException")] * TRIES, Busy, TRIES),
    ([error("QueueDoesNotExist")] * TRIES, DependencyDown, TRIES),
    ([error("InvalidMessageContents")], Permanent, 1),
]


@pytest.mark.parametrize(("failures", "raised", "tries"), ALONE)
def test_an_entry_that_failed_is_as_one_that_was_sent_alone(
    failures: list[Exception], raised: type[DependencyError] | None, tries: int
) -> None:
    """Repeated or not, and with the same errors; the others of its batch hear nothing of it."""

    async def main() -> None:
        sdk = Sdk(batches=[{"b": "any", "d": "any"}], alone={"b": list(failures)})
        wakeups = queue(sdk)
        found = await together(
            sdk, wakeups.send("first", 0), *(wakeups.send(body, 0) for body in "abcd")
        )
        assert [each and type(each) for each in found] == [None, raised, None, None]
        assert sdk.counts() == {"SendMessageBatch": 1, "SendMessage": tries + 1}
        assert {m["MessageBody"] for o, m in sdk.asked if o == "SendMessage"} == {"b", "d"}

    run(main())


def test_a_batch_that_is_refused_for_one_of_its_entries_is_that_ones_error() -> None:
    async def main() -> None:
        sdk = Sdk(
            batches=[error("InvalidMessageContents")],
            alone={"poison": [error("InvalidMessageContents")]},
        )
        wakeups = queue(sdk)
        found = await together(
            sdk, wakeups.send("first", 0), *(wakeups.send(body, 0) for body in ("a", "poison", "c"))
        )
        assert [type(each) for each in found] == [type(None), Permanent, type(None)]
        assert sdk.counts() == {"SendMessageBatch": 1, "SendMessage": 3}

    run(main())


def received(*receipts: str) -> list[Received]:
    return [Received(f"m-{receipt}", receipt, "{}") for receipt in receipts]


def test_deletes_go_together_whoever_asks() -> None:
    async def main() -> None:
        sdk = Sdk()
        wakeups = queue(sdk)
        await together(
            sdk,
            wakeups.delete(received("first")),
            wakeups.delete(received("a")),
            wakeups.delete(received("b", "c")),
            wakeups.delete([]),
            wakeups.delete(received(*map(str, range(20)))),
        )
        receipts = [[entry["ReceiptHandle"] for entry in entries] for _, entries in sdk.asked]
        assert receipts == [
            ["a", "b", "c", *map(str, range(7))],
            [str(number) for number in range(7, 17)],
            ["17", "18", "19"],
        ]

    run(main())


def test_what_was_not_deleted_is_no_error_but_a_request_that_failed_is() -> None:
    async def main() -> None:
        sdk = Sdk(batches=[{}, {"a": "ReceiptHandleIsInvalid"}])
        wakeups = queue(sdk)

        async def deleted() -> list[Any]:
            calls = [wakeups.delete(received(each)) for each in "ab"]
            return await together(sdk, wakeups.delete(received("first")), *calls)

        assert await deleted() == [None, None]
        sdk.batches = [{}, *[error("InternalFailure", 500)] * TRIES]
        assert [type(each) for each in await deleted()] == [Temporary] * 2

    run(main())


def test_sends_and_deletes_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        sdk = Sdk()
        wakeups = queue(sdk)
        calls: list[Callable[[], Awaitable[None]]] = [
            lambda: wakeups.send("a", 0),
            lambda: wakeups.delete(received("a")),
        ]
        await ended(*(call() for call in calls))
        assert asyncio.get_running_loop().time() == pytest.approx(0.01)

    run(main())
