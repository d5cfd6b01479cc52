"""The queues in memory, with SQS's semantics: delay, visibility, receipts, redrive."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replyd.ports import NOT_TRACED, Depth, Received, TraceContext


@dataclass(slots=True)
class _Queued:
    message_id: str
    body: str
    visible_at: float
    sent_at: int = 0
    receives: int = 0
    receipt: str = ""
    trace: TraceContext = NOT_TRACED


@dataclass(slots=True)
class MemoryQueue:
    """A standard queue on the loop's clock: delay, visibility, receipts, batches of ten.

    `max_receives`: None for a queue without a redrive policy. `epoch_ms`: the wall clock when the
    loop's stood at 0."""

    visibility_seconds: float = 30
    wait_seconds: float = 5
    max_receives: int | None = 10
    epoch_ms: int = 1_700_000_000_000
    messages: dict[str, _Queued] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    sent: list[tuple[str, int]] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    _ids: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        await self._count("send")
        self.sent.append((body, delay_seconds))
        message_id = f"m-{self._ids()}"
        now = asyncio.get_running_loop().time()
        self.messages[message_id] = _Queued(
            message_id, body, now + delay_seconds, self.epoch_ms + round(now * 1000), trace=trace
        )
        self._changed.set()

    async def receive(self) -> Sequence[Received]:
        await self._count("receive")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait_seconds
        while True:
            self._changed.clear()
            if found := self._take(loop.time()):
                return found
            times = [m.visible_at for m in self.messages.values()]
            until = min([t for t in times if t > loop.time()] + [deadline])
            if loop.time() >= deadline:
                return []
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _take(self, now: float) -> list[Received]:
        ready = [m for m in self.messages.values() if m.visible_at <= now]
        taken: list[Received] = []
        for message in ready:
            if self.max_receives is not None and message.receives >= self.max_receives:
                self.dead.append(self.messages.pop(message.message_id).body)
                continue
            message.receives += 1
            message.receipt = f"{message.message_id}/{message.receives}"
            message.visible_at = now + self.visibility_seconds
            taken.append(
                Received(
                    message.message_id,
                    message.receipt,
                    message.body,
                    message.receives,
                    message.sent_at,
                    message.trace,
                )
            )
            if len(taken) == 10:
                break
        return taken

    async def delete(self, messages: Sequence[Received]) -> None:
        await self._count("delete")
        for message in messages:
            held = self.messages.get(message.message_id)
            # An old receipt answers as if it had deleted, and deletes nothing.
            if held is not None and held.receipt == message.receipt:
                del self.messages[message.message_id]

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        await self._count("hide")
        now = asyncio.get_running_loop().time()
        for message in messages:
            held = self.messages.get(message.message_id)
            if held is not None and held.receipt == message.receipt:
                held.visible_at = now + seconds
        self._changed.set()

    async def depth(self) -> Depth:
        await self._count("depth")
        now = asyncio.get_running_loop().time()
        visible = sum(m.visible_at <= now for m in self.messages.values())
        delayed = sum(m.visible_at > now and not m.receives for m in self.messages.values())
        return Depth(visible, len(self.messages) - visible - delayed, delayed)

    async def dead_letters(self) -> Depth | None:
        await self._count("dead_letters")
        return None if self.max_receives is None else Depth(visible=len(self.dead))

    async def _count(self, operation: str) -> None:
        self.requests[operation] = self.requests.get(operation, 0) + 1
        await asyncio.sleep(0)


@dataclass(slots=True)
class MemoryHandoffQueue:
    bodies: list[str] = field(default_factory=list)
    traces: list[TraceContext] = field(default_factory=list)

    async def send(self, bodies: Sequence[str], trace: TraceContext = NOT_TRACED) -> None:
        await asyncio.sleep(0)
        self.bodies.extend(bodies)
        self.traces.extend(trace for _ in bodies)
