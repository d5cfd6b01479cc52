"""The replies queue that all instances of a run share: SQS's semantics on the loop's timers."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from replyd.ports import NOT_TRACED, Received, TraceContext

_BATCH = 10
MAX_RECEIVES = 10


@dataclass(slots=True)
class _Queued:
    message_id: str
    body: str
    visible_at: float
    receives: int = 0
    receipt: str = ""
    trace: TraceContext = NOT_TRACED


@dataclass(slots=True, eq=False)
class Poll:
    """A long poll under way. `answer` is called once, with what was received."""

    answer: Callable[[list[Received]], None]
    open: bool = True


class Queue:
    """Delivers to whichever poll it likes, in whichever order; now and then to two at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        *,
        visibility_seconds: int,
        wait_seconds: int,
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._visibility = visibility_seconds
        self._wait = wait_seconds
        self._number = 0
        self._polls: list[Poll] = []
        self.messages: dict[str, _Queued] = {}
        self.dead: list[str] = []

    def send(self, body: str, delay: float, trace: TraceContext = NOT_TRACED) -> None:
        self._number += 1
        queued = _Queued(f"m{self._number}", body, self._loop.time() + delay, trace=trace)
        self.messages[queued.message_id] = queued
        self._when_visible(queued)

    def poll(self, poll: Poll) -> None:
        self._polls.append(poll)
        self._loop.call_later(self._wait, self._expire, poll)
        self._pump()

    def forget(self, poll: Poll) -> None:
        poll.open = False
        self._polls.remove(poll)

    def delete(self, messages: Sequence[Received]) -> None:
        for message in messages:
            held = self.messages.get(message.message_id)
            # An old receipt answers as if it had deleted, and deletes nothing.
            if held is not None and held.receipt == message.receipt:
                del self.messages[message.message_id]

    def hide(self, messages: Sequence[Received], seconds: float) -> None:
        for message in messages:
            held = self.messages.get(message.message_id)
            if held is not None and held.receipt == message.receipt:
                held.visible_at = self._loop.time() + seconds
                self._when_visible(held)

    def show_again(self, message_id: str) -> None:
        """A standard queue delivers a message a second time now and then, hidden or not."""
        if (held := self.messages.get(message_id)) is not None:
            held.visible_at = self._loop.time()
            self._when_visible(held)

    def _when_visible(self, queued: _Queued) -> None:
        self._loop.call_at(queued.visible_at, self._pump)

    def _expire(self, poll: Poll) -> None:
        if poll.open:
            self._close(poll, [])

    def _close(self, poll: Poll, received: list[Received]) -> None:
        self.forget(poll)
        poll.answer(received)

    def _pump(self) -> None:
        while self._polls:
            # Timers may come a rounding error early.
            now = self._loop.time() + 1e-6
            visible = [m for m in self.messages.values() if m.visible_at <= now]
            if not visible:
                return
            self._rng.shuffle(visible)
            taken = [self._receive(m) for m in visible[: self._rng.randint(1, _BATCH)]]
            if received := [r for r in taken if r is not None]:
                self._close(self._rng.choice(self._polls), received)

    def _receive(self, queued: _Queued) -> Received | None:
        if queued.receives >= MAX_RECEIVES:
            self.dead.append(self.messages.pop(queued.message_id).body)
            return None
        queued.receives += 1
        queued.receipt = f"{queued.message_id}/{queued.receives}"
        queued.visible_at = self._loop.time() + self._visibility
        self._when_visible(queued)
        return Received(
            queued.message_id, queued.receipt, queued.body, queued.receives, trace=queued.trace
        )
