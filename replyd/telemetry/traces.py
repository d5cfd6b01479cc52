"""Traces by OpenTelemetry. Imported only where they are on: it comes with the extra `otel`."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from replyd.errors import ConfigError, DependencyError
from replyd.ports import NOT_TRACED, Attributes, Span, SpanKind, TraceContext
from replyd.telemetry.logs import without_addresses

# What a drain waits for the last spans to leave.
FLUSH_SECONDS: Final = 5.0
# A collector that is away must not fill the log.
_TELL_EVERY_SECONDS = 60.0
_TRACES_PATH = "/v1/traces"
_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
# W3C Trace Context alone, whatever OTEL_PROPAGATORS says: baggage could hold anything.
_W3C = TraceContextTextMapPropagator()


class OtelTracing:
    """Implements `ports.Tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("replyd")

    @contextmanager
    def begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: TraceContext = NOT_TRACED,
        links: Sequence[TraceContext] = (),
    ) -> Iterator[Span]:
        span = self._tracer.start_span(
            name,
            _received(parent),
            _KINDS[kind],
            _clean(attributes),
            [trace.Link(_span_context(link)) for link in links],
        )
        with _current(span) as current:
            here = span.get_span_context()
            if not here.trace_flags.sampled:
                yield current
                return
            # Of a trace that nobody keeps the log says nothing.
            trace_id = trace.format_trace_id(here.trace_id)
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                yield current

    @contextmanager
    def within(self, name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Span]:
        if not trace.get_current_span().get_span_context().is_valid:
            yield self.current()
            return
        with _current(
            self._tracer.start_span(name, None, _KINDS[kind], _clean(attributes))
        ) as current:
            yield current

    def current(self) -> Span:
        return _Span(trace.get_current_span())

    def context(self) -> TraceContext:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return TraceContext(**carrier)


class _Span:
    """Implements `ports.Span`."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        if self._span.is_recording():
            self._span.set_attributes(_clean(attributes))

    def link(self, context: TraceContext) -> None:
        self._span.add_link(_span_context(context))

    def failed(self, kind: str) -> None:
        if isinstance(self._span, ReadableSpan) and self._span.status.is_unset:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(trace.StatusCode.ERROR)


@contextmanager
def _current(otel: trace.Span) -> Iterator[Span]:
    """The SDK's own block would note an exception's text and frames, which can hold anything."""
    span, token = _Span(otel), attach(trace.set_span_in_context(otel))
    try:
        yield span
    except asyncio.CancelledError:
        span.set({"replyd.cancelled": True})
        raise
    except BaseException as error:
        if isinstance(error, DependencyError):
            span.set({"replyd.dependency": error.dependency, "replyd.error_code": error.code})
        span.failed(type(error).__name__)
        raise
    finally:
        detach(token)
        otel.end()


def _clean(attributes: Attributes) -> dict[str, str | int | float | bool | Sequence[str]]:
    """Without what says nothing, and, should an address have come in, without that."""
    return {name: _masked(value) for name, value in attributes.items() if value not in ("", ())}


def _masked(
    value: str | int | float | bool | Sequence[str],
) -> str | int | float | bool | Sequence[str]:
    if isinstance(value, str):
        return without_addresses(value)
    return [without_addresses(v) for v in value] if isinstance(value, Sequence) else value


def _received(context: TraceContext) -> Context:
    """Empty for one that is not in the form of W3C Trace Context."""
    carrier = {"traceparent": context.traceparent, "tracestate": context.tracestate}
    return _W3C.extract({k: v for k, v in carrier.items() if v}, Context())


def _span_context(context: TraceContext) -> trace.SpanContext:
    return trace.get_current_span(_received(context)).get_span_context()


# --- the way out -------------------------------------------------------------------------------


@asynccontextmanager
async def opened(
    *,
    endpoint: str,
    sample_ratio: float,
    version: str,
    instance: str,
    lost: Callable[[], None],
    exporter: Callable[..., SpanExporter] = OTLPSpanExporter,
) -> AsyncIterator[OtelTracing]:
    """Spans go out in batches, from a thread of their own; at the end the last ones get
    FLUSH_SECONDS. What an argument leaves open the OTEL_ variables say. `lost`: called, from that
    thread, for each batch that did not get out. Raises ConfigError for variables that OpenTelemetry
    does not accept."""
    with _own_words() as words:
        try:
            provider = TracerProvider(
                ParentBasedTraceIdRatio(sample_ratio) if sample_ratio < 1 else None,
                _resource(version, instance),
                shutdown_on_exit=False,
            )
            # The same meaning as OTEL_EXPORTER_OTLP_ENDPOINT.
            out = exporter(endpoint=endpoint + _TRACES_PATH if endpoint else None)
            provider.add_span_processor(BatchSpanProcessor(_Reporting(out, words, lost)))
        except (ValueError, RuntimeError) as error:
            raise ConfigError([f"OpenTelemetry, by the OTEL_ variables: {error}"]) from None
        try:
            yield OtelTracing(provider)
        finally:
            await _shut_down(provider)


def _resource(version: str, instance: str) -> Resource:
    """What the variables say goes before what we say."""
    ours = {
        "service.name": "replyd",
        "service.version": version,
        "service.instance.id": instance,
    }
    told = OTELResourceDetector().detect().attributes
    return Resource.create({k: v for k, v in ours.items() if k not in told})


async def _shut_down(provider: TracerProvider) -> None:
    """In a thread that nobody waits for longer: a collector that hangs must not hold up a drain."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        if not loop.is_closed():
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="traces", daemon=True).start()
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await done.wait()
    except TimeoutError:
        structlog.get_logger("replyd").warning("traces_not_flushed", seconds=FLUSH_SECONDS)


class _Words(logging.Handler):
    """Keeps the first thing that is said, until it is asked."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self._first = self._first or record.getMessage()

    def taken(self) -> str:
        first, self._first = self._first, ""
        return first


@contextmanager
def _own_words() -> Iterator[_Words]:
    """What the exporter says. It writes several lines for every batch that fails, where one a
    minute will do; and what reads its headers quotes them, with their keys."""
    words = _Words()
    handlers: dict[str, logging.Handler] = {
        OTLPSpanExporter.__module__: words,
        parse_env_headers.__module__: logging.NullHandler(),
    }
    for name, handler in handlers.items():
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).propagate = False
    try:
        yield words
    finally:
        for name, handler in handlers.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True


class _Reporting(SpanExporter):
    """Says, once in a while, that spans were lost."""

    def __init__(self, inner: SpanExporter, words: _Words, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._words = words
        self._lost = lost
        self._log = structlog.get_logger("replyd")
        self._told_at = float("-inf")
        self._unsaid = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        reason = self._words.taken()
        if result is SpanExportResult.SUCCESS:
            return result
        self._lost()
        self._unsaid += len(spans)
        if time.monotonic() - self._told_at >= _TELL_EVERY_SECONDS:
            self._log.warning("traces_not_exported", spans=self._unsaid, reason=reason)
            self._told_at, self._unsaid = time.monotonic(), 0
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
