"""`replyd dlq` on dead-letter queues in memory."""

import json
from typing import Any

import pytest

from replyd.adapters.memory.operations import MemoryDeadLetters
from replyd.domain.wakeup import BodyCodec
from replyd.errors import Temporary
from replyd.operate import render
from replyd.operate.dlq import Morgue, listing, redrive, show
from replyd.ports import DeadMessage, DeadQueue
from tests.operate.conftest import SECRET
from tests.support.world import CUSTOMER, KEY, message

NOW = 1_700_000_000_000


def wakeup(number: int, **extra: Any) -> str:
    return BodyCodec().encode(
        key=KEY,
        seq=number,
        received_at=NOW,
        message=message(number, SECRET),
        conversation_id=KEY.sort,
        **extra,
    )


def foreign(**params: str) -> str:
    return json.dumps({"twilio_message": params})


def morgue(replies: list[str], handoff: list[str] | None = None) -> Morgue:
    dead = {
        "r": [
            DeadMessage(f"m-{n}", "", body, sent_at=NOW - 1_000 * n, receives=10)
            for n, body in enumerate(replies, 1)
        ]
    }
    if handoff is not None:
        dead["h"] = [DeadMessage(f"h-{n}", "", b, sent_at=NOW) for n, b in enumerate(handoff)]
    urls = {"replies": "r", "handoff": "h"}
    return Morgue(MemoryDeadLetters(dead), urls, BodyCodec(), lambda: NOW)


async def queue_of(found: Morgue) -> DeadQueue:
    ((_, queue),) = await found.named("replies")
    assert queue is not None
    return queue


async def test_a_listing_counts_and_leaves_everything_there() -> None:
    found = morgue([wakeup(1), "no json", wakeup(3)], None)
    for _ in range(2):
        replies, handoff = await listing(found)
        assert replies == {
            "queue": "replies",
            "name": "r-dlq",
            "visible": 3,
            "in_flight": 0,
            "looked_at": 3,
            "oldest_seconds": 3.0,
            "unreadable": 1,
        }
        assert handoff == {"queue": "handoff", "name": None}


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (wakeup(1), "wakeup", "never settled"),
        ("{", "poison", "the body is not JSON: nobody can read it"),
        ('{"version": 9}', "poison", "the body's version is not 1"),
        ('{"seq": 1}', "poison", "`key` or `seq` is missing"),
        (foreign(Body=SECRET), "poison", "MessageSid is missing"),
        (
            foreign(MessageSid="SM" + "0" * 32, From=CUSTOMER, To=CUSTOMER, Body=SECRET),
            "foreign",
            "another webhook handler's message",
        ),
    ],
)
async def test_why_a_message_is_there(body: str, kind: str, why: str) -> None:
    (row,) = await show(morgue([body]), "replies", limit=10, bodies=False)
    assert row["kind"] == kind
    assert row["readable"] == (kind != "poison")
    assert why in row["why"]
    assert "body" not in row
    assert SECRET not in json.dumps(row)
    assert CUSTOMER not in json.dumps(row)
    (row,) = await show(morgue([body]), "replies", limit=10, bodies=True)
    assert row["body"] == body


async def test_what_people_did_not_take() -> None:
    (row,) = await show(morgue([], [wakeup(1, handoff_reason="failed")]), limit=5, bodies=False)
    assert (row["kind"], row["customer"], row["sid"]) == ("handoff", "+44…01", message(1).sid)
    assert row["conversation_id"] == KEY.sort
    assert "reason failed" in row["why"]


async def test_oldest_first_and_no_more_than_asked_for() -> None:
    found = morgue([wakeup(n) for n in range(1, 31)])
    rows = await show(found, limit=12, bodies=False)
    assert [r["seq"] for r in rows] == list(range(12, 0, -1))
    assert (await queue_of(found)).visible == 30


async def test_a_redrive_moves_everything() -> None:
    found = morgue([wakeup(n) for n in range(1, 24)])
    told: list[int] = []
    assert await redrive(found, await queue_of(found), told.append) == 23
    assert told == [10, 20, 23]
    queues = found.queues
    assert isinstance(queues, MemoryDeadLetters)
    assert sorted(queues.moved["r"]) == sorted(wakeup(n) for n in range(1, 24))
    assert queues.dead["r"] == []


async def test_a_redrive_that_fails_leaves_the_rest() -> None:
    found = morgue([wakeup(1), "bad", wakeup(3)])
    queues = found.queues
    assert isinstance(queues, MemoryDeadLetters)
    queues.failing.add("bad")
    with pytest.raises(Temporary):
        await redrive(found, await queue_of(found), lambda _: None)
    assert [m.body for m in queues.dead["r"]] == ["bad"]
    assert (await queue_of(found)).visible == 1


async def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    found = morgue([wakeup(1), "\x1b]0;x"], None)
    render.show_table(render.dead_queues(await listing(found)))
    render.show_table(render.dead_messages(await show(found, limit=9, bodies=True)))
    render.show_table(render.dead_messages([]))
    out = capsys.readouterr().out
    assert "none: `replyd check` says what to do" in out
    assert "nothing is there" in out
    assert "\x1b" not in out
