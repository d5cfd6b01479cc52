"""The history in a record stays bounded and nothing of it is lost."""

import asyncio
import json
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.history import MAX_BYTES, MAX_MOVED, overflow
from replyd.errors import Temporary
from tests.support.world import World, message


def entries(count: int, size: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "message_id": f"SM-{n}",
            "role": "user",
            "content": "x" * size,
            "timestamp": f"2026-11-22T10:00:{n:02d}Z",
        }
        for n in range(count)
    ]


def everything(world: World, role: str = "user") -> list[str]:
    """The SIDs of archive and record, in order."""
    archived = [e for _, item in sorted(world.store.side.items()) for e in item["messages"]]
    entries = [*archived, *world.item()[record.MESSAGES]]
    return [e["message_id"] for e in entries if e["role"] == role]


async def test_the_oldest_entries_move_to_the_archive() -> None:
    world = World(history={"keep_messages": 6})
    world.converse(messages=entries(9))
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert [e["message_id"] for e in world.item()[record.MESSAGES]][:7] == [
        *(f"SM-{n}" for n in range(3, 9)),
        message(1).sid,
    ]
    ((name, item),) = world.store.side.items()
    assert name == "archive#c-1#2026-11-22T10:00:00Z#SM-0"
    assert "expires_at" not in item
    assert everything(world)[:9] == [f"SM-{n}" for n in range(9)]
    # The model is told what the record still has.
    assert len(world.model.requests[0].history) == 6


async def test_a_short_history_stays_where_it_is() -> None:
    world = World(history={"keep_messages": 6})
    world.converse(messages=entries(8))
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert world.store.side == {}
    assert world.store.applied == ["stage", "claim", "intend_reply", "commit"]


async def test_a_long_conversation_loses_nothing_and_stays_small() -> None:
    world = World(history={"keep_messages": 4})
    world.converse()
    world.model.answer = lambda _: "ok"
    sids: list[str] = []
    async with world.running() as worker:
        for number in range(1, 31):
            await worker.accept(message(number, "y" * 3_000))
            sids.append(message(number).sid)
            await asyncio.sleep(20)
            assert len(json.dumps(world.item())) < 64 * 1024
            assert len(world.item()[record.MESSAGES]) <= 8
    assert everything(world) == sids
    assert len(everything(world, "assistant")) == 30


@pytest.mark.parametrize("fault", ["fail_before", "lose_after"])
async def test_a_roll_over_that_fails_costs_the_customer_nothing(fault: str) -> None:
    world = World(history={"keep_messages": 6})
    world.converse(messages=entries(9))
    getattr(world.store, fault)["roll_over"] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        assert len(world.channel.accepted) == 1
        await worker.accept(message(2))
        await asyncio.sleep(20)
    archived = [e for item in world.store.side.values() for e in item["messages"]]
    kept = world.item()[record.MESSAGES]
    assert {e["message_id"] for e in [*archived, *kept]} >= {f"SM-{n}" for n in range(9)}
    assert len(kept) < 12


@pytest.mark.parametrize(
    ("count", "size", "keep", "moved"),
    [
        (0, 10, 50, 0),
        (74, 10, 50, 0),
        (75, 10, 50, 25),
        (400, 10, 50, MAX_MOVED),
        (3, MAX_BYTES, 50, 2),
        (1, MAX_BYTES * 2, 50, 0),
        (60, 1000, 50, 36),
    ],
)
def test_how_much_is_moved(count: int, size: int, keep: int, moved: int) -> None:
    assert abs(overflow(entries(count, size), keep) - moved) <= (2 if size == 1000 else 0)
