"""What a log line shows, and above all what it does not."""

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog

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
from replyd.domain.messages import ConversationKey
from replyd.telemetry import Fanout
from replyd.telemetry.logs import REFUSALS_SECONDS, LogSink, bug, configure

NUMBER = "+447700900001"
KEY = ConversationKey(NUMBER, "c-1")
SIDS = ("SM1", "SM2")

EVENTS: list[Event] = [
    MessageAccepted(KEY, "c-1", "SM1", NUMBER, 1, 1000, 6000, False, 1000),
    MessageDropped("SM1", NUMBER, "unknown_sender", 1000),
    RequestRefused("whatsapp", 403, "bad_signature"),
    TurnClaimed(KEY, "c-1", SIDS, 1, 5000, 6000),
    ModelAsked(KEY, SIDS, 6000),
    ModelAnswered(KEY, SIDS, "gpt-6-luna", 900, 120, 30, 7000),
    ModelInterrupted(KEY, SIDS, "newer_messages", 300, 7000),
    ModelSwitched("sales", True, "no connection to the API"),
    ToolRan(KEY, SIDS, "find_order", "done", 40, 6500),
    FileRead("audio", "read", 700),
    PartSent(KEY, SIDS, 1, 1, "SM9", 80, 7100),
    SendReconciled(KEY, "c-1", "t-1", 2, 1, "resumed", 7150),
    TurnEnded(KEY, "c-1", NUMBER, "replied", 7200, turn_id="t-1", sids=SIDS, reply_sids=("SM9",)),
    DeliveryReported("SM9", "delivered", "", True, 8000),
    PersonActed(KEY, "c-1", "reply", "Ann", "accepted", 8100, "person-k"),
    DependencyFailed("openai", "respond", "did not answer in time", "timeout"),
    PoisonReceived("m-1", "no JSON", 3),
    NoticeSent(NUMBER, True, "", 9000),
    CaughtUp("AC1", 7, 0, 7, 0, 0, 9000, 250, 9300),
    MessageAdopted("m-1", 7000, 9400),
    QueueMeasured("replies", 3, 1, 2),
]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(*events: Event, level: str = "DEBUG") -> list[dict[str, Any]]:
    stream = io.StringIO()
    configure(level, "json", stream)
    sink = LogSink(elapsed=lambda: 0.0)
    for event in events:
        sink.emit(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_there_is_an_example_of_every_event() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_every_event_is_a_json_line_without_a_number(event: Event) -> None:
    (line,) = logged(event)
    assert {"timestamp", "level", "event"} <= line.keys()
    text = json.dumps(line)
    assert NUMBER not in text
    assert NUMBER[1:] not in text
    assert "key" not in line


def test_every_line_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    section = page.partition("\n## Log lines\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == {line["event"] for line in logged(*EVENTS)}


def test_a_turn_is_one_wide_line() -> None:
    lines = logged(*EVENTS, level="INFO")
    (turn,) = [line for line in lines if line["event"] == "turn_ended"]
    assert turn["level"] == "info"
    assert turn["conversation_id"] == "c-1"
    assert turn["customer"] == "+44…01"
    assert turn["sids"] == ["SM1", "SM2"]
    assert turn["reply_sids"] == ["SM9"]
    assert (turn["messages"], turn["parts"]) == (2, 1)
    assert {"window_wait_ms", "model_ms", "send_ms", "total_ms", "input_tokens"} <= turn.keys()
    assert "message_accepted" not in {line["event"] for line in lines}


def test_a_turn_tells_its_cost_in_dollars_and_what_is_out_of_the_ordinary() -> None:
    plain = TurnEnded(KEY, "c-1", NUMBER, "replied", 1, microdollars=1_234_567)
    special = replace(plain, profile="sales", tool_calls=2, cached_tokens=100)
    first, second = logged(plain, special)
    assert first["cost_usd"] == 1.234567
    assert not {"microdollars", "profile", "tool_calls"} & first.keys()
    assert (second["profile"], second["tool_calls"], second["cached_tokens"]) == ("sales", 2, 100)


def test_a_cost_below_a_cent_is_not_lost() -> None:
    turn_ended = TurnEnded(KEY, "c-1", NUMBER, "replied", 1, microdollars=7)
    assert logged(turn_ended)[0]["cost_usd"] == 0.000007


def test_texts_are_shown_only_where_the_event_has_them() -> None:
    silent = TurnEnded(KEY, "c-1", NUMBER, "replied", 1)
    lines = logged(silent, replace(silent, question="Open today?", answer="Until six."))
    assert "question" not in lines[0]
    assert (lines[1]["question"], lines[1]["answer"]) == ("Open today?", "Until six.")


def test_the_words_of_a_model_that_hands_over_are_a_text_too() -> None:
    silent = TurnEnded(
        KEY, "c-1", NUMBER, "handed_over", 1, reason=turn.BY_AI, detail="Ann has a lump"
    )
    withheld, shown = logged(silent, replace(silent, question="I have a lump."))
    assert "Ann" not in json.dumps(withheld)
    assert shown["detail"] == "Ann has a lump"


@pytest.mark.parametrize("reason", [turn.FAILED, turn.OVER_LIMIT, turn.LOOP, turn.FLAGGED])
def test_why_replyd_itself_hands_over_is_always_shown(reason: str) -> None:
    (line,) = logged(TurnEnded(KEY, "c-1", NUMBER, "handed_over", 1, reason=reason, detail="so"))
    assert line["detail"] == "so"


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ModelSwitched("sales", True, "no connection to the API"), "warning"),
        (ModelSwitched("sales", False, ""), "info"),
        (ToolRan(KEY, SIDS, "find_order", "done", 40, 1), "debug"),
        (ToolRan(KEY, SIDS, "find_order", "refused", 0, 1), "info"),
        (ToolRan(KEY, SIDS, "find_order", "repeated", 0, 1), "info"),
        (ToolRan(KEY, SIDS, "find_order", "failed", 40, 1), "warning"),
        (ToolRan(KEY, SIDS, "find_order", "unknown", 40, 1), "warning"),
        (FileRead("image", "read", 700), "debug"),
        (FileRead("image", "failed", 700, "the file is too large"), "info"),
        (FileRead("audio", "late", 9000), "info"),
    ],
)
def test_level_of_an_event(event: Event, level: str) -> None:
    (line,) = logged(event)
    assert line["level"] == level


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        ("replied", "info"),
        ("withheld", "info"),
        ("handed_over", "info"),
        ("nothing_to_do", "debug"),
        ("partly_sent", "warning"),
        ("retry", "warning"),
        ("lease_lost", "warning"),
    ],
)
def test_level_of_a_turn(outcome: str, level: str) -> None:
    (line,) = logged(TurnEnded(KEY, "c-1", NUMBER, outcome, 1))
    assert line["level"] == level


def test_what_did_not_arrive_is_a_warning() -> None:
    failed = DeliveryReported("SM9", "undelivered", "63024", True, 1)
    unsent = NoticeSent(NUMBER, False, "busy", 1)
    assert [line["level"] for line in logged(failed, unsent)] == ["warning", "warning"]


def test_refusals_of_one_kind_do_not_flood() -> None:
    stream, time = io.StringIO(), [0.0]
    configure("INFO", "json", stream)
    sink = LogSink(elapsed=lambda: time[0])
    refusal = RequestRefused("whatsapp", 403, "bad_signature")
    for _ in range(1000):
        sink.emit(refusal)
    sink.emit(RequestRefused("whatsapp", 413, "too_large"))
    time[0] = REFUSALS_SECONDS
    sink.emit(refusal)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["status"], line["count"]) for line in lines] == [(403, 1), (413, 1), (403, 1000)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no item for +447700900001 yet", "no item for +44…01 yet"),
        (
            "GET /Messages.json?To=whatsapp%3A%2B447700900001&x=1",
            "GET /Messages.json?To=+44…01&x=1",
        ),
        ("from whatsapp:US.ABC123DEF", "from US.…EF"),
        ("KeyError: 'US.ABC123DEF'", "KeyError: 'US.…EF'"),
        ("turn 12 of SM0123456789 at 1700000000000", "turn 12 of SM0123456789 at 1700000000000"),
    ],
)
def test_addresses_are_masked_in_any_text(text: str, shown: str) -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream)
    structlog.get_logger().info("x", reason=text)
    logging.getLogger("some.library").warning("%s", text)
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert ours["reason"] == shown
    assert theirs["event"] == shown


def test_a_value_that_json_does_not_know_is_not_shown() -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream)
    structlog.get_logger().info("x", key=KEY)
    assert NUMBER not in stream.getvalue()


def test_libraries_are_heard_from_warning_on() -> None:
    stream = io.StringIO()
    configure("DEBUG", "json", stream)
    logging.getLogger("botocore.auth").info("credentials and more")
    logging.getLogger("asyncio").warning("slow callback")
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["logger"], line["level"], line["event"]) == ("asyncio", "warning", "slow callback")


def _fails(text: str) -> None:
    token = "a-" + "local"
    try:
        raise KeyError(text)
    except KeyError as error:
        raise RuntimeError(f"{len(token)}") from error


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_neither_locals_nor_texts(style: str) -> None:
    stream = io.StringIO()
    configure("INFO", style, stream)
    try:
        _fails("my " + "diagnosis")
    except RuntimeError as error:
        structlog.get_logger().exception("bug")
        logging.getLogger("asyncio").error("never retrieved", exc_info=error)
        group = ExceptionGroup("two", [error, ValueError("my " + "address")])
        structlog.get_logger().error("bugs", exc_info=group)
    text = stream.getvalue()
    assert text.count("RuntimeError: 7") == 3
    assert text.count("KeyError (its text is not shown)") == 3
    assert text.count("ValueError (its text is not shown)") == 1
    assert "in _fails" in text
    for secret in ("a-local", "my diagnosis", "my address"):
        assert secret not in text


def test_a_traceback_shows_texts_where_bodies_may_be_logged() -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream, bodies=True)
    try:
        _fails("my " + "diagnosis")
    except RuntimeError:
        structlog.get_logger().exception("bug")
    assert "my diagnosis" in stream.getvalue()


def test_the_bug_that_ends_the_process() -> None:
    stream = io.StringIO()
    configure("ERROR", "json", stream)
    try:
        _fails("x")
    except RuntimeError:
        bug()
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"]) == ("bug", "critical")
    assert "RuntimeError: 7" in line["exception"]


def test_asyncio_does_not_quote_the_error_of_a_task() -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream)
    logging.getLogger("asyncio").error("future: <Task name='t' exception=KeyError('my text')>")
    assert json.loads(stream.getvalue())["event"] == "future: <Task name='t'"


def test_auto_is_for_people_on_a_terminal_and_for_machines_elsewhere() -> None:
    terminal, pipe = _Terminal(), io.StringIO()
    configure("INFO", "auto", terminal)
    structlog.get_logger().info("hello")
    configure("INFO", "auto", pipe)
    structlog.get_logger().info("hello")
    assert not terminal.getvalue().startswith("{")
    assert json.loads(pipe.getvalue())["event"] == "hello"


def test_configuring_again_does_not_double_lines() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("INFO", "json", first)
    configure("INFO", "json", second)
    logging.getLogger("library").warning("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_stream_that_is_gone_ends_nothing() -> None:
    stream = io.StringIO()
    configure("INFO", "json", stream)
    stream.close()
    LogSink().emit(EVENTS[-1])
    logging.getLogger("library").warning("into the void")


class _Broken:
    def emit(self, event: Event) -> None:
        raise KeyError(event, NUMBER)


class _Collected:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_a_sink_that_fails_is_reported_once_and_stops_nobody() -> None:
    stream, collected, failures = io.StringIO(), _Collected(), list[str]()
    configure("INFO", "json", stream)
    fanout = Fanout([_Broken(), collected], on_failure=failures.append)
    for event in EVENTS:
        fanout.emit(event)
    assert collected.events == EVENTS
    assert failures == ["_Broken"] * len(EVENTS)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "telemetry_failed"
    assert NUMBER not in line


def test_a_round_of_catch_up_is_news_only_when_it_found_something() -> None:
    nothing = CaughtUp("AC1", 7, 0, 7, 0, 0, 9000, 250, 9300)
    lines = logged(nothing, replace(nothing, staged=1), replace(nothing, too_old=1))
    assert [line["level"] for line in lines] == ["debug", "info", "info"]
    assert {"account", "listed", "known", "failed", "seen_until"} <= lines[0].keys()


HOSTILE = (
    'x\n2026-01-01 [critical] all is lost\r\x1b[2J\x1b]0;title\x07\x9b31m\x85{"event": "forged"}'
    "\u2028\u2029\u202eabc\u2066\ud800\x7f\0"
)


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_text_of_others_begins_a_line_or_commands_a_terminal(style: str) -> None:
    stream = _Terminal()
    configure("INFO", style, stream)
    structlog.get_logger().warning("x", name=HOSTILE, names=[HOSTILE], deeper={"n": HOSTILE})
    structlog.get_logger().warning(HOSTILE)
    # pytest keeps what it says, and could not pass on a lone surrogate.
    logging.getLogger("library").warning("%s", HOSTILE.replace("\ud800", ""))
    # What a stranger calls himself reaches the log by an event, too.
    LogSink().emit(PersonActed(KEY, "c-1", "reply", HOSTILE, "accepted", 8100, "person-k"))
    text = stream.getvalue()
    lines = text.splitlines()
    assert len(lines) == 4
    assert text.count("\n") == 4
    # structlog's own colours apart, where it writes them.
    plain = re.sub(r"\x1b\[\d*m", "", text)
    assert all(c.isprintable() or c == "\n" for c in plain)
    text.encode()
    if style == "json":
        assert json.loads(lines[0])["name"] == HOSTILE


def test_a_traceback_keeps_its_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    configure("INFO", "console", stream, bodies=True)
    try:
        _fails("\x1b[2J\r\u2028")
    except RuntimeError:
        structlog.get_logger().exception("bug")
    text = stream.getvalue()
    assert "\nTraceback (most recent call last):\n" in text
    assert all(c.isprintable() or c == "\n" for c in text)
