"""Whole turns, whose parts keep to their number's rate and whose customers see it coming."""

import asyncio
from typing import Any

from replyd.domain import record
from replyd.domain.events import DependencyFailed, PartSent
from replyd.domain.messages import ConversationKey
from replyd.errors import Busy
from replyd.settings import Sending
from tests.support.world import ACCOUNT, BUSINESS, KEY, Worker, World, message

OTHER_CUSTOMER, OTHER_BUSINESS = "+447700900002", "+447700900101"
OTHER_KEY = ConversationKey(OTHER_CUSTOMER, "c-2")
THIRD_CUSTOMER = "+447700900003"
THIRD_KEY = ConversationKey(THIRD_CUSTOMER, "c-3")


def paced(turn: dict[str, Any] | None = None, **sending: Any) -> World:
    world = World(turn=turn)
    world.settings = world.settings.model_copy(update={"sending": Sending(**sending)})
    world.converse()
    world.converse(OTHER_KEY, **{record.COMPANY_TEL: OTHER_BUSINESS})
    world.converse(THIRD_KEY)
    return world


async def two_customers_write(worker: Worker) -> None:
    await worker.accept(message(1))
    other = {"sender": f"whatsapp:{OTHER_CUSTOMER}", "recipient": f"whatsapp:{OTHER_BUSINESS}"}
    # One after the other, and so do their windows close.
    await asyncio.sleep(0.01)
    await worker.accept(message(2, **other))


async def report(worker: Worker, code: str, business: str) -> None:
    fields = {"AccountSid": ACCOUNT, "From": f"whatsapp:{business}", "ErrorCode": code}
    sid = "SM" + "c" * 32
    await worker.track({"MessageSid": sid, "MessageStatus": "undelivered", **fields}, {})


def sent_at(world: World, key: ConversationKey = KEY) -> list[float]:
    times = [e.at for e in world.events(PartSent) if e.key == key]
    return [(at - times[0]) / 1000 for at in times]


async def test_the_parts_of_a_reply_keep_to_the_rate() -> None:
    world = paced(messages_per_second=0.5)
    world.model.answer = lambda _: "a" * 4000
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert sent_at(world) == [0, 2, 4]
    assert world.outcomes() == ["replied"]


async def test_a_refusal_for_sending_too_much_holds_back_its_number_only() -> None:
    world = paced()
    world.channel.failures.append(Busy("twilio", "too many requests", delay=60))
    async with world.running() as worker:
        await two_customers_write(worker)
        await asyncio.sleep(1)
        await worker.accept(message(3, sender=f"whatsapp:{THIRD_CUSTOMER}"))
        await asyncio.sleep(20)
        # The third customer writes to the same number as the first.
        assert [part.sender for part in world.channel.accepted] == [f"whatsapp:{OTHER_BUSINESS}"]
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 3
    assert sorted(world.outcomes()) == ["replied"] * 3 + ["retry"] * 2
    # The answers were kept.
    assert len(world.model.requests) == 3


async def test_a_report_of_throttling_holds_back_its_number_only() -> None:
    world = paced()
    async with world.running() as worker:
        for code, sender in (("63018", BUSINESS), ("63016", OTHER_BUSINESS)):
            await report(worker, code, sender)
        await two_customers_write(worker)
        await asyncio.sleep(3.5)
        await report(worker, "63018", BUSINESS)
        await asyncio.sleep(2)
        assert [part.sender for part in world.channel.accepted] == [f"whatsapp:{OTHER_BUSINESS}"]
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 2


async def test_a_turn_that_waited_too_long_for_its_lease_does_not_send() -> None:
    # Watchdog and timeout leave a second of the lease, which the wait may take.
    world = paced({"lease_seconds": 20, "watchdog_seconds": 9}, messages_per_second=0.25)
    world.model.answer = lambda _: "a" * 3000
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(120)
    assert len(world.channel.accepted) == 2
    first, second = sent_at(world)
    assert second - first >= 4
    # It did not wait for its number while it held what was left of the lease.
    assert [e.code for e in world.events(DependencyFailed)] == ["pace"]
    assert world.outcomes() == ["replied"]


async def test_a_turn_that_is_stopped_while_it_waits_has_sent_nothing() -> None:
    world = paced(messages_per_second=0.25)
    async with world.running() as worker:
        await worker.accept(message(1))
        await worker.accept(message(2, sender=f"whatsapp:{THIRD_CUSTOMER}"))
        while len(world.channel.accepted) == 0:
            await asyncio.sleep(0.1)
        await worker.buffer.drain(1)
        assert len(world.channel.accepted) == 1
        # Nobody has to find out whether it was sent.
        assert not any(record.OUTBOX in item for item in world.store.items.values())


async def test_the_customer_sees_that_the_model_works() -> None:
    world = paced(typing=True)
    world.model.seconds = 30
    async with world.running() as worker:
        await worker.accept(message(1))
        await worker.accept(message(2))
        await asyncio.sleep(60)
    sid = message(2).sid
    assert world.channel.typing == [sid, sid]
    assert world.outcomes() == ["replied"]


async def test_nobody_sees_it_by_default() -> None:
    world = paced()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert world.channel.typing == []
    assert world.outcomes() == ["replied"]
