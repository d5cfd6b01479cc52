"""A conversation in the buffer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from replyd.domain.messages import ConversationKey
from replyd.flows.workbench import News
from replyd.ports import NOT_TRACED, Attributes, Clock, Received, TraceContext

# A burst has no more messages that a trace should show.
_MAX_TRACES = 32
# What a trace says of the spans that begin with a queue message.
TAKES: Attributes = {
    "messaging.system": "aws_sqs",
    "messaging.operation.type": "process",
    "messaging.operation.name": "process",
}


class WokenBy:
    """The traces that led to a conversation, by the messages' seqs, until those are settled."""

    def __init__(self) -> None:
        self._traces: dict[int, TraceContext] = {}

    def add(self, seq: int, trace: TraceContext) -> None:
        if trace == NOT_TRACED:
            return
        self._traces[seq] = trace
        if len(self._traces) > _MAX_TRACES:
            del self._traces[min(self._traces)]

    def newest_first(self) -> Sequence[TraceContext]:
        return [self._traces[seq] for seq in sorted(self._traces, reverse=True)]

    def settled(self, seq: int) -> Sequence[TraceContext]:
        """Those up to `seq`, which are forgotten."""
        return [self._traces.pop(s) for s in sorted(self._traces) if s <= seq]


@dataclass(slots=True)
class Entry:
    """`due`: when to look at it, epoch ms; `late_from`: when its customer's window closed, as far
    as is known here, epoch ms; `held`: its newest wake-up, `held_since` on the clock
    that never stands still. `business`: whose customer it is, where a wake-up told."""

    key: ConversationKey
    due: int
    seq: int
    late_from: int
    business: str = ""
    held: Received | None = None
    held_seq: int = 0
    held_since: float = 0
    running: bool = False
    failures: int = 0
    task: asyncio.Task[None] | None = None
    # There only while somebody waits for it, since it takes 700 bytes.
    _changed: asyncio.Event | None = None
    news: News = field(default_factory=News)
    woken_by: WokenBy = field(default_factory=WokenBy)

    def postpone(self, at: int) -> None:
        """The window closes at `at`, no sooner."""
        self.late_from = max(self.late_from, at)

    @property
    def tenant(self) -> str:
        """Whose share of the turns it takes. Those of an unknown business must not share one."""
        return self.business or self.key.partition

    async def until_due(self, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        while (left := self.due - clock.now()) > 0:
            self._changed = asyncio.Event()
            timer = loop.call_later(left / 1000, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()
                self._changed = None

    def look_again(self) -> None:
        """`due` may be another one now."""
        if self._changed is not None:
            self._changed.set()
