"""Which record takes a message, and what an unknown sender gets."""

import asyncio
from typing import Any

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.errors import Permanent
from tests.support.world import BUSINESS, CUSTOMER, KEY, World, message

OTHER = ConversationKey(CUSTOMER, "c-2")


async def test_the_newest_record_with_the_business_number_takes_the_message() -> None:
    world = World()
    world.converse(KEY, created_at="2026-01-01T00:00:00.000Z")
    world.converse(OTHER, created_at="2026-02-01T00:00:00.000Z")
    elsewhere = ConversationKey(CUSTOMER, "c-3")
    world.converse(elsewhere, company_tel="+1", created_at="2026-03-01T00:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.history(OTHER)) == 2
    assert world.history(KEY) == world.history(elsewhere) == []


async def test_a_redelivery_goes_to_the_record_that_has_the_message() -> None:
    world = World()
    world.converse(KEY, created_at="2026-01-01T00:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        world.converse(OTHER, created_at="2026-02-01T00:00:00.000Z")
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert world.history(OTHER) == []


async def test_a_redelivery_within_another_messages_burst_is_found_in_the_older_record() -> None:
    world = World()
    world.converse(KEY, created_at="2026-01-01T00:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        world.converse(OTHER, created_at="2026-02-01T00:00:00.000Z")
        await worker.accept(message(2))
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert [r.turn for r in world.model.requests] == ["message 1", "message 2"]
    assert len(world.history(OTHER)) == 2


async def test_stop_is_for_all_records_with_the_business_number() -> None:
    world = World()
    world.converse(KEY, created_at="2026-01-01T00:00:00.000Z")
    world.converse(OTHER, created_at="2026-02-01T00:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1, "STOP"))
        await asyncio.sleep(5)
        assert record.OPTED_OUT in world.item(KEY)
        assert record.OPTED_OUT in world.item(OTHER)
        await worker.accept(message(2, "START"))
        await asyncio.sleep(10)
    assert record.OPTED_OUT not in world.item(KEY)
    assert record.OPTED_OUT not in world.item(OTHER)


async def test_an_opt_out_is_copied_to_a_record_that_is_younger_than_it() -> None:
    world = World()
    world.converse(KEY, created_at="2026-01-01T00:00:00.000Z", reply_opted_out="2026-01-02")
    world.converse(OTHER, created_at="2026-02-01T00:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
    assert record.OPTED_OUT in world.item(OTHER)
    assert world.channel.accepted == []


async def test_a_business_scoped_id_is_a_sender_like_any_other() -> None:
    world = World()
    key = ConversationKey("US.ABC123", "c-9")
    world.converse(key)
    async with world.running() as worker:
        await worker.accept(message(1, sender="whatsapp:US.ABC123"))
        await asyncio.sleep(20)
    assert [p.recipient for p in world.channel.accepted] == ["whatsapp:US.ABC123"]
    assert len(world.history(key)) == 2


async def test_create_makes_one_record_for_a_new_sender() -> None:
    world = World(unknown={"policy": "create"})
    async with world.running(workers=2):
        await asyncio.gather(
            world.workers[0].accept(message(1)), world.workers[1].accept(message(2))
        )
        await asyncio.sleep(30)
    ((key, item),) = world.store.items.items()
    assert key.partition == CUSTOMER
    assert item[record.COMPANY_TEL] == BUSINESS
    assert [role for role, _ in world.history(key)] == ["user", "user", "assistant"]


async def test_notify_sends_its_text_once_a_day_and_writes_no_conversation() -> None:
    world = World(unknown={"policy": "notify", "notice_text": "Please write to us by e-mail."})
    worker = world.worker()
    await worker.accept(message(1))
    await worker.accept(message(2))
    await asyncio.sleep(24 * 3600)
    await worker.accept(message(3))
    assert [p.text for p in world.channel.accepted] == ["Please write to us by e-mail."] * 2
    assert world.store.items == {}


async def test_a_notice_that_fails_is_not_repeated_and_the_message_is_acknowledged() -> None:
    world = World(unknown={"policy": "notify", "notice_text": "Please write to us by e-mail."})
    world.channel.failures = [Permanent("twilio", "blocked")]
    worker = world.worker()
    await worker.accept(message(1))
    await worker.accept(message(2))
    assert world.channel.accepted == []


async def test_nothing_of_the_starters_record_is_touched() -> None:
    world = World()
    foreign: dict[str, Any] = {
        "name": "Lee",
        "tags": {"a", "b"},
        "nested": {"deep": [1, {"x": None}]},
        "messages": [{"role": "assistant", "content": "hi", "extra": 1}],
    }
    world.converse(**foreign)
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    item = world.item()
    assert {k: item[k] for k in ("name", "tags", "nested")} == {
        k: foreign[k] for k in ("name", "tags", "nested")
    }
    assert item["messages"][0] == {"role": "assistant", "content": "hi", "extra": 1}


async def test_the_thread_goes_on_and_what_it_missed_is_told() -> None:
    world = World()
    world.converse(thread_id="resp_0")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        world.item()[record.MESSAGES].append(
            {"role": "human", "content": "a person answered", "turn_id": "people-1"}
        )
        await worker.accept(message(2))
        await asyncio.sleep(20)
    first, second = world.model.requests
    assert (first.thread_id, first.unseen) == ("resp_0", ())
    assert second.thread_id == "resp_1"
    assert [line.text for line in second.unseen] == ["a person answered"]
