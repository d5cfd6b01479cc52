"""The alert rules name what replyd says, fire when they should, and lead to what to do."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.telemetry.queries import all_samples, selectors, unknown

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "config/prometheus-alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
]
TARGET = 'job="replyd",instance="a"'


@dataclass(frozen=True, slots=True)
class Case:
    """Series at one sample a minute; `_` is no sample. With `labels` the alert is there after
    `minutes`, without it is not."""

    alert: str
    minutes: int
    series: dict[str, str]
    labels: dict[str, str] | None = field(default=None)
    value: str = ""


JOB = {"job": "replyd"}
INSTANCE = JOB | {"instance": "a"}
TURNS = f"replyd_turns_total{{{TARGET},outcome="
REFUSED = f'replyd_requests_refused_total{{{TARGET},endpoint="/webhooks/twilio/whatsapp",status='
ACCEPTED = f"replyd_messages_accepted_total{{{TARGET}}}"
BUILD = f'replyd_build_info{{{TARGET},version="1"}}'
POISON = f"replyd_poison_messages_total{{{TARGET}}}"
CREATED = f"replyd_telemetry_errors_created{{{TARGET}}}"
FAILURES = f"replyd_telemetry_errors_total{{{TARGET}}}"
READY = 'probe_success{job="replyd-ready",instance="a"}'
ERRORS = f'replyd_dependency_errors_total{{{TARGET},dependency="openai",operation="model"}}'
RECONCILED = f"replyd_sends_reconciled_total{{{TARGET},outcome="
REPORTS = f"replyd_delivery_reports_total{{{TARGET},status="
ACK = f"replyd_ack_seconds_bucket{{{TARGET},le="
DOWN = f'replyd_model_down{{{TARGET},profile="sales"}}'
CALLS = f'replyd_tool_calls_total{{{TARGET},tool="find_order",outcome='
OLDEST = f"replyd_replies_oldest_seconds{{{TARGET}}}"
DEPTH = f"replyd_queue_messages{{{TARGET},queue="
BACKLOG = f'{DEPTH}"replies",state="visible"}}'
UNREAD = f'replyd_dependency_errors_total{{{TARGET},dependency="sqs",operation="depth"}}'
LATE = "_x29 1x30"  # a counter's first event, after half an hour

CASES = [
    Case("ReplydDown", 5, {f"up{{{TARGET}}}": "1 0x10"}, INSTANCE),
    Case("ReplydDown", 5, {f"up{{{TARGET}}}": "1x3 0 1x10"}),
    Case("ReplydNotReady", 8, {READY: "0x20"}, {"job": "replyd-ready", "instance": "a"}),
    Case("ReplydNotReady", 8, {READY: "1x4 0x20"}),
    Case("ReplydRestarting", 20, {CREATED: "1x5 6x5 11x5 16x20"}, INSTANCE, "3"),
    Case("ReplydRestarting", 20, {CREATED: "1x9 10x20"}),
    Case("ReplydNoProgress", 30, {ACCEPTED: "0+1x40", BUILD: "1x40"}, JOB),
    Case(
        "ReplydNoProgress",
        40,
        {ACCEPTED: "0+1x40", BUILD: "1x40", f'{TURNS}"replied",reason=""}}': "0+1x9 10x40"},
        JOB,
    ),
    Case(
        "ReplydNoProgress",
        40,
        {ACCEPTED: "0+1x40", BUILD: "1x40", f'{TURNS}"replied",reason=""}}': "0+1x40"},
    ),
    Case("ReplydNoProgress", 40, {ACCEPTED: "5x40", BUILD: "1x40"}),
    Case("ReplydCustomersWait", 8, {OLDEST: "0 130x20"}, JOB),
    Case(
        "ReplydCustomersWait",
        8,
        {OLDEST: "0x20", OLDEST.replace('"a"', '"b"'): "0 130x20"},
        JOB,
    ),
    Case("ReplydCustomersWait", 8, {OLDEST: "0x3 500 500 0x20"}),
    Case("ReplydCustomersWait", 8, {OLDEST: "110x20"}),
    Case("ReplydBacklog", 30, {BACKLOG: "0x4 50+5x40"}, JOB),
    Case("ReplydBacklog", 30, {BACKLOG: "40x40"}, JOB),
    Case("ReplydBacklog", 30, {BACKLOG: "0 0+300x40", ACCEPTED: "0+300x40"}, JOB),
    # Ten a second: what is visible is on its way.
    Case("ReplydBacklog", 30, {BACKLOG: "40x40", ACCEPTED: "0+600x40"}),
    # It drains, slowly.
    Case("ReplydBacklog", 30, {BACKLOG: "0x4 500-5x40"}),
    # It is busy, and keeps up.
    Case("ReplydBacklog", 30, {BACKLOG: " ".join(["0 3 5 1"] * 8)}),
    Case("ReplydBacklog", 30, {f'{DEPTH}"replies",state="in_flight"}}': "40x40"}),
    Case("ReplydBacklog", 30, {f'{DEPTH}"handoff",state="visible"}}': "40x40"}),
    Case(
        "ReplydDeadLetters",
        35,
        {f'{DEPTH}"handoff_dlq",state="visible"}}': "0x30 1x20"},
        JOB | {"queue": "handoff_dlq"},
    ),
    Case("ReplydDeadLetters", 35, {f'{DEPTH}"handoff",state="visible"}}': "9x50"}),
    # An operator looks at them, or has moved them back.
    Case("ReplydDeadLetters", 35, {f'{DEPTH}"replies_dlq",state="visible"}}': "3x29 0x20"}),
    Case("ReplydQueuesUnread", 30, {UNREAD: "0+2x40"}, JOB),
    Case("ReplydQueuesUnread", 30, {UNREAD: "0x20 3x20"}),
    Case(
        "ReplydTurnsParked",
        35,
        {f'{TURNS}"handed_over",reason="too_old"}}': LATE},
        JOB | {"reason": "too_old"},
    ),
    Case(
        "ReplydTurnsParked",
        35,
        {f'{TURNS}"handed_over",reason="failed"}}': "4x30 5x10"},
        JOB | {"reason": "failed"},
    ),
    Case("ReplydTurnsParked", 59, {f'{TURNS}"handed_over",reason="failed"}}': LATE}),
    Case("ReplydTurnsParked", 35, {f'{TURNS}"handed_over",reason="requested"}}': LATE}),
    Case("ReplydBugs", 35, {f'{TURNS}"bug",reason=""}}': LATE}, JOB),
    Case("ReplydBugs", 35, {f'{REFUSED}"503",reason="bug"}}': LATE}, JOB),
    Case("ReplydBugs", 35, {f'{REFUSED}"403",reason="bad_signature"}}': LATE}),
    Case("ReplydModelDown", 8, {DOWN: "0 1x20"}, JOB | {"profile": "sales"}),
    Case("ReplydModelDown", 8, {DOWN: "1x5 0 1x20"}),
    Case(
        "ReplydToolsFailing",
        30,
        {f'{CALLS}"failed"}}': "0+1x60", f'{CALLS}"done"}}': "0+1x60"},
        JOB | {"tool": "find_order"},
    ),
    Case("ReplydToolsFailing", 30, {f'{CALLS}"unknown"}}': "0+1x60"}, JOB | {"tool": "find_order"}),
    Case("ReplydToolsFailing", 30, {f'{CALLS}"failed"}}': "0+1x60", f'{CALLS}"done"}}': "0+9x60"}),
    Case("ReplydToolsFailing", 30, {f'{CALLS}"failed"}}': "0x25 3x40"}),
    Case("ReplydToolsFailing", 30, {f'{CALLS}"refused"}}': "0+1x60"}),
    Case("ReplydLoops", 35, {f'{TURNS}"handed_over",reason="loop"}}': LATE}, JOB),
    Case("ReplydLoops", 35, {f'{TURNS}"handed_over",reason="loop"}}': "1x30 2x10"}, JOB),
    Case("ReplydLoops", 59, {f'{TURNS}"handed_over",reason="loop"}}': LATE}),
    Case(
        "ReplydBudgetsUsedUp",
        35,
        {f'{TURNS}"withheld",reason="over_limit"}}': LATE},
        JOB | {"outcome": "withheld"},
    ),
    Case(
        "ReplydBudgetsUsedUp",
        35,
        {f'{TURNS}"handed_over",reason="over_limit"}}': "4x30 5x10"},
        JOB | {"outcome": "handed_over"},
    ),
    Case("ReplydBudgetsUsedUp", 35, {f'{TURNS}"handed_over",reason="requested"}}': LATE}),
    Case("ReplydPoisonMessages", 35, {POISON: "0x30 1x20"}, JOB),
    Case("ReplydPoisonMessages", 35, {POISON: "7x50"}),
    Case("ReplydDependencyErrors", 40, {ERRORS: "0+10x60"}, JOB | {"dependency": "openai"}),
    Case("ReplydDependencyErrors", 40, {ERRORS: "0+5x60"}),
    Case(
        "ReplydSendsUnclear",
        35,
        {f'{RECONCILED}"handed_over"}}': LATE},
        JOB | {"outcome": "handed_over"},
    ),
    Case("ReplydSendsUnclear", 35, {f'{RECONCILED}"accepted"}}': LATE}),
    Case("ReplydRepliesUndelivered", 35, {f'{REPORTS}"undelivered"}}': LATE}, JOB),
    Case("ReplydRepliesUndelivered", 35, {f'{REPORTS}"read"}}': "0+1x60"}),
    Case(
        "ReplydAckSlow",
        20,
        {f'{ACK}"5.0"}}': "0+1x30", f'{ACK}"10.0"}}': "0+9x30", f'{ACK}"+Inf"}}': "0+9x30"},
        JOB,
    ),
    Case("ReplydAckSlow", 20, {f'{ACK}"5.0"}}': "0+9x30", f'{ACK}"+Inf"}}': "0+9x30"}),
    Case(
        "ReplydWebhooksUnavailable",
        35,
        {f'{REFUSED}"503",reason="overloaded"}}': LATE},
        JOB | {"reason": "overloaded"},
    ),
    Case("ReplydWebhooksUnavailable", 35, {f'{REFUSED}"400",reason="not_a_message"}}': LATE}),
    Case(
        "ReplydSignaturesRefused", 30, {f'{REFUSED}"403",reason="bad_signature"}}': "0+1x60"}, JOB
    ),
    Case(
        "ReplydSignaturesRefused",
        30,
        {f'{REFUSED}"403",reason="bad_signature"}}': "0+9x60", ACCEPTED: "0+1x60"},
    ),
    Case("ReplydTelemetryErrors", 35, {FAILURES: "0x30 2x20"}, INSTANCE),
    Case("ReplydTelemetryErrors", 35, {FAILURES: "2x50"}),
]


def promtool(*arguments: str | Path) -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool (Debian package prometheus) is not installed")
    done = subprocess.run([path, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", FILE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_names_only_what_replyd_says(rule: dict[str, Any]) -> None:
    assert selectors(rule["expr"])
    assert unknown(rule["expr"], all_samples()) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (REPOSITORY / page).read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    names = {rule["alert"] for rule in RULES}
    assert {case.alert for case in CASES if case.labels is not None} == names
    assert {case.alert for case in CASES if case.labels is None} == names


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in case.series.items()],
            "alert_rule_test": [
                {
                    "alertname": case.alert,
                    "eval_time": f"{case.minutes}m",
                    "exp_alerts": [] if case.labels is None else [_expected(case)],
                }
            ],
        }
        for case in CASES
    ]
    file = tmp_path / "alerts_test.yaml"
    file.write_text(json.dumps({"rule_files": [str(FILE)], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", file)


def _expected(case: Case) -> dict[str, Any]:
    assert case.labels is not None
    rule = next(rule for rule in RULES if rule["alert"] == case.alert)
    values = {f"$labels.{k}": v for k, v in case.labels.items()} | {"$value": case.value}
    return {
        "exp_labels": {"severity": rule["labels"]["severity"]} | case.labels,
        "exp_annotations": {
            name: re.sub(r"\{\{ (\S+) \}\}", lambda found: values[found[1]], text)
            for name, text in rule["annotations"].items()
        },
    }
