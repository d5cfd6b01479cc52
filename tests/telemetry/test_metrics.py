"""Metric names are an interface: dashboards and alerts rest on them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from replyd.domain.events import (
    DeliveryReported,
    DependencyFailed,
    Event,
    MessageAccepted,
    MessageDropped,
    ModelAnswered,
    ModelInterrupted,
    PartSent,
    PoisonReceived,
    RequestRefused,
    SendReconciled,
    TurnClaimed,
    TurnEnded,
)
from replyd.domain.messages import ConversationKey
from replyd.telemetry.metrics import MetricsSink

NUMBER = "+447700900001"
KEY = ConversationKey(NUMBER, "c-1")


def samples(sink: MetricsSink) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, content_type = sink.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(sink: MetricsSink, name: str, **labels: str) -> float | None:
    return samples(sink).get((name, tuple(sorted(labels.items()))))


def accepted(*, again: bool = False) -> MessageAccepted:
    return MessageAccepted(KEY, "c-1", "SM1", NUMBER, 1, 1000, 6000, again, 1000)


@pytest.mark.parametrize(
    ("event", "name", "labels", "expected"),
    [
        (accepted(), "replyd_messages_accepted_total", {}, 1),
        (accepted(again=True), "replyd_messages_accepted_total", {}, 0),
        (
            MessageDropped("SM1", NUMBER, "unknown_sender", 1),
            "replyd_messages_dropped_total",
            {"reason": "unknown_sender"},
            1,
        ),
        (
            RequestRefused("/webhooks/twilio/whatsapp", 403, "bad_signature"),
            "replyd_requests_refused_total",
            {"endpoint": "/webhooks/twilio/whatsapp", "status": "403", "reason": "bad_signature"},
            1,
        ),
        (
            TurnClaimed(KEY, "c-1", ("SM1",), 1, 5000, 1),
            "replyd_window_wait_seconds_sum",
            {},
            5,
        ),
        (
            ModelAnswered(KEY, ("SM1",), "m", 1500, 120, 30, 1),
            "replyd_model_seconds_sum",
            {},
            1.5,
        ),
        (
            ModelAnswered(KEY, ("SM1",), "m", 1500, 120, 30, 1),
            "replyd_tokens_total",
            {"direction": "output"},
            30,
        ),
        (PartSent(KEY, ("SM1",), 1, 1, "SM9", 250, 1), "replyd_send_seconds_sum", {}, 0.25),
        (
            TurnEnded(KEY, "c-1", NUMBER, "handed_over", 1, reason="requested"),
            "replyd_turns_total",
            {"outcome": "handed_over", "reason": "requested"},
            1,
        ),
        (
            TurnEnded(KEY, "c-1", NUMBER, "replied", 1),
            "replyd_turns_total",
            {"outcome": "replied", "reason": ""},
            1,
        ),
        (
            DeliveryReported("SM9", "failed", "63024", True, 1),
            "replyd_delivery_reports_total",
            {"status": "failed"},
            1,
        ),
        (
            DependencyFailed("openai", "model", "did not answer"),
            "replyd_dependency_errors_total",
            {"dependency": "openai", "operation": "model"},
            1,
        ),
        (
            ModelInterrupted(KEY, ("SM1",), "newer_messages", 300, 1),
            "replyd_model_calls_cancelled_total",
            {"reason": "newer_messages"},
            1,
        ),
        (
            SendReconciled(KEY, "c-1", "t-1", 2, 1, "resumed", 1),
            "replyd_sends_reconciled_total",
            {"outcome": "resumed"},
            1,
        ),
        (PoisonReceived("m-1", "no JSON", 3), "replyd_poison_messages_total", {}, 1),
    ],
)
def test_what_an_event_counts(
    event: Event, name: str, labels: dict[str, str], expected: float
) -> None:
    sink = MetricsSink("1.2.3")
    sink.emit(event)
    assert value(sink, name, **labels) == expected


def test_labels_are_bounded_and_hold_nothing_a_stranger_chose() -> None:
    sink = MetricsSink("1.2.3")
    for i in range(50):
        odd = f"{NUMBER}{i}"
        for event in (
            MessageDropped("SM1", NUMBER, odd, 1),
            RequestRefused(odd, 1000 + i, odd),
            TurnEnded(KEY, "c-1", NUMBER, odd, 1, reason=odd),
            DeliveryReported("SM9", odd, odd, True, 1),
            DependencyFailed(odd, odd, odd, odd),
        ):
            sink.emit(event)
    assert NUMBER not in sink.render()[0].decode()
    assert value(sink, "replyd_messages_dropped_total", reason="other") == 50
    assert (
        value(
            sink, "replyd_requests_refused_total", endpoint="other", status="other", reason="other"
        )
        == 50
    )
    assert value(sink, "replyd_turns_total", outcome="other", reason="other") == 50


def test_gauges_are_read_when_they_are_asked_for() -> None:
    sink, inflight = MetricsSink("1.2.3"), [3]
    sink.watch(
        requests_in_flight=lambda: inflight[0],
        turns_in_flight=lambda: 2,
        conversations_held=lambda: 1,
    )
    assert value(sink, "replyd_requests_in_flight") == 3
    inflight[0] = 7
    assert value(sink, "replyd_requests_in_flight") == 7
    assert value(sink, "replyd_turns_in_flight") == 2
    assert value(sink, "replyd_conversations_held") == 1


def test_acknowledgements_and_sink_failures() -> None:
    sink = MetricsSink("1.2.3")
    sink.observe_ack(0.02)
    sink.sink_failed("LogSink")
    assert value(sink, "replyd_ack_seconds_count") == 1
    assert value(sink, "replyd_ack_seconds_bucket", le="0.025") == 1
    assert value(sink, "replyd_telemetry_errors_total") == 1
    assert value(sink, "replyd_build_info", version="1.2.3") == 1


def test_two_sinks_share_nothing() -> None:
    first, second = MetricsSink("1"), MetricsSink("1")
    first.emit(accepted())
    assert value(second, "replyd_messages_accepted_total") == 0


def test_names_are_what_dashboards_know() -> None:
    names = {family.name for family in MetricsSink("1").registry.collect()}
    assert names == {
        "replyd_messages_accepted",
        "replyd_messages_dropped",
        "replyd_requests_refused",
        "replyd_turns",
        "replyd_window_wait_seconds",
        "replyd_model_seconds",
        "replyd_send_seconds",
        "replyd_ack_seconds",
        "replyd_tokens",
        "replyd_model_calls_cancelled",
        "replyd_sends_reconciled",
        "replyd_requests_in_flight",
        "replyd_turns_in_flight",
        "replyd_conversations_held",
        "replyd_dependency_errors",
        "replyd_poison_messages",
        "replyd_delivery_reports",
        "replyd_telemetry_errors",
        "replyd_build_info",
    }
