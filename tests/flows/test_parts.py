"""A long reply's parts arrive in order: the next goes when the one before is on its way."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.events import PartSent
from replyd.errors import Busy, DependencyDown
from tests.support.world import World, message

LONG = "\n\n".join([f"{word} " * 200 for word in ("first", "second", "third")])


def world_of_parts(**sending: Any) -> World:
    world = World(sending=sending)
    world.converse()
    world.model.answer = lambda _: LONG
    return world


async def sent_at(world: World) -> list[float]:
    """When each part was accepted, in seconds since the first."""
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    times = [event.at for event in world.events(PartSent)]
    assert len(times) == len(world.channel.accepted) == 3
    return [(at - times[0]) / 1000 for at in times]


async def test_a_part_that_is_on_its_way_holds_nothing_up() -> None:
    # Asked once, 0.1 s, and sent, 0.1 s.
    assert await sent_at(world_of_parts()) == [0, 0.2, 0.4]


async def test_the_next_part_waits_until_the_one_before_is_sent() -> None:
    world = world_of_parts()
    world.channel.states = ["queued", "sending", "sent", "accepted", "delivered"]
    # 0.1 + 0.25 + 0.1 + 0.5 + 0.1 and the send; then 0.1 + 0.25 + 0.1 and the send.
    assert await sent_at(world) == [0, 1.15, 1.7]


async def test_it_waits_no_longer_than_that() -> None:
    world = world_of_parts(part_wait_seconds=2)
    world.channel.states = ["queued"] * 100
    assert await sent_at(world) == [0, 2.1, 4.2]


async def test_a_state_that_cannot_be_read_holds_nothing_up() -> None:
    world = world_of_parts()
    world.channel.list_failures = [DependencyDown("twilio", "unreachable")] * 2
    assert await sent_at(world) == [0, 0.2, 0.4]


async def test_a_part_that_is_to_come_tomorrow_holds_the_conversation_up_for_minutes_only() -> None:
    world = world_of_parts()
    world.channel.failures = [None, Busy("twilio", "too many requests", delay=86_400)]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(160)
        assert world.outcomes() == ["partly_sent"]
        assert len(world.channel.accepted) == 1
        world.model.answer = lambda _: "the next answer"
        await worker.accept(message(2))
        # A number is left alone for five minutes at most.
        await asyncio.sleep(180)
    assert [part.text for part in world.channel.accepted[1:]] == ["the next answer"]


async def test_the_lease_is_kept_while_a_part_waits() -> None:
    world = world_of_parts()
    world.channel.failures = [None, Busy("twilio", "too many requests", delay=70)]
    leases: list[int] = []
    async with world.running() as worker:
        await worker.accept(message(1))
        for _ in range(80):
            await asyncio.sleep(1)
            if lease := world.item().get(record.LEASE):
                leases.append(lease["expires_at"] - world.clock.now())
        assert len(world.channel.accepted) == 3
    # Of 60 s: nobody else comes near to taking it.
    assert min(leases) >= 29_000
    assert world.outcomes() == ["replied"]


@pytest.mark.parametrize("state", ["failed", "undelivered"])
async def test_a_part_that_will_not_arrive_holds_nothing_up(state: str) -> None:
    world = world_of_parts()
    world.channel.states = [state, state]
    assert await sent_at(world) == [0, 0.2, 0.4]


async def test_without_a_wait_nobody_asks() -> None:
    world = world_of_parts(part_wait_seconds=0)
    world.channel.states = ["queued"] * 5
    assert await sent_at(world) == [0, 0.1, 0.2]
    assert len(world.channel.states) == 5
