"""How long the table keeps what is in it."""

import asyncio

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.domain.retention import Retention
from tests.flows.test_names import both
from tests.support.world import CUSTOMER, KEY, World, message

DAY = 24 * 60 * 60
KEPT = {"record_days": 90, "archive_days": 30}


async def exchange(world: World, *texts: str) -> None:
    async with world.running() as worker:
        for number, text in enumerate(texts, start=1):
            await worker.accept(message(number, text))
            await asyncio.sleep(20)


def days_left(world: World, key: ConversationKey = KEY) -> float:
    expires_at: int = world.item(key)[record.EXPIRES_AT]
    return (expires_at - world.clock.now() / 1000) / DAY


async def test_without_a_setting_nothing_expires() -> None:
    world = World(history={"keep_messages": 2})
    world.converse(expires_at=7)
    await exchange(world, "one", "two", "three")
    # Somebody else's, for all that is known.
    assert world.item()[record.EXPIRES_AT] == 7
    assert world.store.side
    assert not any("expires_at" in item for item in world.store.side.values())


async def test_each_turn_keeps_the_record_anew_at_no_further_request() -> None:
    world, plain = World(retention=KEPT), World()
    for one in (world, plain):
        one.converse()
        await exchange(one, "hi")
    assert 89.9 < days_left(world) <= 90
    assert world.store.applied == plain.store.applied
    await asyncio.sleep(10 * DAY)
    assert 79 < days_left(world) < 80
    await exchange(world, "again", "and again")
    assert days_left(world) > 89.9


async def test_a_message_keeps_a_record_that_had_expired() -> None:
    """Before its turn: DynamoDB may delete it at any time."""
    world = World(retention=KEPT)
    world.converse(expires_at=7)
    await world.worker().accept(message(1))
    assert 89.9 < days_left(world) <= 90


async def test_what_goes_to_the_archive_expires_there() -> None:
    world = World(history={"keep_messages": 2}, retention=KEPT)
    world.converse()
    await exchange(world, "one", "two", "three")
    (archived,) = world.store.side.values()
    assert 29.9 * DAY < archived["expires_at"] - world.clock.now() / 1000 <= 30 * DAY


async def test_a_stop_is_never_forgotten() -> None:
    world = World(retention=KEPT)
    older = ConversationKey(CUSTOMER, "c-0")
    world.converse()
    world.converse(older, created_at="2026-11-21T10:00:00.000Z", expires_at=7)
    await exchange(world, "hi", "STOP", "no, really")
    for key in (KEY, older):
        assert record.OPTED_OUT in world.item(key)
        assert record.EXPIRES_AT not in world.item(key)


async def test_a_message_that_crosses_a_stop_lets_it_expire_no_sooner() -> None:
    """Its instance had looked the record up before."""
    world = World(retention=KEPT)
    world.converse()
    one, two = world.worker(), world.worker()
    await two.accept(message(1))
    await one.accept(message(2, "STOP"))
    await two.accept(message(3))
    one.start()
    two.start()
    await asyncio.sleep(30)
    for worker in (one, two):
        await worker.stop()
    assert record.OPTED_OUT in world.item()
    assert record.EXPIRES_AT not in world.item()


async def test_start_lets_it_expire_again() -> None:
    world = World(retention=KEPT)
    world.converse()
    await exchange(world, "STOP", "START")
    assert days_left(world) > 89.9


async def test_the_alias_outlives_its_record() -> None:
    world = World(retention=KEPT)
    world.converse()
    worker = world.worker()
    await worker.accept(both(1))
    await asyncio.sleep(2 * DAY)
    await worker.accept(both(2))
    aliases = [item for name, item in world.store.side.items() if name.startswith("alias#")]
    assert len(aliases) == 2
    assert all(a["expires_at"] > world.item()[record.EXPIRES_AT] for a in aliases)


def test_days_are_counted_in_seconds() -> None:
    kept = Retention(record_days=2, archive_days=1)
    assert kept.record_until(5_999) == 5 + 2 * DAY
    assert kept.archive_until(5_999) == 5 + DAY
    assert Retention().alias_until(5_999) is None
