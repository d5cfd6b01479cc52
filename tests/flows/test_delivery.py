"""Status callbacks: what became of the parts, whenever the news comes."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.events import DeliveryReported
from replyd.errors import Ambiguous
from tests.support.world import KEY, Worker, World, message

SID = "SM" + "c" * 32


async def report(worker: Worker, turn_id: str, status: str = "delivered", entry: int = 1) -> None:
    params = {"MessageSid": SID, "MessageStatus": status, "ErrorCode": "63016"}
    query = {"p": KEY.partition, "s": KEY.sort, "turn": turn_id, "entry": str(entry)}
    await worker.track(params, query)


def last(world: World) -> dict[str, Any]:
    entry: dict[str, Any] = world.item()[record.MESSAGES][-1]
    return entry


def recording() -> World:
    world = World(delivery={"record": ["sent", "delivered", "read"]})
    world.converse()
    return world


async def test_a_report_before_commit_comes_along() -> None:
    world = recording()
    world.channel.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await report(worker, world.item()[record.OUTBOX]["turn_id"])
        await asyncio.sleep(20)
    assert last(world)["delivery"] == "delivered"
    assert world.outcomes() == ["replied"]


async def test_a_report_after_commit_finds_the_entry() -> None:
    world = recording()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        entry = last(world)
        params = {"MessageSid": entry["message_id"], "MessageStatus": "undelivered"}
        query = {"p": KEY.partition, "s": KEY.sort, "turn": entry["turn_id"], "entry": "1"}
        await worker.track(params, query)
    assert last(world)["delivery"] == "undelivered"
    assert [e.recorded for e in world.events(DeliveryReported)] == [True]


@pytest.mark.parametrize("when", ["before the handoff", "after the handoff"])
async def test_a_report_tells_what_became_of_an_unclear_send(when: str) -> None:
    world = recording()
    world.channel.seconds = 5
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        turn_id = world.item()[record.OUTBOX]["turn_id"]
        if when == "before the handoff":
            await report(worker, turn_id)
        await asyncio.sleep(20)
        if when == "after the handoff":
            assert last(world)["delivery"] == "unknown"
            await report(worker, turn_id)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous"]
    assert (last(world)["delivery"], last(world)["message_id"]) == ("delivered", SID)


async def test_a_report_of_nobody_is_counted_and_changes_nothing() -> None:
    world = recording()
    async with world.running() as worker:
        before = dict(world.item())
        await report(worker, "no-such-turn")
        await report(worker, "", entry=-1)
        await worker.track({"MessageSid": SID, "MessageStatus": "failed"}, {})
    assert world.item() == before
    assert [e.recorded for e in world.events(DeliveryReported)] == [False] * 3
