"""The process: time, ids, what it tells, and the worker beside the webhook."""

from typing import Protocol

from replyd.domain.events import Event
from replyd.domain.messages import (
    ConversationKey,
)


class Clock(Protocol):
    def now(self) -> int:
        """Wall clock, epoch milliseconds. Instances may differ by up to `turn.clock_skew`."""
        ...

    def elapsed(self) -> float:
        """Seconds from an arbitrary start, never standing still, not even in suspend."""
        ...


class Ids(Protocol):
    def fresh(self) -> str:
        """A new unique id."""
        ...

    def jitter(self) -> float:
        """A random number in [0, 1)."""
        ...


class Telemetry(Protocol):
    def emit(self, event: Event) -> None:
        """Never raises, never blocks."""
        ...


class LocalBuffer(Protocol):
    """The worker half of the same process, where there is one."""

    def staged(self, key: ConversationKey, seq: int, closes_at: int) -> None:
        """A message was staged here as `seq`: a wake-up held for its conversation waits until
        `closes_at`, and a turn under way may have to start over with it."""
        ...

    def wake(self, key: ConversationKey, seq: int, at: int) -> None:
        """The queue did not take the wake-up: look at the conversation at `at` without one."""
        ...
