"""What replyd tells its operators: log lines and metrics, made from one stream of events, and
traces."""

from collections.abc import Callable, Sequence

import structlog

from replyd.domain.events import Event
from replyd.ports import Telemetry


class Fanout:
    """Implements `ports.Telemetry`: every event goes to every sink, in order.

    A sink that fails is logged, once for each kind of failure, and counted by `on_failure`, which
    gets the sink's class name; the others still get the event and the flow goes on.
    """

    def __init__(
        self, sinks: Sequence[Telemetry], on_failure: Callable[[str], None] | None = None
    ) -> None:
        self._sinks = tuple(sinks)
        self._on_failure = on_failure
        self._reported: set[tuple[str, str]] = set()
        self._log = structlog.get_logger("replyd.telemetry")

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception as error:  # noqa: BLE001 - a customer's turn must not end for a log line
                self._failed(type(sink).__name__, type(event).__name__, type(error).__name__)

    def _failed(self, sink: str, event: str, error: str) -> None:
        if self._on_failure is not None:
            self._on_failure(sink)
        # Names only: the error's own text could quote the event. Once, lest a broken sink
        # turns into a flood.
        if (sink, error) in self._reported:
            return
        self._reported.add((sink, error))
        self._log.error("telemetry_failed", sink=sink, of=event, error=error)
