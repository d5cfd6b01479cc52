"""Whole workers on in-memory ports: the real flows, buffer and consumer, wired as in production."""

import asyncio
import json
import re
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
from replyd.adapters.memory.media import MemoryMedia, MemoryModerator, MemoryTranscriber
from replyd.adapters.memory.tools import MemoryToolbox
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.policies import tool_specs
from replyd.bootstrap.wiring import Daemon, daemon
from replyd.domain import record
from replyd.domain.events import Event, TurnEnded
from replyd.domain.messages import ConversationKey, InboundMessage, Media
from replyd.flows.accept_message import AcceptMessage
from replyd.flows.answer_conversation import AnswerConversation
from replyd.flows.person import People
from replyd.flows.track_delivery import TrackDelivery
from replyd.ports import File, Tracing
from replyd.runtime.buffer import Buffer
from replyd.runtime.consumer import Consumer
from replyd.runtime.drain import drain
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


def received_file(number: int, content_type: str) -> Media:
    """As Twilio names a file that came with a message; `World.put` says what is in it."""
    return Media(f"https://api.twilio.com/Media/ME{number:032x}", content_type)


@dataclass
class Worker:
    accept: AcceptMessage
    answer: AnswerConversation
    track: TrackDelivery
    buffer: Buffer
    consumer: Consumer
    wires: Wires
    people: People
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self.tasks = [
            asyncio.create_task(self.consumer.run()),
            asyncio.create_task(self.buffer.run()),
        ]

    async def stop(self, grace_seconds: float = 60) -> None:
        await drain([self.consumer], self.tasks[:1], self.buffer, grace_seconds)
        self.tasks[1].cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class World:
    """One table, two queues, one model, one channel, a team's tools, the customers' files; any
    number of workers. What is set on its parts (`world.model.answer`, `world.toolbox.functions`)
    holds for all workers."""

    def __init__(
        self,
        *,
        window: dict[str, Any] | None = None,
        turn: dict[str, Any] | None = None,
        unknown: dict[str, Any] | None = None,
        queues: dict[str, Any] | None = None,
        history: dict[str, Any] | None = None,
        delivery: dict[str, Any] | None = None,
        ai: dict[str, Any] | None = None,
        tools: dict[str, dict[str, Any]] | None = None,
        voice: dict[str, Any] | None = None,
        media: dict[str, Any] | None = None,
        moderation: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        prices: dict[str, dict[str, Any]] | None = None,
        opt_out: dict[str, Any] | None = None,
        sending: dict[str, Any] | None = None,
        catchup: dict[str, Any] | None = None,
        retention: dict[str, Any] | None = None,
    ) -> None:
        """The arguments are settings of these groups. `tools` need no `url` here, and the model
        may call all of them unless `ai` lists others."""
        self.store = FaultyStore()
        self.queue = FaultyQueue((queues or {}).get("visibility_seconds", 30))
        self.handoffs = MemoryHandoffQueue()
        self.model = MemoryModel()
        self.channel = MemoryChannel()
        self.clock = LoopClock()
        self.telemetry = Recorder()
        self.recordings = MemoryMedia()
        self.library = MemoryMedia()
        self.transcriber = MemoryTranscriber()
        self.moderator = MemoryModerator()
        callable_tools = {"tools": ["hand_over", *(tools or {})]}
        quick = {"quiet_seconds": 2, "max_wait_seconds": 10, "max_messages": 5}
        self.settings = Settings.model_validate(
            {
                "window": quick | (window or {}),
                "turn": turn or {},
                "queues": queues or {},
                "history": history or {},
                "delivery": delivery or {},
                "unknown_sender": unknown or {},
                "ai": callable_tools | (ai or {}),
                "tools": {
                    name: {"url": "https://tools.example.com"} | tool
                    for name, tool in (tools or {}).items()
                },
                "voice": voice or {},
                "media": media or {},
                "moderation": moderation or {},
                "sending": sending or {},
                "catchup": catchup or {},
                "retention": retention or {},
                "limits": limits or {},
                "prices": prices or {},
                "opt_out": {"stop_words": ["STOP"], "start_words": ["START"]} | (opt_out or {}),
            }
        )
        specs = tool_specs(self.settings)
        self.toolbox = MemoryToolbox([specs[name] for name in self.settings.tools])
        # Of workers that are made from then on.
        self.tracing: Tracing | None = None
        self.workers: list[Worker] = []
        self._started = 0

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

    def put(self, media: Media, data: bytes = b"content") -> Media:
        """Let Twilio have the contents of a file."""
        file = File(media.url.rpartition("/")[2], media.content_type, data)
        voice = media.content_type.startswith("audio/")
        (self.recordings if voice else self.library).files[ACCOUNT, media.url] = file
        return media

    def worker(self) -> Worker:
        wires = Wires()
        wired = self._wired(wires, self.settings)
        (consumer,) = wired.consumers
        self.workers.append(
            Worker(
                wired.accept, wired.answer, wired.track, wired.buffer, consumer, wires, wired.people
            )
        )
        return self.workers[-1]

    def webhook(self) -> AcceptMessage:
        """A process of role `webhook`, which only takes messages."""
        server = self.settings.server.model_copy(update={"role": "webhook"})
        return self._wired(Wires(), self.settings.model_copy(update={"server": server})).accept

    def _wired(self, wires: Wires, settings: Settings) -> Daemon:
        # Also of those that crashed: two of one name would take each other's leases for their own.
        self._started += 1
        number = self._started
        rules = settings.moderation
        parts = Parts(
            store=wires.to(self.store),
            wakeups=wires.to(self.queue),
            handoffs=wires.to(self.handoffs),
            model=wires.to(self.model),
            channel=self.channel,
            clock=self.clock,
            ids=CountingIds(f"w{number}"),
            owner=f"worker-{number}",
            # Checks arguments without a call, so that no wire leads to it.
            toolbox=self.toolbox,
            recordings=wires.to(self.recordings),
            library=wires.to(self.library),
            transcriber=wires.to(self.transcriber) if settings.voice.enabled else None,
            moderator=(None if rules.input == rules.output == "off" else wires.to(self.moderator)),
        )
        return daemon(settings, parts, self.telemetry, self.tracing)

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
        while tasks:
            for task in tasks:
                task.cancel()
            # Longer than a turn takes to let go; one that waits for a tool is cancelled again.
            await asyncio.wait(tasks, timeout=5)
            tasks = [task for task in tasks if not task.done()]
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


def without_times(turn: str) -> str:
    """What the model was asked, without the times that stand before each message of a burst."""
    return re.sub(r"(?m)^\[\d\d:\d\d:\d\d\] ", "", turn)
