"""Nothing asks a dead dependency without a pause, or piles up before it."""

import asyncio
import random
from collections import Counter

import pytest

from replyd.domain.messages import ConversationKey
from tests.outages.faults import now
from tests.outages.world import OutageWorld
from tests.support.fault_proxy import Dependency, Mode

WAITING = 15


async def wait_for_answers(world: OutageWorld, mode: Mode) -> Counter[int]:
    """All customers have written once, and nobody writes any more. Requests by second."""
    for key in world.keys:
        world.spawn_write(key)
    await asyncio.sleep(1)
    world.outage.begin(mode, 60)
    await asyncio.sleep(60)
    seconds = Counter(int(at - now() + 60) for at in world.outage.requests)
    world.outage.mode = None
    return seconds


@pytest.mark.parametrize(
    ("dependency", "mode"),
    [
        ("dynamodb", "failing"),
        ("dynamodb", "throttled"),
        ("openai", "failing"),
        ("twilio", "failing"),
        ("twilio", "throttled"),
    ],
)
async def test_those_who_wait_ask_less_and_less(dependency: Dependency, mode: Mode) -> None:
    world = OutageWorld(dependency, customers=WAITING)
    async with world.running():
        seconds = await wait_for_answers(world, mode)
        late = sum(n for second, n in seconds.items() if second >= 30)
        # One attempt in 15 s at the least, each with up to three tries, and the release of the
        # lease that it had; the consumer and `/readyz` come on top.
        assert late <= WAITING * 2 * (3 + 3) + 30
        await asyncio.sleep(150)
        assert {key.sort for key in world.keys if not world.history(key)} == set()


async def test_webhooks_that_hang_are_bounded() -> None:
    """Fifty a second, each for 10 s: beyond `server.max_inflight` they are refused at once."""
    world = OutageWorld("dynamodb")
    chance = random.Random(1)
    limit = world.settings.server.max_inflight
    answers: list[tuple[int, float]] = []

    async def deliver(number: int) -> None:
        key = chance.choice(world.keys)
        began = now()
        status = await world.post(world.params(ConversationKey(key.partition), number))
        answers.append((status, now() - began))

    async with world.running():
        world.outage.begin("slow", 60)
        deliveries = []
        for number in range(1, 301):
            deliveries.append(asyncio.create_task(deliver(number)))
            await asyncio.sleep(0.02)
            assert world.server.inflight <= limit
        await asyncio.gather(*deliveries)
        assert world.server.inflight == 0
        world.outage.mode = None
        assert max(seconds for _, seconds in answers) <= 10.1
        assert {status for status, _ in answers} <= {200, 503}
        at_once = [s for status, s in answers if status == 503 and s == 0]
        assert at_once
        # All is as before.
        assert await world.post(world.params(world.keys[0], 2000)) == 200


@pytest.mark.parametrize(
    ("dependency", "refused", "seconds"),
    [
        ("dynamodb", True, 120),
        ("dynamodb", False, 120),
        ("openai", True, 120),
        ("openai", False, 120),
        ("twilio", True, 120),
        # Each look into Twilio's list is an attempt.
        ("twilio", False, 60),
    ],
)
async def test_an_outage_uses_up_no_lone_customers_attempts(
    dependency: Dependency, refused: bool, seconds: int
) -> None:
    """With nobody else to tell an outage from a message that the dependency cannot take."""
    world = OutageWorld(dependency, customers=1)
    async with world.running():
        world.outage.begin("failing", 1000 if refused else 0)
        writing = world.spawn_write(world.keys[0])
        await asyncio.sleep(seconds)
        world.outage.mode = None
        await writing
        await asyncio.sleep(120)
    assert world.handoffs.bodies == []
    assert [entry["role"] for entry in world.history(world.keys[0])] == ["user", "assistant"]
