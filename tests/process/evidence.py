"""What a run has left behind: items, queues, ends of processes, and their logs."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replyd.adapters.attribute_values import deserialize
from replyd.domain import record
from replyd.domain.history import archive_name
from tests.process.books import ANSWER, QUESTION, Asked, Books, Imbalance
from tests.process.town import API_KEY, Process, Town

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
# The digits that all customers and the business share.
_NUMBERS = "447700900"
_SHOWN_LINES = 5
_BAD = ("Traceback", '"outcome": "bug"', "Timeout (", "Fatal Python error")


class Evidence:
    def __init__(self, town: Town, asked: Sequence[Asked]) -> None:
        self._town = town
        self._asked = asked
        self._parked: set[str] = set()
        self.handed: dict[str, Counter[str]] = defaultdict(Counter)
        self.handoffs = 0

    async def quiescent(self, seconds: float, *, queue: bool = True) -> list[Imbalance]:
        """Wait until nothing is under way; what still is after `seconds`. `queue`: wake-ups of
        conversations that are settled count too, such as one that was passed on for a lease."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            items = await self._scan()
            left = [i for item in items if (i := self._under_way(item))]
            if queue and (waiting := await self._waiting(self._town.replies_url)):
                left.append(Imbalance("wake-ups still in the replies queue", "", shows=waiting))
            if not left or asyncio.get_running_loop().time() > end:
                return left
            await self._read_parked()
            await asyncio.sleep(0.5)

    def _under_way(self, item: Mapping[str, Any]) -> Imbalance | None:
        """What was staged without its wake-up was not acknowledged, and may wait for ever."""
        free = {a.sid for a in self._asked if not a.acknowledged} | self._parked
        pending = [p["sid"] for p in item.get(record.PENDING) or []]
        working = [name for name in (record.LEASE, record.OUTBOX) if name in item]
        if not working and set(pending) <= free:
            return None
        shows = f"pending {pending}, {' and '.join(working) or 'no lease, no outbox'}"
        return Imbalance("not settled in the end", item[record.CONVERSATION_ID], shows=shows)

    async def books(self) -> Books:
        """Once all is quiet. Empties the handoff queue."""
        archives: dict[str, list[dict[str, Any]]] = defaultdict(list)
        records = {}
        for item in await self._scan():
            if item[record.RECIPIENT_TEL].startswith("+"):
                records[item[record.CONVERSATION_ID]] = item
            else:
                archives[item[record.RECIPIENT_TEL]].append(item)
        seqs = {
            line["sid"]: int(line["seq"])
            for process in self._town.processes
            for line in process.lines
            if line.get("event") == "message_accepted"
        }
        await self._read_parked()
        for body in await self._drain(self._town.handoff_url):
            self.handoffs += 1
            sid = body["message"]["sid"]
            self.handed[sid][body["handoff_reason"]] += 1
            seqs[sid] = int(body["seq"])
        return Books(
            asked=list(self._asked),
            records={n: _whole(r, archives[archive_name(n)]) for n, r in records.items()},
            sent=self._town.twilio.sent,
            handed=self.handed,
            parked=frozenset(self._parked),
            seqs=seqs,
        )

    async def endings(self, killed: Sequence[Process]) -> list[Imbalance]:
        """Whoever was not killed drained and exited with 0."""
        found = []
        for number, process in enumerate(self._town.processes):
            code = await process.ended()
            last = process.lines[-1].get("event") if process.lines else ""
            if process not in killed and (code, last) != (0, "drained"):
                shows = f"process {number} exited with {code}, its last line was {last!r}: "
                shows += " ".join(process.raw[-3:])[:600]
                found.append(Imbalance("a process ended by itself", "", shows=shows))
        return found

    def logs(self, killed: Sequence[Process]) -> list[Imbalance]:
        found: dict[str, list[str]] = defaultdict(list)
        for process in self._town.processes:
            for what, line in self._complaints(process, cut=process in killed):
                found[what].append(line)
        return [
            Imbalance(f"{what} ({len(lines)} lines)", "", shows=line.strip()[:1000])
            for what, lines in found.items()
            for line in lines[:_SHOWN_LINES]
        ]

    def _complaints(self, process: Process, *, cut: bool) -> Iterator[tuple[str, str]]:
        """`cut`: the last line of a killed process may end anywhere."""
        secrets = (_NUMBERS, QUESTION, ANSWER, API_KEY, self._town.twilio.auth_token)
        for line in process.raw:
            yield from ((f"{s!r} in a log", line) for s in secrets if s in line)
            yield from ((f"{b!r} in a log", line) for b in _BAD if b in line)
        for read in process.lines:
            # Whatever fails outside is a warning at most.
            if read.get("level") in ("error", "critical"):
                yield f"{read.get('event')!r} in a log", str(read)
        odd = len(process.raw) - len(process.lines)
        if odd > cut:
            others = [text for text in process.raw if not text.startswith("{")]
            yield "a log line that is not JSON", others[0] if others else ""

    def learnt(self) -> set[str]:
        """SIDs of the parts that a process got Twilio's answer for."""
        return {
            line["part_sid"]
            for process in self._town.processes
            for line in process.lines
            if line.get("event") == "part_sent"
        }

    def keep_logs(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for number, process in enumerate(self._town.processes):
            (directory / f"process-{number:03d}.log").write_text("".join(process.raw))

    async def _scan(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            answer = await self._town.dynamodb.scan(
                TableName=self._town.settings["conversations"]["table"],
                ConsistentRead=True,
                **start,
            )
            items += [{k: deserialize(v) for k, v in item.items()} for item in answer["Items"]]
            if not (last := answer.get("LastEvaluatedKey")):
                return items
            start = {"ExclusiveStartKey": last}

    async def _waiting(self, url: str) -> str:
        """How many messages a queue has, or nothing for none."""
        answer = await self._town.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        counts = {name: int(answer["Attributes"].get(name, 0)) for name in _COUNTS}
        return str(counts) if any(counts.values()) else ""

    async def _read_parked(self) -> None:
        for body in await self._drain(f"{self._town.replies_url}-dlq"):
            self._parked.add(str((body.get("message") or body).get("sid")))

    async def _drain(self, url: str) -> list[dict[str, Any]]:
        bodies = []
        while True:
            answer = await self._town.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0
            )
            messages = answer.get("Messages") or []
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                await self._town.sqs.delete_message(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]
                )
            if not messages:
                return bodies


def _whole(item: dict[str, Any], archives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record with its archived entries. A holder that is killed in a roll-over leaves a head
    in both places, until the next one."""
    history = item.get(record.MESSAGES) or []
    older: list[dict[str, Any]] = []
    for part in sorted(archives, key=lambda part: str(part[record.CONVERSATION_ID])):
        head = part["messages"]
        if _same(history[: len(head)]) != _same(head):
            older += head
    return item | {record.MESSAGES: [*older, *history], "archived": len(older)}


def _same(entries: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(e.get(n) for n in ("turn_id", "role", "content", "timestamp")) for e in entries]
