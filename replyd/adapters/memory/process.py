"""Time and chance, told by the loop: the same run gives the same answers."""

import asyncio
import itertools
from dataclasses import dataclass, field

from replyd.domain.events import Event


@dataclass(slots=True)
class LoopClock:
    """Wall clock and elapsed time from the loop's clock; `skew_ms` sets an instance apart."""

    epoch_ms: int = 1_700_000_000_000
    skew_ms: int = 0

    def now(self) -> int:
        return self.epoch_ms + self.skew_ms + round(asyncio.get_running_loop().time() * 1000)

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass(slots=True)
class CountingIds:
    prefix: str = "id"
    _count: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def fresh(self) -> str:
        return f"{self.prefix}-{next(self._count)}"

    def jitter(self) -> float:
        return 0.0


@dataclass(slots=True)
class Recorder:
    """Telemetry that keeps every event."""

    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)
