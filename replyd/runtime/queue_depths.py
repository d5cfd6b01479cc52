"""How many messages wait in the queues, told every minute or so."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from replyd.domain.events import DependencyFailed, QueueMeasured
from replyd.errors import DependencyError
from replyd.ports import Depth, Telemetry, WatchedQueue
from replyd.runtime.progress import REQUEST_SECONDS, Progress

_log = structlog.get_logger("replyd")

# A reading is up to three requests: the queue, its dead-letter queue's URL, that queue.
READING_SECONDS = 3 * REQUEST_SECONDS


class QueueDepths:
    """Until it is cancelled, which may happen at any time: it only reads. What cannot be read is
    told and tried again: replies do not depend on it.

    `queues`: by the name that events have; a dead-letter queue's is its own with `_dlq`."""

    def __init__(
        self,
        *,
        queues: Mapping[str, WatchedQueue],
        interval_seconds: float,
        telemetry: Telemetry,
        progress: Progress,
    ) -> None:
        self._queues = dict(queues)
        self._interval = interval_seconds
        self._telemetry = telemetry
        self._progress = progress

    async def run(self) -> None:
        while True:
            for name, queue in self._queues.items():
                await self._measure(name, queue.depth)
                await self._measure(f"{name}_dlq", queue.dead_letters)
            await asyncio.sleep(self._interval)

    async def _measure(self, name: str, read: Callable[[], Awaitable[Depth | None]]) -> None:
        depth = None
        try:
            with self._progress.within("queue depths", READING_SECONDS):
                depth = await read()
        except DependencyError as error:
            self._telemetry.emit(DependencyFailed.of(error, "depth"))
        except Exception:  # noqa: BLE001 - a figure that is missing must not end customers' turns
            _log.exception("reading a queue's depth ended with a bug")
        if depth is None:
            self._telemetry.emit(QueueMeasured(name, known=False))
        else:
            measured = QueueMeasured(name, depth.visible, depth.in_flight, depth.delayed)
            self._telemetry.emit(measured)
