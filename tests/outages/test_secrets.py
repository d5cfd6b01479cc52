"""Secrets Manager at the start, and a token that is replaced while it is down."""

import asyncio

import pytest

from tests.outages.faults import now
from tests.outages.world import OutageWorld
from tests.support.fault_proxy import MODES, Mode


@pytest.mark.parametrize("mode", MODES)
async def test_without_a_token_webhooks_are_put_off_and_nobody_is_told_that_all_is_well(
    mode: Mode,
) -> None:
    world = OutageWorld("secretsmanager")
    world.outage.begin(mode, 60)
    async with world.running():
        for number in range(1, 60):
            began = now()
            assert await world.post(world.params(world.keys[0], number)) == 503
            # It does not wait for the look-up's end.
            assert now() - began <= 2.1
            assert "secretsmanager" in await world.health.problems()
            await asyncio.sleep(1)
        # However many ask: a webhook and `/readyz` each once in 5 s, with three tries.
        assert len(world.outage.requests) <= 2 * 3 * (now() / 5 + 1)
        world.outage.mode = None
        await asyncio.sleep(10)
        assert "secretsmanager" not in await world.health.problems()
        assert await world.post(world.params(world.keys[0], 100)) == 200
        # CATCH-UP could not read Twilio's list: that it can be used again shows with the answer.
        await asyncio.sleep(10)
        assert await world.health.problems() == {}
