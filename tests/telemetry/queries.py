"""What PromQL names, compared with what replyd can say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from prometheus_client.parser import text_string_to_metric_families

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
from replyd.telemetry import labels
from replyd.telemetry.metrics import MetricsSink

# Prometheus and its prober say these of each target.
FOREIGN = {"up", "probe_success"}
TARGET_LABELS = {"job", "instance"}
TOOLS = {"find_order", "cancel_order"}
PROFILES = {"default", "sales"}
_KEY = ConversationKey("+447700900001", "c-1")
_SELECTOR = re.compile(r"\b(replyd_\w+|up|probe_success)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> list[Selector]:
    return [
        Selector(found[1], tuple(_MATCHER.findall(found[2] or "")))
        for found in _SELECTOR.finditer(expression)
    ]


def grouping_labels(expression: str) -> set[str]:
    lists = _GROUPING.findall(expression)
    return {label.strip() for each in lists for label in each.split(",")}


def all_samples() -> dict[str, list[dict[str, str]]]:
    """Names and labels of everything that /metrics can show."""
    sink = MetricsSink("1", tools=TOOLS, profiles=PROFILES)
    for event in _every_event():
        sink.emit(event)
    samples: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(sink.render()[0].decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    return samples


def _every_event() -> Iterator[Event]:
    yield MessageAccepted(_KEY, "c-1", "SM1", "", 1, 1000, 6000, False, 1000)
    yield TurnClaimed(_KEY, "c-1", ("SM1",), 1, 5000, 1)
    yield ModelAnswered(_KEY, ("SM1",), "m", 1500, 120, 30, 1)
    yield PartSent(_KEY, ("SM1",), 1, 1, "SM9", 250, 1)
    yield PoisonReceived("m-1", "no JSON", 3)
    for reason in labels.DROPS:
        yield MessageDropped("SM1", "", reason, 1)
    for endpoint, status, reason in product(labels.ENDPOINTS, labels.STATUSES, labels.REFUSALS):
        yield RequestRefused(endpoint, int(status), reason)
    for outcome, reason in product(labels.OUTCOMES, {*labels.REASONS, ""}):
        yield TurnEnded(_KEY, "c-1", "", outcome, 1, reason=reason)
    for dependency, operation in product(labels.DEPENDENCIES, labels.OPERATIONS):
        yield DependencyFailed(dependency, operation, "")
    yield from _every_event_of_the_model()
    for outcome in labels.RECONCILED:
        yield SendReconciled(_KEY, "c-1", "t-1", 2, 1, outcome, 1)
    for action, outcome in product(labels.PERSON_ACTIONS, labels.PERSON_OUTCOMES):
        yield PersonActed(_KEY, "c-1", action, "Ann", outcome, 1)
    yield MessageAdopted("m-1", 7000, 1)
    for queue in labels.QUEUES:
        yield QueueMeasured(queue, 1, 2, 3)
    yield CaughtUp("AC1", 4, 1, 1, 1, 1, 9000, 250, 9300)
    for status in labels.DELIVERIES:
        yield DeliveryReported("SM9", status, "", True, 1)


def _every_event_of_the_model() -> Iterator[Event]:
    for reason in labels.INTERRUPTIONS:
        yield ModelInterrupted(_KEY, ("SM1",), reason, 300, 1)
    for tool, outcome in product(TOOLS, labels.TOOL_OUTCOMES):
        yield ToolRan(_KEY, ("SM1",), tool, outcome, 40, 1)
    for kind, outcome in product(labels.FILES, labels.FILE_OUTCOMES):
        yield FileRead(kind, outcome, 700)
    for profile in PROFILES:
        yield ModelSwitched(profile, True, "")


def unknown(expression: str, samples: dict[str, list[dict[str, str]]]) -> list[str]:
    """What the expression names and replyd never says."""
    found = []
    labels = set(TARGET_LABELS)
    for selector in selectors(expression):
        if selector.name in FOREIGN:
            continue
        series = samples.get(selector.name, [])
        if not series:
            found.append(selector.name)
        labels |= {label for each in series for label in each}
        for label, operator, text in selector.matchers:
            if label in TARGET_LABELS:
                continue
            wanted = text.split("|") if "~" in operator else [text]
            said = {each.get(label) for each in series}
            found += [f"{selector.name}{{{label}={v!r}}}" for v in wanted if v not in said]
    return found + sorted(grouping_labels(expression) - labels)
