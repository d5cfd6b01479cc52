"""Log lines: JSON for machines, readable on a terminal, always on standard error."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from replyd.domain import turn
from replyd.domain.address import masked
from replyd.domain.events import (
    CaughtUp,
    DeliveryReported,
    DependencyFailed,
    Event,
    FileRead,
    MessageAccepted,
    MessageAdopted,
    MessageDropped,
    ModelAnswered,
    ModelAsked,
    ModelInterrupted,
    ModelSwitched,
    NoticeSent,
    PartSent,
    PersonActed,
    PoisonReceived,
    QueueMeasured,
    RequestRefused,
    SendReconciled,
    ToolRan,
    TurnClaimed,
    TurnEnded,
)
from replyd.telemetry import tracebacks

# What an address looks like inside an exception's or a library's text: a number with its plus,
# also percent-encoded, a business-scoped id, and whatever follows the channel prefix.
_ADDRESSES = re.compile(
    r"(?i:whatsapp(?::|%3A)[\w.+%-]+)|(?:\+|%2B)\d{7,15}\b|\b[A-Z]{2}\.[A-Za-z0-9]{6,128}\b"
)
# C1 controls, line and paragraph ends, what turns the direction of writing, lone surrogates.
_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LINES: Final[dict[type, tuple[str, int]]] = {
    MessageAccepted: ("message_accepted", logging.DEBUG),
    MessageDropped: ("message_dropped", logging.INFO),
    TurnClaimed: ("turn_claimed", logging.DEBUG),
    ModelAsked: ("model_asked", logging.DEBUG),
    ModelAnswered: ("model_answered", logging.DEBUG),
    ModelInterrupted: ("model_interrupted", logging.DEBUG),
    ModelSwitched: ("model_switched", logging.WARNING),
    ToolRan: ("tool_ran", logging.INFO),
    FileRead: ("file_read", logging.DEBUG),
    PartSent: ("part_sent", logging.DEBUG),
    SendReconciled: ("send_reconciled", logging.WARNING),
    TurnEnded: ("turn_ended", logging.WARNING),
    DeliveryReported: ("delivery_reported", logging.DEBUG),
    PersonActed: ("person_acted", logging.INFO),
    DependencyFailed: ("dependency_failed", logging.WARNING),
    PoisonReceived: ("poison_received", logging.ERROR),
    NoticeSent: ("notice_sent", logging.INFO),
    CaughtUp: ("caught_up", logging.DEBUG),
    MessageAdopted: ("message_adopted", logging.DEBUG),
    QueueMeasured: ("queue_measured", logging.DEBUG),
}
_TURN_LEVELS: Final = {
    "replied": logging.INFO,
    "handed_over": logging.INFO,
    "withheld": logging.INFO,
    "nothing_to_do": logging.DEBUG,
}
_TOOL_LEVELS: Final = {
    "done": logging.DEBUG,
    "failed": logging.WARNING,
    "unknown": logging.WARNING,
}
# Shown only where there is something to show; texts are there only where `logging.bodies`
# allows them.
_OPTIONAL: Final = ("profile", "tool_calls", "question", "answer")
# Refused requests come from strangers, as many as they like.
REFUSALS_SECONDS: Final = 10.0


def configure(
    level: str = "INFO",
    style: str = "auto",
    stream: TextIO | None = None,
    *,
    bodies: bool = False,
) -> None:
    """Set up logging for the process; a further call replaces the former's set-up.

    `level`: DEBUG, INFO, WARNING or ERROR. `style`: json, console, or auto, which is console on a
    terminal. `stream`: standard error unless given. `bodies`: whether texts may be logged, also
    those that exceptions quote. Libraries that use `logging` come through the same renderer, at
    WARNING or above.
    """
    stream = sys.stderr if stream is None else stream
    console = style == "console" or (style == "auto" and stream.isatty())
    lowest = logging.getLevelNamesMapping()[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(
            tracebacks.with_texts if bodies else tracebacks.without_texts
        ),
        mask_addresses,
    ]
    if console:
        shared.append(_one_line)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    _route_libraries(stream, max(lowest, logging.WARNING), shared, renderer)


def bug() -> None:
    """Log the exception being handled as the reason why the process ends."""
    structlog.get_logger("replyd").critical("bug", exc_info=True)


def mask_addresses(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask customers' addresses in every text, whoever wrote it."""
    return {
        key: without_addresses(value) if isinstance(value, str) else value
        for key, value in event.items()
    }


def without_addresses(text: str) -> str:
    """With what looks like a customer's address masked."""
    return _ADDRESSES.sub(_mask, text)


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """No text of others begins a line of its own or commands the terminal. Tracebacks keep their
    lines."""
    return {
        key: _escaped(value, keep="\n" if key in ("exception", "stack") else "")
        for key, value in event.items()
    }


def _escaped(value: object, *, keep: str) -> object:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in value)


def _json(event: EventDict, **_options: Any) -> str:
    """One line to every reader: JSON itself escapes no other line ends and controls than ASCII's,
    and a lone surrogate could not be written at all."""
    text = json.dumps(event, ensure_ascii=False, default=_type_name)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _no_repr_of_errors(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """asyncio names a failed task with the repr of its exception, whose text can hold anything."""
    if isinstance(text := event.get("event"), str):
        event["event"] = text.partition(" exception=")[0]
    return event


def _mask(found: re.Match[str]) -> str:
    text = re.sub(r"(?i)%2B", "+", re.sub(r"(?i)%3A", ":", found[0]))
    return masked(re.sub(r"(?i)^whatsapp:", "", text))


def _type_name(value: object) -> str:
    """What JSON does not know is named, not shown: its repr could hold anything."""
    return f"<{type(value).__name__}>"


class _Lines:
    """Writes lines to `stream`, as long as that works: a closed pipe must not end a turn."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = _write


class _LibraryHandler(logging.StreamHandler[TextIO]):
    """Ours, to be found again by the next `configure`."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Standard error is gone: there is nowhere to say so."""


def _route_libraries(
    stream: TextIO, level: int, shared: list[Processor], renderer: Processor
) -> None:
    handler = _LibraryHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _no_repr_of_errors, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _LibraryHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


class LogSink:
    """Implements `ports.Telemetry`: events as log lines, customers masked, keys left out.

    A turn is one line at its end. `elapsed`: seconds from an arbitrary start; refusals of one
    kind are logged at most once in `REFUSALS_SECONDS`, with their number.
    """

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.get_logger("replyd")
        self._elapsed = elapsed
        self._refusals: dict[tuple[str, int, str], tuple[float, int]] = {}

    def emit(self, event: Event) -> None:
        if isinstance(event, RequestRefused):
            self._refused(event)
            return
        name, level = _LINES[type(event)]
        extra: dict[str, Any] = {}
        if isinstance(event, TurnEnded):
            extra = {"messages": len(event.sids), "parts": len(event.reply_sids)}
        self._log.log(_level_of(event, level), name, **_shown(event), **extra)

    def _refused(self, event: RequestRefused) -> None:
        kind, now = (event.endpoint, event.status, event.reason), self._elapsed()
        since, held_back = self._refusals.get(kind, (-REFUSALS_SECONDS, 0))
        if now - since < REFUSALS_SECONDS:
            self._refusals[kind] = (since, held_back + 1)
            return
        self._refusals[kind] = (now, 0)
        self._log.warning("request_refused", **_shown(event), count=held_back + 1)


def _level_of(event: Event, usual: int) -> int:
    match event:
        case TurnEnded():
            return _TURN_LEVELS.get(event.outcome, logging.WARNING)
        case ToolRan():
            return _TOOL_LEVELS.get(event.outcome, usual)
        case ModelSwitched(down=False) | FileRead(outcome="failed" | "late"):
            return logging.INFO
        case CaughtUp() if event.staged or event.too_old:
            return logging.INFO
        case DeliveryReported(status="failed" | "undelivered") | NoticeSent(sent=False):
            return logging.WARNING
        case _:
            return usual


def _shown(event: Event) -> dict[str, Any]:
    """The event's fields but for the key, whose partition is the customer's address."""
    shown: dict[str, Any] = {
        f.name: getattr(event, f.name) for f in fields(event) if f.name not in {"key", "at"}
    }
    if isinstance(event, TurnEnded) and event.reason == turn.BY_AI and not event.question:
        # The model's own words, which may quote the customer: a text like the answer.
        del shown["detail"]
    for name in _OPTIONAL:
        if not shown.get(name):
            shown.pop(name, None)
    if "microdollars" in shown:
        shown["cost_usd"] = round(shown.pop("microdollars") / 1_000_000, 6)
    if "customer" in shown:
        shown["customer"] = masked(shown["customer"])
    return shown
