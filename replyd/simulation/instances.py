"""One process of replyd: wired as in production, started, drained, killed and started again."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from replyd.adapters.memory import LoopClock
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.wiring import Daemon, daemon
from replyd.domain.events import Event
from replyd.domain.messages import ConversationKey, InboundMessage, Params
from replyd.errors import ReplydError
from replyd.flows.person_answer import Answered, Declined, Request
from replyd.runtime.drain import drain
from replyd.runtime.webhook_server import DURABLE_WITHIN_SECONDS
from replyd.settings import Settings
from replyd.simulation.wires import Wires

_DRAIN_SECONDS = 20.0

# Gives the parts of the instance of this name, and what its requests go through.
Wiring = Callable[["Instance", Wires], Parts]


@dataclass(slots=True)
class RunIds:
    """Fresh within the run: no two processes share a name."""

    name: str
    rng: random.Random
    _count: int = 0

    def fresh(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def jitter(self) -> float:
        return self.rng.random()


class Silent:
    """Telemetry for speed."""

    def emit(self, event: Event) -> None:
        """Nobody listens."""


@dataclass(slots=True, eq=False)
class Instance:
    """`generation` counts the processes. `up`: takes webhooks."""

    number: int
    settings: Settings
    clock: LoopClock
    connect: Callable[[str], Wires]
    wiring: Wiring
    on_bug: Callable[[str, str], None]
    generation: int = 0
    up: bool = False
    daemon: Daemon | None = None
    wires: Wires | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the process: `i2.3` is the third one of the second instance."""
        return f"i{self.number}.{self.generation}"

    def start(self) -> None:
        self.generation += 1
        self.wires = self.connect(self.name)
        self.daemon = daemon(self.settings, self.wiring(self, self.wires), Silent())
        self.tasks = [asyncio.create_task(c.run()) for c in self.daemon.consumers]
        self.tasks.append(asyncio.create_task(self.daemon.buffer.run()))
        for task in self.tasks:
            task.add_done_callback(self._ended)
        self.up = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.on_bug(self.name, f"the process ended: {bug!r}")

    async def drain(self) -> None:
        """As the supervisor does on SIGTERM."""
        assert self.daemon is not None
        self.up = False
        *polls, receipts = self.tasks
        await drain(self.daemon.consumers, polls, self.daemon.buffer, _DRAIN_SECONDS)
        receipts.cancel()

    async def webhook(self, message: InboundMessage) -> bool:
        """What the webhook server makes of it: true for 200, false for 503."""
        assert self.daemon is not None
        try:
            async with asyncio.timeout(DURABLE_WITHIN_SECONDS):
                await self.daemon.accept(message)
        except (ReplydError, TimeoutError):
            return False
        return True

    async def reply(self, key: ConversationKey, request: Request) -> Answered | Declined | None:
        """A person's answer; None for 503."""
        assert self.daemon is not None
        try:
            return await self.daemon.people.reply(key, request)
        except ReplydError:
            return None

    async def status(self, params: Params, query: Params) -> bool:
        """A status callback: true for 204, false for 503."""
        assert self.daemon is not None
        try:
            async with asyncio.timeout(DURABLE_WITHIN_SECONDS):
                await self.daemon.track(params, query)
        except (ReplydError, TimeoutError):
            return False
        return True
