"""The main job on virtual time: from an accepted message to a recorded turn."""

import asyncio

from replyd.domain import record
from replyd.domain.events import MessageDropped
from tests.support.world import CUSTOMER, KEY, World, message, without_times


async def test_one_message_gets_one_reply_and_one_recorded_turn() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "hello"))
        await asyncio.sleep(20)
    assert [p.text for p in world.channel.accepted] == ["You said: hello"]
    assert world.history() == [("user", "hello"), ("assistant", "You said: hello")]
    item = world.item()
    assert item[record.STATUS] == "ai_response_sent"
    assert item[record.THREAD_ID] == "resp_1"
    assert item[record.PENDING] == []
    assert not {record.LEASE, record.OUTBOX, record.ATTEMPTS} & item.keys()
    assert [m["message_id"] for m in item[record.MESSAGES]] == [
        message(1).sid,
        f"SM{1:032d}",
    ]
    assert world.queue.messages == {}
    assert world.outcomes() == ["replied"]


async def test_a_burst_gets_one_model_call_one_reply_and_one_turn_in_order() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        for number in (1, 2, 3):
            await worker.accept(message(number))
            await asyncio.sleep(1)
        await asyncio.sleep(20)
    assert len(world.model.requests) == 1
    assert without_times(world.model.requests[0].turn) == "message 1\nmessage 2\nmessage 3"
    assert len(world.channel.accepted) == 1
    assert [role for role, _ in world.history()] == ["user"] * 3 + ["assistant"]
    assert world.queue.messages == {}


async def test_a_burst_of_three_costs_eleven_requests_besides_receives() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        for number in (1, 2, 3):
            await worker.accept(message(number))
            await asyncio.sleep(1)
        await asyncio.sleep(20)
    assert world.store.lookups == 1
    assert world.store.applied == ["stage"] * 3 + ["claim", "intend_reply", "commit"]
    assert world.queue.requests["send"] == 3
    assert world.queue.requests["delete"] == 1
    assert "hide" not in world.queue.requests


async def test_an_unknown_sender_is_counted_and_nothing_is_written() -> None:
    world = World()
    worker = world.worker()
    await worker.accept(message(1))
    assert world.store.items == {}
    assert [e.reason for e in world.events(MessageDropped)] == ["unknown_sender"]
    assert world.queue.sent == []


async def test_the_flag_sends_the_message_to_people_and_keeps_silent() -> None:
    world = World()
    world.converse(handoff_to_human=True)
    async with world.running() as worker:
        await worker.accept(message(1, "help"))
        await asyncio.sleep(5)
    assert world.channel.accepted == []
    assert world.model.requests == []
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "requested"
    assert body["message"]["body"] == "help"
    assert body["key"] == {"recipient_tel": CUSTOMER, "conversation_id": KEY.sort}
    assert world.item()[record.STATUS] == "handed_to_human"
    assert world.history() == [("user", "help")]
