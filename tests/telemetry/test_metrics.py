"""Metric names are an interface: dashboards and alerts rest on them."""

import re
import time
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from replyd.domain import turn
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
    ModelInterrupted,
    ModelSwitched,
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
        (
            ModelAnswered(KEY, ("SM1",), "m", 1500, 120, 30, 1, cached_tokens=100),
            "replyd_tokens_total",
            {"direction": "cached"},
            100,
        ),
        (
            ModelAnswered(KEY, ("SM1",), "m", 1500, 120, 30, 1, cached_tokens=100),
            "replyd_tokens_total",
            {"direction": "input"},
            120,
        ),
        (
            ModelAnswered(KEY, ("SM1",), "m", 1500, 120, 30, 1, microdollars=2500),
            "replyd_model_cost_dollars_total",
            {},
            0.0025,
        ),
        (
            ToolRan(KEY, ("SM1",), "find_order", "failed", 40, 1),
            "replyd_tool_calls_total",
            {"tool": "find_order", "outcome": "failed"},
            1,
        ),
        (
            FileRead("audio", "late", 9000),
            "replyd_files_read_total",
            {"kind": "audio", "outcome": "late"},
            1,
        ),
        (PartSent(KEY, ("SM1",), 1, 1, "SM9", 250, 1), "replyd_send_seconds_sum", {}, 0.25),
        (
            TurnEnded(KEY, "c-1", NUMBER, "handed_over", 1, reason="requested"),
            "replyd_turns_total",
            {"outcome": "handed_over", "reason": "requested"},
            1,
        ),
        (
            TurnEnded(KEY, "c-1", NUMBER, "withheld", 1, reason="over_limit"),
            "replyd_turns_total",
            {"outcome": "withheld", "reason": "over_limit"},
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
            DependencyFailed("tools", "arm_tool", "the tool find_order failed"),
            "replyd_dependency_errors_total",
            {"dependency": "tools", "operation": "arm_tool"},
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
        (
            PersonActed(KEY, "c-1", "reply", "Ann", "unknown", 1),
            "replyd_person_actions_total",
            {"action": "reply", "outcome": "unknown"},
            1,
        ),
        (PoisonReceived("m-1", "no JSON", 3), "replyd_poison_messages_total", {}, 1),
    ],
)
def test_what_an_event_counts(
    event: Event, name: str, labels: dict[str, str], expected: float
) -> None:
    sink = MetricsSink("1.2.3", tools=["find_order"])
    sink.emit(event)
    assert value(sink, name, **labels) == expected


def test_a_model_is_down_until_its_breaker_closes() -> None:
    sink = MetricsSink("1.2.3", profiles=["default", "sales"])
    assert value(sink, "replyd_model_down", profile="sales") == 0
    sink.emit(ModelSwitched("sales", True, "no connection to the API"))
    assert value(sink, "replyd_model_down", profile="sales") == 1
    assert value(sink, "replyd_model_down", profile="default") == 0
    sink.emit(ModelSwitched("sales", False, ""))
    assert value(sink, "replyd_model_down", profile="sales") == 0


@pytest.mark.parametrize(
    "reason",
    [
        turn.REQUESTED,
        turn.OPTED_OUT,
        turn.FAILED,
        turn.AMBIGUOUS,
        turn.TOO_OLD,
        turn.BY_AI,
        turn.OVER_LIMIT,
        turn.LOOP,
        turn.FLAGGED,
    ],
)
def test_every_reason_of_a_handoff_counts_as_itself(reason: str) -> None:
    sink = MetricsSink("1.2.3")
    sink.emit(TurnEnded(KEY, "c-1", NUMBER, "handed_over", 1, reason=reason))
    assert value(sink, "replyd_turns_total", outcome="handed_over", reason=reason) == 1


def test_what_a_round_of_catch_up_found_and_how_far_it_came() -> None:
    sink, now = MetricsSink("1.2.3"), round(time.time() * 1000)
    assert value(sink, "replyd_catch_up_age_seconds") == 0
    sink.emit(CaughtUp("AC1", 10, 1, 5, 2, 1, 0, 250, now))
    assert value(sink, "replyd_catch_up_age_seconds") == 0
    for account, behind in (("AC1", 60), ("AC2", 600)):
        sink.emit(CaughtUp(account, 0, 0, 0, 0, 0, now - behind * 1000, 250, now))
    counts = {"staged": 1, "known": 5, "too_old": 2, "failed": 1}
    for outcome, count in counts.items():
        assert value(sink, "replyd_caught_up_messages_total", outcome=outcome) == count
    assert value(sink, "replyd_catch_up_age_seconds") == pytest.approx(600, abs=60)


def test_the_depth_of_a_queue_is_told_as_long_as_it_is_known() -> None:
    sink = MetricsSink("1.2.3")
    assert value(sink, "replyd_queue_messages", queue="replies", state="visible") is None
    sink.emit(QueueMeasured("replies", visible=7, in_flight=2, delayed=3))
    sink.emit(QueueMeasured("handoff_dlq", visible=1))
    for state, count in {"visible": 7, "in_flight": 2, "delayed": 3}.items():
        assert value(sink, "replyd_queue_messages", queue="replies", state=state) == count
    for _ in range(2):
        sink.emit(QueueMeasured("replies", known=False))
    for state in ("visible", "in_flight", "delayed"):
        assert value(sink, "replyd_queue_messages", queue="replies", state=state) is None
    assert value(sink, "replyd_queue_messages", queue="handoff_dlq", state="visible") == 1


def test_the_longest_wait_is_of_now_or_of_the_last_minute() -> None:
    seconds, now = [0.0], [0.0]
    sink = MetricsSink("1.2.3", elapsed=lambda: seconds[0])
    oldest = partial(value, sink, "replyd_replies_oldest_seconds")
    assert oldest() == 0
    sink.watch(waiting_seconds=lambda: now[0])
    now[0] = 12.5
    assert oldest() == 12.5
    now[0] = 0
    for at, late_ms, expected in ((0, 40_000, 40), (20, 90_000, 90), (40, 30_000, 90)):
        seconds[0] = at
        sink.emit(TurnClaimed(KEY, "c-1", ("SM1",), 1, 99_000, 1, late_ms=late_ms))
        assert oldest() == expected
    seconds[0] = 81
    assert oldest() == 30
    sink.emit(MessageAdopted("m-1", 50_000, 1))
    assert oldest() == 50
    seconds[0] = 141.5
    assert oldest() == 0


def test_labels_are_bounded_and_hold_nothing_a_stranger_chose() -> None:
    sink = MetricsSink("1.2.3", tools=["find_order"], profiles=["default"])
    for i in range(50):
        odd = f"{NUMBER}{i}"
        for event in (
            MessageDropped("SM1", NUMBER, odd, 1),
            RequestRefused(odd, 1000 + i, odd),
            TurnEnded(KEY, "c-1", NUMBER, odd, 1, reason=odd),
            DeliveryReported("SM9", odd, odd, True, 1),
            DependencyFailed(odd, odd, odd, odd),
            ToolRan(KEY, ("SM1",), odd, odd, 40, 1),
            FileRead(odd, odd, 700, odd),
            ModelSwitched(odd, True, odd),
            PersonActed(KEY, "c-1", odd, odd, odd, 1),
            QueueMeasured(odd, 1),
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
    assert value(sink, "replyd_tool_calls_total", tool="other", outcome="other") == 50
    assert value(sink, "replyd_files_read_total", kind="other", outcome="other") == 50
    assert value(sink, "replyd_model_down", profile="other") == 1
    assert value(sink, "replyd_queue_messages", queue="other", state="visible") == 1


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


def test_every_metric_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    told = set(re.findall(r"`(replyd_\w+)`", page.partition("\n## Metrics\n")[2]))
    assert told == {family.name for family in MetricsSink("1").registry.collect()}


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
        "replyd_delivery_seconds",
        "replyd_ack_seconds",
        "replyd_tokens",
        "replyd_model_cost_dollars",
        "replyd_model_down",
        "replyd_tool_calls",
        "replyd_files_read",
        "replyd_model_calls_cancelled",
        "replyd_sends_reconciled",
        "replyd_requests_in_flight",
        "replyd_turns_in_flight",
        "replyd_conversations_held",
        "replyd_dependency_errors",
        "replyd_poison_messages",
        "replyd_delivery_reports",
        "replyd_telemetry_errors",
        "replyd_person_actions",
        "replyd_build_info",
        "replyd_caught_up_messages",
        "replyd_catch_up_age_seconds",
        "replyd_queue_messages",
        "replyd_replies_oldest_seconds",
    }


def test_a_delivery_is_timed_once_and_only_for_what_was_sent_here() -> None:
    sink = MetricsSink("1")
    sink.emit(PartSent(KEY, ("SM1",), 1, 1, "SM9", 250, 1_000))
    for sid, status in (("SM9", "sent"), ("SM9", "delivered"), ("SM9", "read"), ("SM8", "read")):
        sink.emit(DeliveryReported(sid, status, "", False, 3_500))
    text = sink.render()[0].decode()
    assert "replyd_delivery_seconds_count 1.0" in text
    assert "replyd_delivery_seconds_sum 2.5" in text
