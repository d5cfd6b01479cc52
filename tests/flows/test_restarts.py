"""Newer messages while the model writes: its call is cancelled, and it is asked once for all."""

import asyncio

from replyd.domain import record
from replyd.domain.events import ModelInterrupted
from replyd.errors import Temporary
from tests.support.world import World, message

# The window of these worlds: 2 s of quiet.


async def test_a_newer_message_in_this_process_ends_the_call() -> None:
    world = World()
    world.converse()
    world.model.seconds = 20
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await worker.accept(message(2))
        await asyncio.sleep(1)
        (event,) = world.events(ModelInterrupted)
        assert event.reason == "newer_messages"
        assert len(world.model.requests) == 1
        await asyncio.sleep(2)
        assert len(world.model.requests) == 2
        await asyncio.sleep(25)
    assert world.model.requests[1].turn.count("message") == 2
    assert len(world.channel.accepted) == 1
    assert [role for role, _ in world.history()] == ["user", "user", "assistant"]
    assert world.queue.messages == {}


async def test_the_call_starts_again_when_the_customer_has_finished() -> None:
    world = World()
    world.converse()
    world.model.seconds = 20
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        for number in (2, 3, 4):
            await worker.accept(message(number))
            await asyncio.sleep(1)
        await asyncio.sleep(40)
    assert len(world.model.requests) == 2
    assert "message 4" in world.model.requests[1].turn
    assert len(world.channel.accepted) == 1


async def test_after_the_last_restart_the_answer_is_waited_for() -> None:
    world = World(window={"max_restarts": 1})
    world.converse()
    world.model.seconds = 10
    async with world.running() as worker:
        await worker.accept(message(1))
        for number in (2, 3):
            await asyncio.sleep(6)
            await worker.accept(message(number))
        await asyncio.sleep(60)
    turns = [r.turn for r in world.model.requests]
    assert ["message 3" in turn for turn in turns] == [False, False, True]
    assert len(world.channel.accepted) == 2
    assert [role for role, _ in world.history()] == [
        *("user", "user", "assistant"),
        *("user", "assistant"),
    ]


async def test_a_renewal_shows_what_other_processes_took() -> None:
    """The webhook was another instance's: the next renewal tells."""
    world = World(turn={"lease_seconds": 30})
    world.converse()
    world.model.seconds = 25
    async with world.running(workers=2):
        first, second = world.workers
        await first.accept(message(1))
        await asyncio.sleep(3)
        other = second if first.buffer.running else first
        await other.accept(message(2))
        await asyncio.sleep(18)
        assert [e.reason for e in world.events(ModelInterrupted)] == ["newer_messages"]
        await asyncio.sleep(40)
    assert len(world.channel.accepted) == 1
    assert [role for role, _ in world.history()] == ["user", "user", "assistant"]


async def test_people_who_take_over_end_the_call() -> None:
    world = World(turn={"lease_seconds": 30})
    world.converse()
    world.model.seconds = 25
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        world.item()[record.HANDOFF] = True
        await asyncio.sleep(16)
        assert [e.reason for e in world.events(ModelInterrupted)] == ["silenced"]
        assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
    assert world.channel.accepted == []


async def test_a_worker_that_lost_its_lease_stops_asking() -> None:
    world = World(turn={"lease_seconds": 30})
    world.converse()
    world.model.seconds = 50
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        world.item()[record.LEASE] = {
            "owner": "x",
            "token": "x",
            "expires_at": world.clock.now() + 30_000,
        }
        await asyncio.sleep(16)
        assert [e.reason for e in world.events(ModelInterrupted)] == ["lease_lost"]
        world.model.seconds = 1
        await asyncio.sleep(90)
    assert len(world.channel.accepted) == 1


async def test_renewals_that_fail_do_not_end_the_call() -> None:
    world = World(turn={"lease_seconds": 30})
    world.converse()
    world.model.seconds = 25
    world.store.fail_before["renew"] = [Temporary("dynamodb", "no answer in time")] * 2
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(40)
    assert world.outcomes() == ["replied"]
    assert len(world.model.requests) == 1


async def test_a_redelivered_message_ends_no_call() -> None:
    world = World()
    world.converse()
    world.model.seconds = 10
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert world.events(ModelInterrupted) == []
    assert len(world.model.requests) == 1
