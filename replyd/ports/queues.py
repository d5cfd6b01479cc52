"""The two queues."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from replyd.ports.tracing import NOT_TRACED, TraceContext


@dataclass(frozen=True, slots=True)
class Received:
    """A queue message in our hands until its visibility timeout ends. `sent_at`: when it came to
    the queue, by the queue's clock, epoch ms; 0 where that is not known. `trace`: what its sender
    was part of."""

    message_id: str
    receipt: str
    body: str
    receives: int = 1
    sent_at: int = 0
    trace: TraceContext = NOT_TRACED


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue has. Estimates: SQS's are right within a minute, as a rule."""

    visible: int = 0
    in_flight: int = 0
    delayed: int = 0


class WakeupQueue(Protocol):
    """The replies queue. Every method raises Temporary or DependencyDown."""

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        """`delay_seconds`: 0 to 900. `trace` comes with the message when it is received."""
        ...

    async def receive(self) -> Sequence[Received]:
        """Long poll for up to ten messages. Never cancel it: a dead poll can swallow a message."""
        ...

    async def delete(self, messages: Sequence[Received]) -> None:
        """Any number. What could not be deleted comes again."""
        ...

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        """Stay, or become (0), invisible or visible. Up to ten at a time; failures come again."""
        ...


class WatchedQueue(Protocol):
    """A queue that is looked at. Every method raises Temporary, DependencyDown or Permanent."""

    async def depth(self) -> Depth: ...

    async def dead_letters(self) -> Depth | None:
        """Those of its dead-letter queue; None where it has no redrive policy."""
        ...


class HandoffQueue(Protocol):
    """Where people's tools take conversations from."""

    async def send(self, bodies: Sequence[str], trace: TraceContext = NOT_TRACED) -> None:
        """All of them, in order; raises Temporary or DependencyDown unless all are stored. `trace`
        is in the attributes `traceparent` and `tracestate` of each message that has room for
        them."""
        ...
