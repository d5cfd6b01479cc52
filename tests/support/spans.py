"""What a test reads off the spans that were written."""

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import StatusCode

from replyd.telemetry.traces import OtelTracing


class Spans:
    """`tracing` writes here. `ratio`: which part of the traces."""

    def __init__(self, ratio: float = 1) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OtelTracing(provider)

    def all(self, name: str = "") -> list[ReadableSpan]:
        """Those of this name, or all, in the order in which they began."""
        spans = [s for s in self._exporter.get_finished_spans() if name in ("", s.name)]
        return sorted(spans, key=lambda s: s.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    def trees(self) -> list[str]:
        """Each trace, its spans indented below the one they are part of."""
        ids = {ids_of(span)[1] for span in self.all()}
        roots = [s for s in self.all() if s.parent is None or s.parent.span_id not in ids]
        return ["\n".join(self._lines(root, 0)) for root in roots]

    def _lines(self, span: ReadableSpan, depth: int) -> Iterator[str]:
        yield f"{'  ' * depth}{span.name}"
        for child in self.all():
            if child.parent is not None and child.parent.span_id == ids_of(span)[1]:
                yield from self._lines(child, depth + 1)

    def said(self) -> str:
        """Everything that the spans tell, but for their ids."""
        each = [(s.name, s.attributes, s.links, s.status.description, s.events) for s in self.all()]
        return repr([(name, dict(a or {}), *more) for name, a, _links, *more in each])


def ids_of(span: ReadableSpan) -> tuple[int, int]:
    """Of its trace, and its own."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def traceparent(span: ReadableSpan) -> str:
    """As it goes beside a message, without the flags."""
    trace_id, span_id = ids_of(span)
    return f"00-{trace_id:032x}-{span_id:016x}"


def told(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def failure(span: ReadableSpan) -> Any:
    """Its `error.type` where it failed, else None."""
    assert (span.status.status_code is StatusCode.ERROR) is (
        "error.type" in (span.attributes or {})
    )
    return told(span, "error.type")
