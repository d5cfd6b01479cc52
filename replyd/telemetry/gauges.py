"""Metrics of what is now: what the process is at, and how much waits for it."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Gauge

from replyd.domain.events import MessageAdopted, QueueMeasured, TurnClaimed
from replyd.telemetry.labels import OTHER, QUEUES

# What is over by the time of a scrape must show in it: scrapes are seldom further apart.
REMEMBERED_SECONDS = 60.0
_STATES = ("visible", "in_flight", "delayed")


class Gauges:
    """`elapsed`: seconds on a clock that only goes forward."""

    def __init__(
        self, registry: CollectorRegistry, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = Gauge(
            "replyd_requests_in_flight", "Webhook requests being served.", registry=registry
        )
        self._turns = Gauge("replyd_turns_in_flight", "Turns being worked on.", registry=registry)
        self._held = Gauge(
            "replyd_conversations_held",
            "Conversations whose wake-ups wait in this process.",
            registry=registry,
        )
        self._messages = Gauge(
            "replyd_queue_messages",
            "Messages in a queue, by SQS's estimate; each instance tells of all.",
            labelnames=["queue", "state"],
            registry=registry,
        )
        self._waits = RecentMaximum(REMEMBERED_SECONDS, elapsed)
        self._waiting_now: Callable[[], float] = float
        Gauge(
            "replyd_replies_oldest_seconds",
            "The longest that a customer has waited beyond the window, of those whose wake-ups "
            "this process holds or took up within the last minute.",
            registry=registry,
        ).set_function(lambda: max(self._waiting_now(), self._waits.read()))

    def watch(
        self,
        *,
        requests_in_flight: Callable[[], int] | None = None,
        turns_in_flight: Callable[[], int] | None = None,
        conversations_held: Callable[[], int] | None = None,
        waiting_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Where the gauges read their values when they are asked for."""
        for gauge, read in (
            (self._requests, requests_in_flight),
            (self._turns, turns_in_flight),
            (self._held, conversations_held),
        ):
            if read is not None:
                gauge.set_function(read)
        self._waiting_now = waiting_seconds or self._waiting_now

    def emit(self, event: TurnClaimed | MessageAdopted | QueueMeasured) -> None:
        match event:
            case TurnClaimed():
                self._waits.note(event.late_ms / 1000)
            case MessageAdopted():
                self._waits.note(event.waited_ms / 1000)
            case QueueMeasured():
                self._measured(event)

    def _measured(self, event: QueueMeasured) -> None:
        """A queue that cannot be read has no series: an old figure would pass for a new one."""
        queue = event.queue if event.queue in QUEUES else OTHER
        for state in _STATES:
            if event.known:
                self._messages.labels(queue, state).set(getattr(event, state))
            else:
                with suppress(KeyError):
                    self._messages.remove(queue, state)


class RecentMaximum:
    """The largest of the values noted within the last `seconds`; 0 without any."""

    def __init__(self, seconds: float, elapsed: Callable[[], float]) -> None:
        self._seconds = seconds
        self._elapsed = elapsed
        # Each is smaller than those before it: a larger one outlives them.
        self._falling: deque[tuple[float, float]] = deque()

    def note(self, value: float) -> None:
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((self._elapsed(), value))
        self._forget()

    def read(self) -> float:
        self._forget()
        return self._falling[0][1] if self._falling else 0.0

    def _forget(self) -> None:
        horizon = self._elapsed() - self._seconds
        while self._falling and self._falling[0][0] < horizon:
            self._falling.popleft()
