"""A worker that is told to stop: what it begins no more, and gives back at once."""

import asyncio
import json

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from tests.support.world import KEY, World, message

OTHER = ConversationKey("+447700900002", "c-2")
LONG_POLL = 20.0


async def test_no_turn_begins_while_the_receive_in_flight_is_waited_for() -> None:
    world = World(window={"quiet_seconds": 5})
    world.converse()
    world.queue.wait_seconds = LONG_POLL
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    # An early wake-up, held for the rest of the window, which closes during the next receive.
    await world.queue.send(world.queue.sent[0][0], 0)
    await asyncio.sleep(1)
    assert worker.buffer.held == 1
    loop = asyncio.get_running_loop()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.1)
    assert min(m.visible_at for m in world.queue.messages.values()) <= loop.time()
    await stopping
    assert world.model.requests == []
    assert record.LEASE not in world.item()


async def test_what_stands_behind_a_message_that_is_being_adopted_is_given_back() -> None:
    world = World()
    world.converse()
    world.converse(OTHER)
    body = {
        "twilio_message": {
            "MessageSid": message(1).sid,
            "From": "whatsapp:" + KEY.partition,
            "To": "whatsapp:+447700900100",
            "Body": "from another handler",
            "AccountSid": message(1).account_sid,
        }
    }
    await world.queue.send(json.dumps(body), 0)
    await world.webhook()(message(2, sender="whatsapp:" + OTHER.partition))
    waiting = world.queue.sent[-1][0]
    for queued in world.queue.messages.values():
        queued.visible_at = 0
    world.queue.send_seconds = 5
    worker = world.worker()
    worker.start()
    await asyncio.sleep(1)
    await worker.stop()
    # The first one is staged, and its own wake-up on its way.
    assert len(world.item()[record.PENDING]) == 1
    (given_back,) = (m for m in world.queue.messages.values() if m.body == waiting)
    assert given_back.visible_at <= asyncio.get_running_loop().time()
    assert given_back.receives == 1
