"""Parties on the stage, warm, each with customers of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from tests.benchmarks import load, stage
from tests.benchmarks.figures.context import Bench
from tests.benchmarks.load import Customers
from tests.benchmarks.parties import started
from tests.benchmarks.parties.started import Options, Party
from tests.benchmarks.stage import Stage
from tests.benchmarks.webhooks import Signer

# For the doubles and a handful of parties, warming included; about.
START_SECONDS = 40.0
CUSTOMERS = 20_000
_WARM_RATE, _WARM_SECONDS = 20.0, 2.0


class Actor(NamedTuple):
    party: Party
    stage: Stage
    customers: Customers


@asynccontextmanager
async def opened(
    bench: Bench,
    names: Sequence[str],
    *,
    settings: Mapping[str, str] | None = None,
    reply_runners: int = 4,
) -> AsyncIterator[dict[str, Actor]]:
    """`settings`: replyd's; `reply_runners`: warm instances of the two-Lambda way's function."""
    async with AsyncExitStack() as stack:
        doubles = await stack.enter_async_context(stage.opened(bench.other_cores))
        options = Options(
            on=bench.party_cores,
            beside=bench.other_cores,
            replyd=settings or {},
            reply_runners=reply_runners,
            conversations=CUSTOMERS,
        )
        found = {}
        for number, name in enumerate(names):
            bench.results.say(f"{name} starts")
            party = await stack.enter_async_context(started.opened(name, doubles, options))
            found[name] = Actor(party, doubles, Customers(Signer(number), CUSTOMERS))
            await warmed(found[name])
        yield found


async def warmed(actor: Actor, of: int = 1) -> None:
    """`of`: processes that share the load. The first calls of one cost more: descriptions are read,
    connections made."""
    party, doubles, customers = actor
    await load.run(party, doubles, customers.arrivals(_WARM_RATE, _WARM_SECONDS * of))
