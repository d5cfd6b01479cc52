"""A desk to look at what workers have left in memory. Tests in this folder run on virtual time."""

from replyd.adapters.memory.operations import MemoryTable
from replyd.bootstrap.policies import policies
from replyd.flows.desk import Desk
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.world import World

# What must never be printed unless asked for.
SECRET = "my card is 4929"


def pytest_asyncio_loop_factories() -> dict[str, type[VirtualTimeLoop]]:
    return {"virtual": VirtualTimeLoop}


def desk(world: World) -> Desk:
    window, policy = policies(world.settings)
    return Desk(
        store=world.store,
        table=MemoryTable(world.store),
        now=world.clock.now,
        window=window,
        policy=policy,
        grace_ms=20_000,
    )
