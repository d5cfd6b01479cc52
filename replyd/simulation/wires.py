"""An instance's connections: latency, faults, and what a kill does to calls under way."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from replyd.domain.expressions import Refused
from replyd.errors import ReplydError
from replyd.ports import ModelReply
from replyd.simulation.queue import Poll, Queue
from replyd.simulation.trace import Trace
from replyd.simulation.weather import Weather, error

T = TypeVar("T")

# One way, in seconds.
_LATENCY = {"store": 0.015, "queue": 0.02, "handoffs": 0.02, "channel": 1.5, "model": 3.0}
_LATENCY["tools"] = 0.5
# Longer than a webhook may take, shorter than what is left of a lease when a send may start.
_SLOW_SECONDS = 11.0
_SLOW_SEND_SECONDS = 2.4
# Below the grace: twice the channel's timeout.
_LATE_SECONDS = 9.9
_GHOST_SECONDS = (0.05, 0.5, 9.9)
_STUCK_SECONDS = 55.0
_SLOW_MODEL = 20.0
# The share of answers that take their time.
_ANSWERS_WAIT = 0.1


class Wires:
    """What one process sends and hears. `cut` is kill -9: of requests under way some arrive and
    some do not, answers never do."""

    def __init__(self, name: str, rng: random.Random, weather: Weather, trace: Trace) -> None:
        self.name = name
        self.rng = rng
        self.weather = weather
        self.trace = trace
        self.loop = asyncio.get_running_loop()
        self.is_cut = False
        self.closed = False
        self.stands_until = 0.0
        self.polls: list[Poll] = []
        # What waits for an answer that never comes: the loop alone does not keep it alive, and
        # nothing may depend on when memory is collected.
        self._hanging: list[asyncio.Future[Any]] = []

    def cut(self, queue: Queue) -> None:
        self.is_cut = True
        for poll in self.polls:
            # Sometimes the queue answers a poll whose process is gone.
            if poll.open and self.rng.random() < 0.5:
                queue.forget(poll)

    def stall(self, seconds: float) -> None:
        """The process stands still: what it sends and hears waits until then."""
        self.stands_until = self.loop.time() + seconds

    async def call(
        self, port: str, effect: Callable[[], T], what: str, conversation: str = "", fate: str = "?"
    ) -> T:
        """Runs `effect` at one instant, some time from now, and brings its answer."""
        answer: asyncio.Future[T] = self.loop.create_future()
        if self.is_cut:
            if self.closed:
                raise asyncio.CancelledError
            self.hang(answer)
            return await answer
        if fate == "?":
            fate = self.weather.fate(port, self.rng, self.loop.time(), self.name)
            if fate in ("duplicate", "delayed"):
                fate = "fail"
        way = _LATENCY[port] * self.rng.random() + max(0.0, self.stands_until - self.loop.time())
        if port == "model" and self.weather.slow_model and not self.weather.over:
            way *= _SLOW_MODEL
        if fate == "slow":
            way += self.rng.random() * (_SLOW_SEND_SECONDS if port == "channel" else _SLOW_SECONDS)
        elif fate == "stuck":
            way += self.rng.random() * _STUCK_SECONDS
        if fate in ("late", "ambiguous_late"):
            self.loop.call_later(way, self._fail, answer, port, fate, what, conversation)
            # Counted from when it was written, for a channel accepts or drops within the grace.
            way = min(way + self.rng.random() * _LATE_SECONDS, _LATE_SECONDS)
        self.loop.call_later(
            way, partial(self._arrive, answer, port, effect, what, conversation, fate)
        )
        return await answer

    def hang(self, answer: "asyncio.Future[Any]") -> None:
        self._hanging.append(answer)

    def _arrive(
        self,
        answer: "asyncio.Future[T]",
        port: str,
        effect: Callable[[], T],
        what: str,
        conversation: str,
        fate: str,
    ) -> None:
        if self.is_cut and self.rng.random() < 0.5:
            self.trace.note(self.name, conversation, f"{what}: never arrived")
            self.hang(answer)
            return
        if fate in _NOTHING_HAPPENS:
            self._fail(answer, port, fate, what, conversation)
            return
        try:
            if fate == "twice":
                effect()
            elif fate == "ghost":
                later = self.rng.choice(_GHOST_SECONDS) * self.rng.random()
                self.loop.call_later(later, _unheard, effect)
            result = effect()
        except ReplydError as refusal:
            self._note(conversation, what, fate, str(refusal))
            self._answer(self._raise, answer, refusal)
            return
        self._note(conversation, what, fate, _shown(result))
        if fate in ("lost", "ambiguous_accepted"):
            self._answer(self._raise, answer, error(port, fate, self.rng))
        elif fate not in ("late", "ambiguous_late"):
            self._answer(self._resolve, answer, result)

    def _note(self, conversation: str, what: str, fate: str, result: str) -> None:
        suffix = f" ({fate})" if fate else ""
        gone = " (sent before the kill)" if self.is_cut else ""
        self.trace.note(self.name, conversation, f"{what}{result}{suffix}{gone}")

    def _fail(
        self, answer: "asyncio.Future[Any]", port: str, fate: str, what: str, conversation: str
    ) -> None:
        failure = error(port, fate, self.rng)
        self._note(conversation, what, fate, f": {type(failure).__name__}")
        self._raise(answer, failure)

    def _answer(self, how: Callable[..., None], answer: "asyncio.Future[Any]", value: Any) -> None:
        """At once, or some time after the effect: a kill comes in between now and then."""
        if self.rng.random() < _ANSWERS_WAIT:
            self.loop.call_later(0.5 * self.rng.random(), how, answer, value)
        else:
            how(answer, value)

    def _resolve(self, answer: "asyncio.Future[T]", value: T) -> None:
        if self.is_cut:
            self.hang(answer)
        elif (left := self.stands_until - self.loop.time()) > 0:
            self.loop.call_later(left, self._resolve, answer, value)
        elif not answer.done():
            answer.set_result(value)

    def _raise(self, answer: "asyncio.Future[Any]", failure: ReplydError) -> None:
        if self.is_cut:
            self.hang(answer)
        elif (left := self.stands_until - self.loop.time()) > 0:
            self.loop.call_later(left, self._raise, answer, failure)
        elif not answer.done():
            answer.set_exception(failure)


def _unheard(effect: Callable[[], object]) -> None:
    """Nobody waits for this answer."""
    with suppress(ReplydError):
        effect()


_NOTHING_HAPPENS = frozenset(
    ("fail", "outage", "temporary", "busy", "down", "permanent", "ambiguous_dropped")
)


def _shown(result: object) -> str:
    if isinstance(result, Refused):
        return ": refused"
    if isinstance(result, ModelReply):
        return f": {result.text.partition(' |')[0]}"
    return ""
