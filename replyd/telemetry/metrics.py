"""Prometheus metrics. Names, units and labels are declared here and nowhere else.

No label holds customer data, and each takes its values from a fixed set: what is not in the set
counts as `other`, so that the number of series is bounded whatever comes in.
"""

import time
from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

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
from replyd.telemetry.delivery_times import DeliveryTimes
from replyd.telemetry.gauges import Gauges
from replyd.telemetry.labels import (
    DELIVERIES,
    DEPENDENCIES,
    DROPS,
    ENDPOINTS,
    FILE_OUTCOMES,
    FILES,
    INTERRUPTIONS,
    OPERATIONS,
    OTHER,
    OUTCOMES,
    PERSON_ACTIONS,
    PERSON_OUTCOMES,
    REASONS,
    RECONCILED,
    REFUSALS,
    STATUSES,
    TOOL_OUTCOMES,
)

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
_SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 180.0)


class MetricsSink:
    """Implements `ports.Telemetry`: counts events in a registry of its own.

    `tools`, `profiles`: the names that the settings give, as the events have them. `elapsed`:
    seconds on a clock that only goes forward."""

    def __init__(
        self,
        version: str,
        *,
        tools: Collection[str] = (),
        profiles: Collection[str] = (),
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._tools, self._profiles = frozenset(tools), frozenset(profiles)
        self._accepted = self._counter(
            "replyd_messages_accepted", "Messages made durable, redeliveries not counted."
        )
        self._dropped = self._counter(
            "replyd_messages_dropped", "Messages that became part of no turn.", "reason"
        )
        self._refused = self._counter(
            "replyd_requests_refused",
            "Webhook requests answered with an error.",
            "endpoint",
            "status",
            "reason",
        )
        self._turns = self._counter(
            "replyd_turns", "Holds on a conversation, by how they ended.", "outcome", "reason"
        )
        self._tokens = self._counter(
            "replyd_tokens",
            "Tokens that the model read and wrote; input includes what was cached.",
            "direction",
        )
        self._cost = self._counter(
            "replyd_model_cost_dollars",
            "Cost of the model's answers by the prices in the settings.",
        )
        self._tool_calls = self._counter(
            "replyd_tool_calls", "Calls of tools by the model.", "tool", "outcome"
        )
        self._files = self._counter(
            "replyd_files_read", "Customers' files to be read for the model.", "kind", "outcome"
        )
        self._errors = self._counter(
            "replyd_dependency_errors",
            "Calls that did not succeed, retries included.",
            "dependency",
            "operation",
        )
        self._interrupted = self._counter(
            "replyd_model_calls_cancelled",
            "Calls of the model that were cancelled because their answer was no longer wanted.",
            "reason",
        )
        self._reconciled = self._counter(
            "replyd_sends_reconciled",
            "Replies looked up because it was not known whether Twilio had accepted them.",
            "outcome",
        )
        self._poison = self._counter(
            "replyd_poison_messages", "Receives of a queue body that cannot be read."
        )
        self._deliveries = self._counter(
            "replyd_delivery_reports", "Delivery callbacks from Twilio.", "status"
        )
        self._people = self._counter(
            "replyd_person_actions", "What people did with conversations.", "action", "outcome"
        )
        self._sink_failures = self._counter(
            "replyd_telemetry_errors",
            "Events that a log or another sink failed to take, and batches of spans lost.",
        )
        self._window_wait = self._histogram(
            "replyd_window_wait_seconds", "From a burst's first message to its claim.", _SLOW
        )
        self._model = self._histogram(
            "replyd_model_seconds", "One successful call of the model.", _SLOW
        )
        self._send = self._histogram(
            "replyd_send_seconds", "Handing one part of a reply to Twilio.", _FAST
        )
        self._times = DeliveryTimes()
        self._delivery = self._histogram(
            "replyd_delivery_seconds",
            "From a part's acceptance by Twilio to its delivery, where the callback reached the "
            "process that sent it.",
            _SLOW,
        )
        self._ack = self._histogram(
            "replyd_ack_seconds", "From a webhook's request to its answer.", _FAST
        )
        self._gauges = Gauges(self.registry, elapsed)
        self.watch = self._gauges.watch
        self._caught_up = self._counter(
            "replyd_caught_up_messages",
            "Messages in Twilio's list, by what CATCH-UP made of them.",
            "outcome",
        )
        self._seen_until: dict[str, int] = {}
        Gauge(
            "replyd_catch_up_age_seconds",
            "Since when messages that no webhook brought may be unknown, as this process knows it.",
            registry=self.registry,
        ).set_function(self._catch_up_age)
        self._down = Gauge(
            "replyd_model_down",
            "1 while a profile's model is left alone because it failed, else 0.",
            labelnames=["profile"],
            registry=self.registry,
        )
        for profile in self._profiles:
            self._down.labels(profile).set(0)
        build = Gauge(
            "replyd_build_info", "Always 1.", labelnames=["version"], registry=self.registry
        )
        build.labels(version).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labelnames=labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def emit(self, event: Event) -> None:
        match event:
            case MessageAccepted(again=False):
                self._accepted.inc()
            case MessageDropped():
                self._dropped.labels(_known(event.reason, DROPS)).inc()
            case RequestRefused():
                self._refused.labels(
                    _known(event.endpoint, ENDPOINTS),
                    _known(str(event.status), STATUSES),
                    _known(event.reason, REFUSALS),
                ).inc()
            case DeliveryReported():
                self._count_delivery(event)
            case PoisonReceived():
                self._poison.inc()
            case DependencyFailed():
                self._errors.labels(
                    _known(event.dependency, DEPENDENCIES), _known(event.operation, OPERATIONS)
                ).inc()
            case FileRead():
                self._files.labels(
                    _known(event.kind, FILES), _known(event.outcome, FILE_OUTCOMES)
                ).inc()
            case ModelSwitched():
                self._down.labels(_known(event.profile, self._profiles)).set(int(event.down))
            case MessageAdopted() | QueueMeasured():
                self._gauges.emit(event)
            case _:
                self._emit_of_turn(event)

    def _count_delivery(self, event: DeliveryReported) -> None:
        self._deliveries.labels(_known(event.status, DELIVERIES)).inc()
        if event.status in ("delivered", "read"):
            seconds = self._times.delivered(event.sid, event.at)
            if seconds is not None:
                self._delivery.observe(seconds)

    def _count_caught_up(self, event: CaughtUp) -> None:
        for outcome in ("staged", "too_old", "known", "failed"):
            self._caught_up.labels(outcome).inc(getattr(event, outcome))
        self._seen_until[event.account] = event.seen_until

    def _catch_up_age(self) -> float:
        """Of the account that is furthest behind; 0 before the first round."""
        known = [until for until in self._seen_until.values() if until]
        return time.time() - min(known) / 1000 if known else 0.0

    def _emit_of_turn(self, event: Event) -> None:
        match event:
            case TurnClaimed():
                self._window_wait.observe(event.window_wait_ms / 1000)
                self._gauges.emit(event)
            case ModelAnswered():
                self._model.observe(event.duration_ms / 1000)
                self._tokens.labels("input").inc(event.input_tokens)
                self._tokens.labels("cached").inc(event.cached_tokens)
                self._tokens.labels("output").inc(event.output_tokens)
                self._cost.inc(event.microdollars / 1_000_000)
            case ToolRan():
                self._tool_calls.labels(
                    _known(event.tool, self._tools), _known(event.outcome, TOOL_OUTCOMES)
                ).inc()
            case ModelInterrupted():
                self._interrupted.labels(_known(event.reason, INTERRUPTIONS)).inc()
            case SendReconciled():
                self._reconciled.labels(_known(event.outcome, RECONCILED)).inc()
            case PersonActed():
                self._people.labels(
                    _known(event.action, PERSON_ACTIONS), _known(event.outcome, PERSON_OUTCOMES)
                ).inc()
            case PartSent():
                self._send.observe(event.duration_ms / 1000)
                self._times.sent(event.part_sid, event.at)
            case TurnEnded():
                reason = _known(event.reason, REASONS) if event.reason else ""
                self._turns.labels(_known(event.outcome, OUTCOMES), reason).inc()
            case CaughtUp():
                self._count_caught_up(event)
            case _:
                pass

    def observe_ack(self, seconds: float) -> None:
        """How long a webhook request took, whatever its answer."""
        self._ack.observe(seconds)

    def sink_failed(self, _sink: str) -> None:
        """For `telemetry.Fanout`."""
        self._sink_failures.inc()

    def render(self) -> tuple[bytes, str]:
        """The text of `/metrics` and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def _known(value: str, allowed: Collection[str]) -> str:
    return value if value in allowed else OTHER
