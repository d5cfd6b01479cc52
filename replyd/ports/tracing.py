"""Traces: what became of a message, across processes. Nothing is traced unless settings say so."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which span something is part of, as W3C Trace Context writes it: it goes beside the body of
    a queue message. Empty where nothing is traced."""

    traceparent: str = ""
    tracestate: str = ""


NOT_TRACED = TraceContext()


class Span(Protocol):
    """One step of a trace. No attribute holds an address, a text or a secret."""

    def set(self, attributes: Attributes) -> None: ...

    def link(self, context: TraceContext) -> None:
        """Say that another trace leads here too."""
        ...

    def failed(self, kind: str) -> None:
        """It did not succeed. `kind`: a short fixed word; the first one counts."""
        ...


class Tracing(Protocol):
    """Spans last as long as their block, and the exceptions that leave it are noted by their class.
    Nothing here raises or blocks."""

    def begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: TraceContext = NOT_TRACED,
        links: Sequence[TraceContext] = (),
    ) -> AbstractContextManager[Span]:
        """A span that goes on from `parent`, or else begins a trace; the current one is none of its
        business. It is the current one in its block, and so are the log lines."""
        ...

    def within(
        self, name: str, kind: SpanKind, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """A part of the current span; nothing where there is none."""
        ...

    def current(self) -> Span: ...

    def context(self) -> TraceContext:
        """Of the current span."""
        ...
