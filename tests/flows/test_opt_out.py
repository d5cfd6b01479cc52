"""STOP and START: the AI is silent, the customer is told once, the record says how it came."""

import asyncio
from typing import Any

import pytest

from replyd.domain import consent, record
from replyd.errors import Ambiguous, Permanent
from tests.support.world import CUSTOMER, KEY, World, message

UNDERSTOOD = "You will get no more answers from us. Send START to change that."


def world_with_notice() -> World:
    world = World(opt_out={"stop_text": UNDERSTOOD})
    world.converse()
    return world


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


def ledger(world: World) -> list[dict[str, Any]]:
    return [{k: e[k] for k in ("sid", "change", "by")} for e in world.item()[record.CONSENT]]


async def test_stop_is_confirmed_once_and_people_learn_of_it() -> None:
    world = world_with_notice()
    async with world.running() as worker:
        await worker.accept(message(1, "Stop!"))
        await asyncio.sleep(10)
        await worker.accept(message(2, "hello?"))
        await asyncio.sleep(10)
        await worker.accept(message(3, "stop"))
        await asyncio.sleep(10)
    assert texts(world) == [UNDERSTOOD, UNDERSTOOD]
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"] * 3
    assert world.model.requests == []
    assert world.history()[0] == ("assistant", UNDERSTOOD)
    assert ledger(world) == [
        {"sid": message(1).sid, "change": "stop", "by": "word"},
        {"sid": message(3).sid, "change": "stop", "by": "word"},
    ]


async def test_start_undoes_it() -> None:
    world = world_with_notice()
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(10)
        await worker.accept(message(2, "START"))
        await asyncio.sleep(10)
    assert texts(world) == [UNDERSTOOD, "You said: START"]
    assert record.OPTED_OUT not in world.item()
    assert [e["change"] for e in ledger(world)] == ["stop", "start"]


async def test_twilios_own_confirmation_is_enough() -> None:
    world = world_with_notice()
    params = {"OptOutType": "STOP", "MessageSid": message(1).sid}
    async with world.running() as worker:
        await worker.accept(message(1, "Basta", params=params))
        await asyncio.sleep(10)
    assert texts(world) == []
    assert ledger(world) == [{"sid": message(1).sid, "change": "stop", "by": "twilio"}]
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"]


async def test_without_a_text_nothing_is_sent() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(10)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"]


async def test_stop_beats_the_window_and_the_messages_ahead_of_it() -> None:
    world = world_with_notice()
    async with world.running() as worker:
        await worker.accept(message(1, "where is it"))
        await asyncio.sleep(0.5)
        await worker.accept(message(2, "STOP"))
        await asyncio.sleep(1.0)
        assert texts(world) == [UNDERSTOOD]
        await asyncio.sleep(20)
    assert world.model.requests == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"] * 2


async def test_it_is_said_once_though_its_worker_was_killed_while_sending() -> None:
    world = world_with_notice()
    world.channel.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(3)
        await world.crash(worker)
        world.worker().start()
        await asyncio.sleep(180)
    assert texts(world).count(UNDERSTOOD) <= 1
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"]
    assert world.item()[record.PENDING] == []


@pytest.mark.parametrize(
    "failure", [Permanent("twilio", "blocked"), Ambiguous("twilio", "no answer")]
)
async def test_a_confirmation_that_does_not_arrive_is_not_repeated(failure: Any) -> None:
    world = world_with_notice()
    world.channel.failures = [failure]
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(60)
    assert texts(world).count(UNDERSTOOD) <= 1
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"]


async def test_the_ledger_stays_small() -> None:
    world = world_with_notice()
    world.item()[record.CONSENT] = [
        {"at": "2026-01-01T00:00:00.000Z", "sid": f"SM{n}", "change": "stop", "by": "word"}
        for n in range(consent.KEPT + 20)
    ]
    async with world.running() as worker:
        await worker.accept(message(1, "START"))
        await asyncio.sleep(10)
    assert len(ledger(world)) == consent.KEPT
    assert ledger(world)[-1]["change"] == "start"


async def test_stop_in_another_record_of_the_customer_is_confirmed_once() -> None:
    world = world_with_notice()
    other = KEY.__class__(CUSTOMER, "c-0")
    world.converse(other, **{record.CREATED_AT: "2026-11-21T10:00:00.000Z"})
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(10)
    assert texts(world) == [UNDERSTOOD]
    assert record.OPTED_OUT in world.item(other)
