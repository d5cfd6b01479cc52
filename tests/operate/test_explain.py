"""`replyd explain` on what real workers left in memory, and on every state of a turn."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from replyd.adapters.memory.operations import MemoryTable
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.errors import Ambiguous
from replyd.operate import render
from replyd.operate.explain import explain
from replyd.operate.fate import Fate, fate
from tests.operate.conftest import SECRET, desk
from tests.support.world import CUSTOMER, KEY, World, message

# Far from the SIDs that the channel gives.
FIRST, SECOND = message(101, SECRET), message(102)
ONE, TWO = FIRST.sid, SECOND.sid


async def asked(world: World, sid: str, **options: Any) -> dict[str, Any]:
    found = await explain(desk(world), sid, **options)
    assert found is not None
    assert SECRET not in json.dumps(found)
    return found


async def test_a_burst_from_the_first_message_to_its_reply() -> None:
    world = World()
    world.converse()
    world.model.answer = lambda _: SECRET
    async with world.running() as worker:
        await worker.accept(FIRST)
        await worker.accept(SECOND)
        found = await asked(world, TWO)
        assert found["state"] == "waiting"
        assert "message 2 of 2" in found["text"]
        assert found["next"]["state"] == "window_open"
        assert found["customer"] == "+44…01"
        await asyncio.sleep(10)
    found = await asked(world, TWO, customer=CUSTOMER)
    assert found["state"] == "answered"
    assert found["text"] == f"answered with 1 message, in one turn with {ONE}"
    assert found["merged"] == (ONE, TWO)
    assert (found["next"], found["customer"]) == (None, CUSTOMER)
    (reply,) = found["replies"]
    out = await asked(world, reply["sid"])
    assert (out["direction"], out["state"]) == ("outbound", "sent")
    assert out["text"] == f"part of a reply to {ONE}, {TWO}; as far as is known it is accepted"


async def test_handed_over_and_why() -> None:
    world = World()
    world.converse(handoff_to_human=True)
    async with world.running() as worker:
        await worker.accept(FIRST)
        await asyncio.sleep(5)
    found = await asked(world, ONE)
    assert (found["state"], found["reason"]) == ("handed_over", "requested")
    assert found["text"] == "people got it: people have the conversation"


async def test_a_send_whose_answer_was_lost() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Ambiguous("twilio", "did not answer in time")]
    async with world.running() as worker:
        await worker.accept(FIRST)
        await asyncio.sleep(5)
        found = await asked(world, ONE)
        assert found["state"] == "replying"
        assert found["next"]["state"] == "held"
        assert [(r["sid"], r["delivery"]) for r in found["replies"]] == [("", "pending")]
        await asyncio.sleep(60)
    assert (await asked(world, ONE))["state"] == "answered"


async def test_what_has_moved_to_the_archive() -> None:
    world = World(history={"keep_messages": 2})
    world.converse()
    async with world.running() as worker:
        for number in (101, 102, 103):
            await worker.accept(message(number, SECRET))
            await asyncio.sleep(10)
    archived = [e for s in world.store.side.values() for e in s.get("messages", [])]
    assert ONE in [e["message_id"] for e in archived]
    found = await asked(world, ONE, customer=CUSTOMER)
    assert (found["state"], len(found["replies"])) == ("answered", 1)
    # After `history.seen_days` only the archive knows it, and it still leads to the record.
    del world.item()[record.SEEN][ONE]
    assert (await asked(world, ONE))["state"] == "answered"
    reply = found["replies"][0]["sid"]
    assert (await asked(world, reply))["merged"] == (ONE,)
    # Without its record it tells what it can.
    del world.store.items[KEY]
    assert (await asked(world, reply))["conversation_id"] == "c-1"


async def test_a_scan_ends_at_the_record_and_tells_its_progress() -> None:
    world = World()
    for number in range(5):
        key = ConversationKey(f"+44770090001{number}", "c")
        world.converse(key, reply_seen={f"SM{number}": 1})
    looking = desk(world)
    table = looking.table
    assert isinstance(table, MemoryTable)
    told: list[tuple[int, float]] = []
    found = await explain(looking, "SM2", progress=lambda n, u: told.append((n, u)))
    assert found is not None
    assert (found["state"], found["customer"]) == ("settled", "+44…12")
    assert (table.read, told) == (4, [(2, 0.5), (2, 0.5)])
    assert await explain(looking, "SM9") is None
    assert await explain(looking, "SM9", customer=CUSTOMER) is None


# --- every state of a turn ---------------------------------------------------------------------

USER = {"role": "user", "message_id": "SMin", "turn_id": "t", "content": SECRET}
OTHER = {"role": "user", "message_id": "SMin2", "turn_id": "t", "content": SECRET}
PART = {"role": "assistant", "message_id": "SMout", "turn_id": "t", "content": SECRET}
LOST = {"role": "assistant", "turn_id": "t", "content": SECRET, "delivery": "unknown"}
APOLOGY = {"role": "assistant", "message_id": "SMsorry", "turn_id": "apology-SMin"}
LAST = {record.LAST_TURN: "t"}


def failed(reason: str, detail: str) -> dict[str, Any]:
    return {**LAST, record.FAILURE: {"reason": reason, "detail": detail, "at": "now"}}


def became(sid: str, **attributes: Any) -> Fate | None:
    conversation = record.conversation_from(attributes, KEY)
    return fate(sid, conversation, failure=attributes.get(record.FAILURE))


@pytest.mark.parametrize(
    ("sid", "messages", "attributes", "state", "text"),
    [
        ("SMin", [USER, PART], {}, "answered", "answered with 1 message"),
        ("SMin", [USER, USER, PART], {}, "answered", "answered with 1 message"),
        (
            "SMin",
            [USER, OTHER, PART],
            {},
            "answered",
            "answered with 1 message, in one turn with SMin2",
        ),
        (
            "SMin",
            [USER, LOST],
            {},
            "handed_over",
            "people got it: a reply has reached the customer in part, or may have",
        ),
        (
            "SMin",
            [USER],
            failed("failed", "no reply after 5 attempts"),
            "handed_over",
            "people got it: no reply after 5 attempts",
        ),
        (
            "SMin",
            [APOLOGY, USER],
            failed("too_old", "no reply within 180 s"),
            "handed_over",
            (
                "people got it: no reply within 180 s; before, the customer was told that no "
                "answer would come"
            ),
        ),
        (
            "SMin",
            [USER, PART],
            failed("partly_sent", "1 of 2 parts were sent"),
            "partly_answered",
            "answered in part: 1 of 2 parts were sent",
        ),
        (
            "SMin",
            [USER],
            {**LAST, record.OPTED_OUT: "now"},
            "handed_over",
            "people got it: the customer has opted out",
        ),
        (
            "SMin",
            [USER],
            LAST,
            "handed_over",
            "people got it: they had the conversation, or an opt-out stood",
        ),
        # The failure is a later attempt's, or the turn is not the last one.
        ("SMin", [USER], failed("openai", "throttles us"), "handed_over", "no longer tells"),
        ("SMin", [USER], {}, "handed_over", "no longer tells"),
        ("SMin", [], {record.SEEN: {"SMin": 1}}, "settled", "settled: it was accepted"),
        ("SMout", [USER, PART], {}, "sent", "part of a reply to SMin; as far as is known it is"),
        (
            "SMout",
            [USER, PART | {"delivery": "undelivered", "delivery_error": "63016"}],
            {},
            "not_delivered",
            "part of a reply to SMin; it was not delivered, people do not know yet",
        ),
        (
            "SMout",
            [USER, PART | {"delivery": "failed", "people_told": True}],
            {},
            "not_delivered",
            "part of a reply to SMin; it was not delivered, people know",
        ),
        ("SMsorry", [APOLOGY, USER], {}, "sent", "a word ahead of the handoff of SMin"),
        ("SMt", [{"role": "assistant", "message_id": "SMt"}], {}, "foreign", "another system"),
        ("SMh", [{"role": "human", "message_id": "SMh"}], {}, "foreign", "people wrote it"),
    ],
)
def test_what_became_of_it(
    sid: str, messages: list[Any], attributes: Mapping[str, Any], state: str, text: str
) -> None:
    found = became(sid, **{record.MESSAGES: messages, **attributes})
    assert found is not None
    assert found.state == state
    assert text in found.text
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("kind", "sid", "state", "text"),
    [
        ("reply", "SMin", "replying", "its reply is on the way, in one turn with SMin2"),
        ("reply", "SMin3", "waiting", "message 3 of 3"),
        ("reply", "SMout", "sending", "part 1 of a reply that is being sent to SMin, SMin2"),
        ("reply", "SMtold", "sending", "part 2 of a reply that is being sent to SMin, SMin2"),
        ("apology", "SMout", "sending", "a word ahead of a handoff that is being sent"),
        ("handoff", "SMin2", "handing_over", "people are getting it just now: used up"),
    ],
)
def test_a_turn_under_way(kind: str, sid: str, state: str, text: str) -> None:
    pending = [{"sid": s, "received_at": 1} for s in ("SMin", "SMin2", "SMin3")]
    entries = [USER, OTHER, PART, PART | {"message_id": None}]
    told = {"3": {"message_id": "SMtold", "delivery": "sent"}}
    outbox = {"turn_id": "t", "kind": kind, "seqs": [1, 2], "entries": entries, "delivery": told}
    outbox |= {"reason": "failed", "detail": "used up"} if kind == "handoff" else {}
    found = became(sid, **{record.PENDING: pending, record.SEQ: 3, record.OUTBOX: outbox})
    assert found is not None
    assert found.state == state
    assert text in found.text
    if state == "sending":
        assert [(r.sid, r.delivery) for r in found.replies] == [
            ("SMout", "accepted"),
            ("SMtold", "sent"),
        ]


def test_an_unknown_sid() -> None:
    assert became("SMx", **{record.MESSAGES: [USER, PART]}) is None


async def test_it_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    parts = [USER, PART | {"delivery": "failed", "delivery_error": "63016", "people_told": True}]
    world.converse(messages=parts, reply_seen={"SMin": 1})
    render.show_table(render.explanation(await asked(world, "SMin", customer=CUSTOMER)))
    out = capsys.readouterr().out
    assert "SMin (inbound)" in out
    assert "SMout: failed, the customer's last message is more than 24 hours old" in out
    assert "(63016), people know" in out
    assert f"c-1 of {CUSTOMER}" in out
