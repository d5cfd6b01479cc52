"""`replyd conversation show` on what real workers left in memory."""

import asyncio
import json
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.flows.show import show
from replyd.operate import render
from tests.operate.conftest import SECRET, desk
from tests.support.world import BUSINESS, CUSTOMER, KEY, World, message

OLDER = ConversationKey(CUSTOMER, "c-0")
ELSEWHERE = ConversationKey(CUSTOMER, "c-2")


async def look(world: World, *, bodies: bool = False, history: int = 10) -> dict[str, Any]:
    (found,) = await show(desk(world), CUSTOMER, history=history, bodies=bodies)
    return found


async def test_a_burst_that_waits_for_its_window() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, SECRET))
        await asyncio.sleep(1)
        await worker.accept(message(2))
        found = await look(world)
        assert found["next"]["state"] == "window_open"
        assert found["next"]["messages"] == 2
        assert [p["sid"] for p in found["pending"]] == [message(1).sid, message(2).sid]
        assert [p["age_seconds"] for p in found["pending"]] == [1, 0]
        assert found["pending"][0]["characters"] == len(SECRET)
        assert found["lease"] is None
        assert SECRET not in json.dumps(found)
        shown = await look(world, bodies=True)
        assert shown["pending"][0]["text"] == SECRET


async def test_a_worker_holds_it_then_all_is_settled() -> None:
    world = World()
    world.converse()
    world.model.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1, SECRET))
        await asyncio.sleep(4)
        found = await look(world)
        assert found["next"]["state"] == "held"
        assert found["lease"]["owner"] == "worker-1"
        assert 50 < found["lease"]["seconds_left"] <= 60
        assert found["attempts"] == 1
        await asyncio.sleep(10)
        found = await look(world)
        assert found["next"]["text"] == "nothing to do: every message is settled"
        assert [e["role"] for e in found["history"]["tail"]] == ["user", "assistant"]
        assert found["accepted"] == {"messages": 1, "settled": 1}
        assert SECRET not in json.dumps(found)
        assert (await look(world, history=0))["history"] == {"entries": 2, "tail": []}


async def test_the_newest_record_of_a_business_number_takes_messages() -> None:
    world = World()
    world.converse()
    world.converse(OLDER, created_at="2026-11-21T10:00:00.000Z")
    world.converse(ELSEWHERE, company_tel="+447700900199", created_at="2026-11-20T10:00:00.000Z")
    found = await show(desk(world), CUSTOMER, history=5, bodies=False)
    assert [(f["conversation_id"], f["takes_new_messages"]) for f in found] == [
        ("c-1", True),
        ("c-0", False),
        ("c-2", True),
    ]


async def test_an_outbox_with_a_part_that_a_callback_told() -> None:
    world = World()
    world.converse()
    world.item().update(
        {
            record.PENDING: [
                {"sid": message(1).sid, "received_at": 1, "message": message(1).as_dict()}
            ],
            record.SEQ: 1,
            record.OUTBOX: {
                "turn_id": "t-1",
                "kind": "reply",
                "seqs": [1],
                "entries": [
                    {"role": "user", "content": SECRET, "message_id": message(1).sid},
                    {"role": "assistant", "content": SECRET},
                    {"role": "assistant", "content": SECRET},
                ],
                "at": 1,
                "delivery": {"1": {"message_id": "SMout", "delivery": "delivered"}},
            },
            record.FAILURE: {"reason": "twilio", "detail": "did not answer", "at": "now"},
        }
    )
    found = await look(world)
    assert [(p["accepted"], p["delivery"]) for p in found["outbox"]["parts"]] == [
        (True, "delivered"),
        (False, None),
    ]
    assert found["reply_failure"]["detail"] == "did not answer"
    assert found["next"]["effect"] == "recover"
    assert SECRET not in json.dumps(found)


async def test_a_body_in_an_item_of_its_own() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, SECRET * 1000))
        assert (await look(world))["pending"][0]["characters"] is None
        assert (await look(world, bodies=True))["pending"][0]["text"] == SECRET * 1000


async def test_tables_show_control_characters_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    evil = {"role": "user", "content": "\x1b[2J[bold]hi", "message_id": "SM1", "timestamp": "t"}
    world.converse(messages=[evil], reply_opted_out="2026-11-22T10:00:00.000Z")
    found = await show(desk(world), CUSTOMER, history=5, bodies=True)
    render.show_table(render.records(CUSTOMER, found))
    out = capsys.readouterr().out
    assert "�[2J[bold]hi" in out
    assert "\x1b" not in out
    assert f"c-1 with {BUSINESS}: takes new messages" in out
    assert "since 2026-11-22T10:00:00.000Z" in out


async def test_nobody_of_that_number() -> None:
    assert await show(desk(World()), KEY.partition, history=5, bodies=False) == []
