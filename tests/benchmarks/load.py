"""Load from outside: customers who write at a constant rate whatever happens, or who keep so many
conversations open."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.connections import BrokenError
from tests.benchmarks.parties.started import Party
from tests.benchmarks.prices import Usage
from tests.benchmarks.stage import Counts, Stage
from tests.benchmarks.webhooks import Signer, Webhook

SETTLE_SECONDS = 90.0
_POLL_SECONDS = 0.05
# A party is quiet when it asked nothing of AWS but for messages for so long.
_QUIET_SECONDS = 0.4
# A closed loop's conversations begin over so long, and a refused message comes again after so long.
_BEGIN_SECONDS, _AGAIN_SECONDS = 2.0, 0.2
# Between the messages of one burst.
TYPING_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at`: seconds from the beginning. `last`: nothing more comes in this burst."""

    at: float
    webhook: Webhook
    last: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """`seconds`: from when the message was to be sent, not from when it was."""

    status: int
    seconds: float


@dataclass(slots=True)
class Outcome:
    """`acks`: of all arrivals. `reply_seconds`: for each reply, from the last message's arrival.
    `replies`: to those who wrote."""

    acks: list[Acknowledged] = field(default_factory=list)
    reply_seconds: list[float] = field(default_factory=list)
    replies: int = 0
    seconds: float = 0.0

    @property
    def refused(self) -> int:
        return sum(ack.status != 200 for ack in self.acks)


class Customers:
    """`count` numbers from `first` on, with steps of `stride`, which has no factor in common with
    `count`: a customer writes again when all others have."""

    def __init__(self, signer: Signer, count: int, first: int = 0, stride: int = 1) -> None:
        self._signer = signer
        # The same moments for each party.
        self._random = random.Random(count)
        self._numbers = (first + place * stride % count for place in itertools.count())

    def write(self, messages: int = 1) -> list[Webhook]:
        """The messages of the next customer."""
        number = next(self._numbers)
        return [self._signer.webhook(number) for _ in range(messages)]

    def arrivals(self, rate: float, seconds: float, burst: int = 1) -> list[Arrival]:
        """Bursts that begin at a constant rate, `rate` messages a second in all, each at any moment
        of its share of the time: at equal distances a window would always close as another message
        comes, or never."""
        found = []
        for start in range(max(1, round(rate * seconds / burst))):
            webhooks = self.write(burst)
            begin = (start + self._random.random()) * burst / rate
            for place, webhook in enumerate(webhooks):
                at = begin + place * TYPING_SECONDS
                found.append(Arrival(at, webhook, place == burst - 1))
        return sorted(found, key=lambda a: a.at)


async def run(party: Party, stage: Stage, arrivals: Sequence[Arrival]) -> Outcome:
    """Open loop, as `deliver`. Returns when every reply has come and the party has nothing left to
    do.

    Raises TimeoutError when that takes too long."""
    outcome, began = Outcome(), time.monotonic() + 0.05
    before = await stage.taken()
    outcome.acks = await deliver(party, arrivals, began)
    outcome.seconds = time.monotonic() - began
    await settled(party, stage)
    last_at = {a.webhook.customer: began + a.at for a in arrivals if a.last}
    for customer, at in await stage.sent(before):
        if (due_at := last_at.get(customer)) is not None:
            outcome.replies += 1
            outcome.reply_seconds.append(at - due_at)
    return outcome


async def deliver(
    party: Party, arrivals: Sequence[Arrival], began: float | None = None
) -> list[Acknowledged]:
    """Each at its time after `began`, now by default, with its answer waited for beside the others.
    Returns when all have been answered, in the order in which they were."""
    start, acks = time.monotonic() if began is None else began, list[Acknowledged]()

    async def one(arrival: Arrival, due: float) -> None:
        answered = await _status(party, arrival.webhook)
        acks.append(Acknowledged(answered, time.monotonic() - due))

    async with asyncio.TaskGroup() as group:
        for arrival in arrivals:
            due = start + arrival.at
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            group.create_task(one(arrival, due))
    return acks


async def settled(party: Party, stage: Stage, seconds: float = SETTLE_SECONDS) -> None:
    """Returns when the party's queue is empty and it asks no more of AWS. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while await stage.depth(party.resources):
            await asyncio.sleep(_POLL_SECONDS)
        counts, since = Counts(), time.monotonic()
        while time.monotonic() - since < _QUIET_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)
            now = await stage.counts(party.resources)
            now.pop("ReceiveMessage", None)
            if now != counts:
                counts, since = now, time.monotonic()


@dataclass(frozen=True, slots=True)
class Saturation:
    """`turns`: a second, and `cpu_share`: of one core, by the party, both while it had all that it
    could do. From the first message to the last reply, so that all the work for each turn is in it:
    `replies`, `cpu_seconds`, and what was used of AWS."""

    turns: float
    cpu_share: float
    replies: int
    cpu_seconds: float
    usage: Usage
    refused: int

    @property
    def turns_per_cpu_second(self) -> float:
        """What `turns` were, had the party a core for itself."""
        return self.replies / self.cpu_seconds

    @property
    def requests(self) -> float:
        """To AWS for each turn, without what goes on by the clock."""
        return self.usage.requests / self.replies


async def saturate(
    party: Party, stage: Stage, customers: Customers, *, open_conversations: int, seconds: float
) -> Saturation:
    """Closed loop: so many conversations wait for their replies at any time, so that the party is
    never without work. Turns a second count from when each of the first ones has had its reply: by
    then they no longer move in step. Raises TimeoutError when that takes too long."""
    usage, cpu = await stage.usage(party.resources), party.cpu_seconds()
    first = index = await stage.taken()
    refused, writing = 0, set[asyncio.Task[None]]()

    async def write(pause: float) -> None:
        nonlocal refused
        await asyncio.sleep(pause)
        (webhook,) = customers.write()
        while await _status(party, webhook) != 200:
            refused += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    async def go_on_for(seconds: float, replies: float) -> int:
        """A new conversation for each reply; returns how many there were."""
        nonlocal index
        found, until = 0, time.monotonic() + seconds
        while time.monotonic() < until and found < replies:
            new = await stage.taken() - index
            index, found = index + new, found + new
            begin(new, 0)
            await asyncio.sleep(_POLL_SECONDS)
        return found

    def begin(count: int, over: float) -> None:
        for place in range(count):
            task = asyncio.create_task(write(over * place / count))
            writing.add(task)
            task.add_done_callback(writing.discard)

    begin(open_conversations, _BEGIN_SECONDS)
    if await go_on_for(SETTLE_SECONDS, open_conversations) < open_conversations:
        raise TimeoutError
    began, cpu_began = time.monotonic(), party.cpu_seconds()
    replies = await go_on_for(seconds, math.inf)
    took = time.monotonic() - began
    turns, cpu_share = replies / took, (party.cpu_seconds() - cpu_began) / took
    await asyncio.gather(*writing)
    await settled(party, stage)
    every, cpu = await stage.taken() - first, party.cpu_seconds() - cpu
    usage = await stage.usage(party.resources) - usage
    return Saturation(turns, cpu_share, every, cpu, usage, refused)


async def _status(party: Party, webhook: Webhook) -> int:
    """Of the answer; 0 when there is none."""
    try:
        status, _ = await party.webhooks.ask(webhook.request)
    except (BrokenError, OSError):
        return 0
    return status
