"""Whole workers on in-memory ports: the real flows, buffer and consumer, wired as in production."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from replyd.adapters.memory import (
    CountingIds,
    LoopClock,
    MemoryChannel,
    MemoryHandoffQueue,
    MemoryModel,
    Recorder,
)
from replyd.bootstrap import Parts, daemon
from replyd.domain import record
from replyd.domain.events import Event, TurnEnded
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.flows.accept_message import AcceptMessage
from replyd.flows.answer_conversation import AnswerConversation
from replyd.flows.track_delivery import TrackDelivery
from replyd.runtime.buffer import Buffer
from replyd.runtime.consumer import Consumer
from replyd.settings import Settings
from tests.support.faults import FaultyQueue, FaultyStore, Wires

CUSTOMER = "+447700900001"
BUSINESS = "+447700900100"
ACCOUNT = "AC" + "0" * 32
KEY = ConversationKey(CUSTOMER, "c-1")


def message(number: int, body: str = "", **changes: Any) -> InboundMessage:
    sid = f"SM{number:032x}"
    values: dict[str, Any] = {
        "sid": sid,
        "sender": f"whatsapp:{CUSTOMER}",
        "recipient": f"whatsapp:{BUSINESS}",
        "body": body or f"message {number}",
        "profile_name": "Lee",
        "account_sid": ACCOUNT,
        "params": {"MessageSid": sid, "AccountSid": ACCOUNT},
    }
    return InboundMessage(**(values | changes))


@dataclass
class Worker:
    accept: AcceptMessage
    answer: AnswerConversation
    track: TrackDelivery
    buffer: Buffer
    consumer: Consumer
    wires: Wires
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self.tasks = [
            asyncio.create_task(self.consumer.run()),
            asyncio.create_task(self.buffer.run()),
        ]

    async def stop(self, grace_seconds: float = 60) -> None:
        self.consumer.stop()
        await self.tasks[0]
        await self.buffer.drain(grace_seconds)
        self.tasks[1].cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class World:
    """One table, two queues, one model, one channel; any number of workers."""

    def __init__(
        self,
        *,
        window: dict[str, Any] | None = None,
        turn: dict[str, Any] | None = None,
        unknown: dict[str, Any] | None = None,
        queues: dict[str, Any] | None = None,
        history: dict[str, Any] | None = None,
        delivery: dict[str, Any] | None = None,
    ) -> None:
        """The arguments are settings of these groups."""
        self.store = FaultyStore()
        self.queue = FaultyQueue((queues or {}).get("visibility_seconds", 30))
        self.handoffs = MemoryHandoffQueue()
        self.model = MemoryModel()
        self.channel = MemoryChannel()
        self.clock = LoopClock()
        self.telemetry = Recorder()
        quick = {"quiet_seconds": 2, "max_wait_seconds": 10, "max_messages": 5}
        self.settings = Settings.model_validate(
            {
                "window": quick | (window or {}),
                "turn": turn or {},
                "queues": queues or {},
                "history": history or {},
                "delivery": delivery or {},
                "unknown_sender": unknown or {},
                "opt_out": {"stop_words": ["STOP"], "start_words": ["START"]},
            }
        )
        self.workers: list[Worker] = []

    def converse(self, key: ConversationKey = KEY, **attributes: Any) -> None:
        """Put a conversation as the engine that starts conversations does."""
        self.store.items[key] = {
            record.RECIPIENT_TEL: key.partition,
            record.CONVERSATION_ID: key.sort,
            record.COMPANY_TEL: BUSINESS,
            record.THREAD_ID: "",
            record.HANDOFF: False,
            record.MESSAGES: [],
            record.CREATED_AT: "2026-11-22T10:00:00.000Z",
            **attributes,
        }

    def worker(self) -> Worker:
        number = len(self.workers) + 1
        wires = Wires()
        parts = Parts(
            store=wires.to(self.store),
            wakeups=wires.to(self.queue),
            handoffs=wires.to(self.handoffs),
            model=wires.to(self.model),
            channel=self.channel,
            clock=self.clock,
            ids=CountingIds(f"w{number}"),
            owner=f"worker-{number}",
        )
        wired = daemon(self.settings, parts, self.telemetry)
        (consumer,) = wired.consumers
        self.workers.append(
            Worker(wired.accept, wired.answer, wired.track, wired.buffer, consumer, wires)
        )
        return self.workers[-1]

    @asynccontextmanager
    async def running(self, workers: int = 1) -> AsyncIterator[Worker]:
        for _ in range(workers):
            self.worker().start()
        try:
            yield self.workers[0]
        finally:
            for worker in self.workers:
                await worker.stop()

    async def crash(self, worker: Worker) -> None:
        """The process is gone: its lease and its wake-ups stay as they are."""
        worker.wires.cut = True
        entries = worker.buffer._entries.values()
        tasks = worker.tasks + [entry.task for entry in entries if entry.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.workers.remove(worker)

    def item(self, key: ConversationKey = KEY) -> dict[str, Any]:
        return self.store.items[key]

    def history(self, key: ConversationKey = KEY) -> list[tuple[str, str]]:
        return [(m["role"], m["content"]) for m in self.item(key)[record.MESSAGES]]

    def handed_over(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.handoffs.bodies]

    def events(self, kind: type[Event]) -> list[Any]:
        return [e for e in self.telemetry.events if isinstance(e, kind)]

    def outcomes(self) -> list[str]:
        return [e.outcome for e in self.events(TurnEnded)]
