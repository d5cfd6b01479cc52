"""Traces on their way out: off by default, never in the way, quiet when nobody takes them."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from replyd.bootstrap.traces import require_traces
from replyd.cli import main
from replyd.errors import ConfigError
from replyd.settings import Settings
from replyd.telemetry import logs, traces
from tests.support.spans import told


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("DEBUG", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def opened(exporter: SpanExporter | None = None, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "endpoint": "",
        "sample_ratio": 1,
        "version": "1.2.3",
        "instance": "host-1",
        "lost": lambda: None,
    }
    if exporter is not None:
        arguments["exporter"] = lambda **_: exporter
    return traces.opened(**(arguments | changes))


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_nobody_imports_opentelemetry_unless_traces_are_on() -> None:
    code = (
        # What only a development environment has, and takes seconds to import.
        "import sys; sys.modules['rfc3987_syntax'] = None\n"
        "import replyd.cli, replyd.bootstrap.process\n"
        "from replyd.bootstrap.traces import require_traces\n"
        "from replyd.settings import Settings\n"
        "require_traces(Settings())\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]\n"
        "assert 'replyd.telemetry.traces' not in sys.modules\n"
        "require_traces(Settings.model_validate({'traces': {'enabled': True}}))\n"
        "assert 'replyd.telemetry.traces' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def take_away(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "replyd.telemetry.traces")
    monkeypatch.delattr("replyd.telemetry.traces")
    monkeypatch.setitem(sys.modules, missing, None)


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.trace.sampling"])
def test_without_the_extra_the_settings_are_wrong(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(missing, monkeypatch)
    require_traces(Settings())
    with pytest.raises(ConfigError) as raised:
        require_traces(Settings.model_validate({"traces": {"enabled": True}}))
    (problem,) = raised.value.problems
    assert problem.startswith(f"traces.enabled is true and {missing}")
    assert problem.endswith(" is not installed: pip install 'replyd[otel]'")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_commands_say_that_the_extra_is_missing(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "REPLYD_TRACES__ENABLED": "true",
        "REPLYD_SERVER__PUBLIC_URL": "https://hooks.example.com",
        "REPLYD_QUEUES__REPLIES_URL": "https://sqs.example.com/1/replies",
        "REPLYD_QUEUES__HANDOFF_URL": "https://sqs.example.com/1/handoff",
        "REPLYD_CONVERSATIONS__TABLE": "conversations",
        "OPENAI_API_KEY": "sk-1",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    take_away("opentelemetry", monkeypatch)
    assert main([command]) == 78
    told = "".join(capsys.readouterr())
    assert "opentelemetry is not installed: pip install 'replyd[otel]'" in " ".join(told.split())


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "replyd"),
        ({"OTEL_SERVICE_NAME": "answers"}, "answers"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,team=a"}, "shop"),
    ],
)
async def test_spans_say_where_they_come_from(
    environ: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        with tracing.begin("turn", "consumer", {}):
            pass
    (span,) = exporter.get_finished_spans()
    said = span.resource.attributes
    assert said["service.name"] == name
    assert (said["service.version"], said["service.instance.id"]) == ("1.2.3", "host-1")


async def test_part_of_the_traces_are_kept_whole() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter, sample_ratio=0.5) as tracing:
        for _ in range(200):
            with tracing.begin("webhook", "server", {}), tracing.within("model", "client", {}):
                pass
    kept = [span.name for span in exporter.get_finished_spans()]
    assert kept.count("webhook") == kept.count("model")
    assert 50 < kept.count("webhook") < 150


async def test_addresses_that_come_into_an_attribute_are_masked() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        with tracing.begin("turn", "consumer", {"a": "whatsapp:+447700900001"}) as span:
            span.set({"b": ["to +447700900001", "US.ABC12345678"], "c": "", "d": ()})
    (written,) = exporter.get_finished_spans()
    assert dict(written.attributes or {}) == {"a": "+44…01", "b": ("to +44…01", "US.…78")}


async def test_an_exception_is_told_by_its_class_alone() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        with pytest.raises(LookupError), tracing.begin("turn", "consumer", {}):
            raise LookupError("hello from +447700900001")
    (span,) = exporter.get_finished_spans()
    assert told(span, "error.type") == "LookupError"
    assert (span.status.description, list(span.events)) == (None, [])


async def test_log_lines_of_a_trace_name_it(log: io.StringIO) -> None:
    async with opened(InMemorySpanExporter()) as tracing:
        with tracing.begin("turn", "consumer", {}):
            structlog.get_logger("replyd").info("inside")
            trace_id = tracing.context().traceparent.split("-")[1]
        structlog.get_logger("replyd").info("outside")
    async with opened(InMemorySpanExporter(), sample_ratio=0) as tracing:
        with tracing.begin("turn", "consumer", {}):
            structlog.get_logger("replyd").info("not kept")
    assert [line.get("trace_id") for line in lines(log)] == [trace_id, None, None]


class Refusing(SpanExporter):
    """As OTLP's, of a collector that is away."""

    def __init__(self) -> None:
        self.asked = 0
        self.log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        self.log.warning("Transient error %s, retrying", "Bad Gateway")
        self.log.error("Failed to export")
        return SpanExportResult.FAILURE


async def test_a_collector_that_is_away_is_one_line_a_minute(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    refusing, lost = Refusing(), []
    async with opened(refusing, lost=lambda: lost.append(1)) as tracing:
        for _ in range(40):
            with tracing.begin("turn", "consumer", {}):
                pass
    assert len(lost) == refusing.asked > 1
    (line,) = lines(log)
    assert (line["event"], line["level"]) == ("traces_not_exported", "warning")
    assert line["reason"] == "Transient error Bad Gateway, retrying"
    assert 0 < line["spans"] <= 40


async def test_a_port_where_nobody_listens_costs_spans_and_no_more(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter itself."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "broken header with a secret")
    async with opened(endpoint="http://127.0.0.1:1") as tracing:
        with tracing.begin("turn", "consumer", {}):
            pass
    (line,) = lines(log)
    assert line["event"] == "traces_not_exported"
    assert line["spans"] == 1
    assert line["reason"]
    assert "secret" not in log.getvalue()


class Hanging(SpanExporter):
    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.go_on.wait(60)
        return SpanExportResult.SUCCESS


async def test_a_collector_that_hangs_holds_up_neither_the_loop_nor_a_drain(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "FLUSH_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    hanging = Hanging()
    async with asyncio.timeout(10):
        async with opened(hanging) as tracing:
            for _ in range(100):
                with tracing.begin("turn", "consumer", {}):
                    await asyncio.sleep(0)
            assert await asyncio.to_thread(hanging.asked.wait, 5)
    assert [line["event"] for line in lines(log)] == [
        "Queue full, dropping Span.",
        "traces_not_flushed",
    ]
    hanging.go_on.set()


async def test_variables_that_opentelemetry_refuses_are_wrong_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(ConfigError, match="max_queue_size"):
        async with opened(InMemorySpanExporter()):
            pass
