"""Many customers at once, two instances, redelivered webhooks: the books balance."""

import asyncio
import random
from collections import Counter

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from tests.process.conftest import Town

CUSTOMERS = 40
BURST = 3


async def test_every_message_is_in_one_turn_and_every_turn_is_answered_once(town: Town) -> None:
    chance = random.Random(7)
    keys = [ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(CUSTOMERS)]
    await asyncio.gather(*(town.converse(key) for key in keys))
    instances = [await town.serve(REPLYD_LOGGING__LEVEL="INFO") for _ in range(2)]
    # The double delivers to one place at a time; which one a customer's message meets varies.
    sids: dict[ConversationKey, list[str]] = {key: [] for key in keys}

    async def write(key: ConversationKey) -> None:
        for number in range(BURST):
            town.twilio.deliver_to = chance.choice(instances).webhooks
            delivery = await town.twilio.receive(key.partition, f"question {number}")
            assert delivery.ok
            sids[key].append(delivery.sid)
            if chance.random() < 0.2:
                assert (await town.twilio.redeliver(delivery.sid)).ok
            await asyncio.sleep(chance.random() / 5)

    await asyncio.gather(*(write(key) for key in keys))
    replies = Counter[str]()
    for key in keys:
        item = await town.settled(BURST + 1, key)
        history = item[record.MESSAGES]
        users = [m["message_id"] for m in history if m["role"] == "user"]
        assert users == sids[key]
        answers = [m["message_id"] for m in history if m["role"] == "assistant"]
        # A burst that a slow machine stretches beyond the quiet time is more than one turn.
        assert len(answers) == len({m["turn_id"] for m in history})
        replies.update(answers)
    assert set(replies.values()) == {1}
    assert sorted(replies) == sorted(line.sid for line in town.twilio.sent)
