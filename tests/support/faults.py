"""The in-memory twins with faults put in: an answer that is lost, or a call that fails."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from replyd.adapters.memory import MemoryHandoffQueue, MemoryQueue, MemoryStore
from replyd.domain.expressions import Step, StepResult
from replyd.domain.messages import ConversationKey
from replyd.errors import DependencyError
from replyd.ports import NOT_TRACED, Received, TraceContext


class FaultyStore(MemoryStore):
    """`fail_before[step]`, or "get_side": raised and nothing happens; `lose_after[step]`: it
    happens, and the error is raised. One error for each call, in order. `repeat[step]`: so many
    calls are sent twice, as a retry sends a request whose first answer was lost, and bring the
    second answer."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_before: dict[str, list[DependencyError]] = defaultdict(list)
        self.lose_after: dict[str, list[DependencyError]] = defaultdict(list)
        self.repeat: Counter[str] = Counter()

    async def get_side(self, name: str) -> dict[str, Any] | None:
        if self.fail_before["get_side"]:
            raise self.fail_before["get_side"].pop(0)
        return await super().get_side(name)

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        if self.fail_before[step.name]:
            raise self.fail_before[step.name].pop(0)
        result = await super().apply(key, step)
        if self.repeat[step.name] > 0:
            self.repeat[step.name] -= 1
            result = await super().apply(key, step)
        if self.lose_after[step.name]:
            raise self.lose_after[step.name].pop(0)
        return result


class FaultyQueue(MemoryQueue):
    """`fail[operation]`: raised instead of the call; one error for each, in order."""

    def __init__(self, visibility_seconds: float = 30) -> None:
        super().__init__(visibility_seconds=visibility_seconds)
        self.fail: dict[str, list[DependencyError]] = defaultdict(list)
        self.send_seconds = 0.0

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        self._maybe("send")
        await asyncio.sleep(self.send_seconds)
        await super().send(body, delay_seconds, trace)

    async def receive(self) -> Sequence[Received]:
        self._maybe("receive")
        return await super().receive()

    async def delete(self, messages: Sequence[Received]) -> None:
        self._maybe("delete")
        await super().delete(messages)

    def _maybe(self, operation: str) -> None:
        if self.fail[operation]:
            raise self.fail[operation].pop(0)


class FaultyHandoffs(MemoryHandoffQueue):
    """`fail`: raised instead of the call; one error for each, in order."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.fail: list[DependencyError] = []
        self.seconds = seconds

    async def send(self, bodies: Sequence[str], trace: TraceContext = NOT_TRACED) -> None:
        await asyncio.sleep(self.seconds)
        if self.fail:
            raise self.fail.pop(0)
        await super().send(bodies, trace)


class Wires:
    """A worker's connections. Once `cut`, nothing that it sends arrives and no answer comes."""

    cut = False

    def to(self, target: Any) -> Any:
        return _Wire(self, target)


class _Wire:
    def __init__(self, wires: Wires, target: Any) -> None:
        self._wires = wires
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        async def call(*args: Any, **named: Any) -> Any:
            if self._wires.cut:
                await asyncio.Future()
            return await method(*args, **named)

        return call
