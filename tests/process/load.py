"""Customers who write all the time, and daemons that are killed and started again meanwhile."""

import asyncio
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from replyd.demo import twilio_wire
from replyd.demo.twilio_webhooks import Delivery
from replyd.domain.messages import ConversationKey
from tests.process.books import Asked, Imbalance
from tests.process.evidence import Evidence
from tests.process.town import Process, Town
from tests.process.unreliable import Moods

SETTINGS = {
    "REPLYD_WINDOW__QUIET_SECONDS": "1",
    "REPLYD_WINDOW__MAX_WAIT_SECONDS": "4",
    "REPLYD_TURN__LEASE_SECONDS": "20",
    "REPLYD_TURN__CLOCK_SKEW_SECONDS": "1",
    "REPLYD_TURN__GIVE_UP_AFTER_SECONDS": "120",
    "REPLYD_TWILIO__TIMEOUT_SECONDS": "2",
    "REPLYD_AI__TIMEOUT_SECONDS": "5",
    "REPLYD_QUEUES__VISIBILITY_SECONDS": "5",
    # So that histories roll over, and callbacks tell SIDs.
    "REPLYD_HISTORY__KEEP_MESSAGES": "20",
    "REPLYD_DELIVERY__RECORD": "sent",
    "REPLYD_LOGGING__LEVEL": "DEBUG",
}
# Of one webhook, each with the double's own retry.
_DELIVERIES = 4
_GIVEN_UP_AT_ONCE = 0.3
_REDELIVERED = 0.15


@dataclass(frozen=True, slots=True)
class Options:
    kills: int = 50
    seed: int = 1
    instances: int = 2
    customers: int = 30
    every: float = 3.5
    settle: float = 180.0
    logs: str = ""


class Instance:
    """One of the daemons: started again whenever it ends, until `closing`."""

    def __init__(self, town: Town, chance: random.Random) -> None:
        self._town = town
        self._chance = chance
        self.process: Process | None = None
        self.closing = False
        self.killed: list[Process] = []
        self.restarts = 0

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.process.returncode is None

    @property
    def ready(self) -> bool:
        return self.runs and self.process is not None and self.process.ready.is_set()

    def kill(self) -> None:
        assert self.process is not None
        self.killed.append(self.process)
        self.process.process.kill()

    async def run(self) -> None:
        while not self.closing:
            self.process = await self._town.spawn(**SETTINGS)
            await self.process.process.wait()
            if not self.closing:
                await asyncio.sleep(self._chance.uniform(0.2, 3))
                self.restarts += 1


class Run:
    """Customers who write, instances that die, and what both were told."""

    def __init__(self, options: Options, town: Town, moods: Moods) -> None:
        self._options = options
        self._town = town
        self._moods = moods
        self._chance = random.Random(f"{options.seed} kills")
        self._numbers = itertools.count(1)
        self._over = asyncio.Event()
        self.asked: list[Asked] = []
        self.evidence = Evidence(town, self.asked)
        self.left: list[Imbalance] = []
        self.counts: Counter[str] = Counter()
        self.instances = [
            Instance(town, random.Random(f"{options.seed} instance {n}"))
            for n in range(options.instances)
        ]
        self.keys = [
            ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(options.customers)
        ]

    async def load(self, say: Callable[[str], None]) -> None:
        """Customers write all the time while instances are killed; then everything is well."""
        await asyncio.gather(*(self._town.converse(key) for key in self.keys))
        async with asyncio.TaskGroup() as group:
            for instance in self.instances:
                group.create_task(instance.run())
            try:
                await self._all_ready()
                async with asyncio.TaskGroup() as customers:
                    for n, key in enumerate(self.keys):
                        customers.create_task(self._customer(n, key))
                    await self._kill(say)
                    self._over.set()
                self._moods.calm = True
                await self._all_ready()
                self._town.twilio.deliver_to = self._somewhere()
            finally:
                for instance in self.instances:
                    instance.closing = True
            say("no more kills, faults and messages")
            clock = time.monotonic()
            self.left = await self.evidence.quiescent(self._options.settle)
            await self._town.twilio.settle()
            self.counts["seconds until everything was settled"] = round(time.monotonic() - clock)
            for instance in self.instances:
                assert instance.process is not None
                instance.process.process.send_signal(signal.SIGTERM)

    async def _kill(self, say: Callable[[str], None]) -> None:
        every = self._options.every
        for number in range(1, self._options.kills + 1):
            while not any(i.ready for i in self.instances):
                await asyncio.sleep(0.05)
            await asyncio.sleep(self._chance.uniform(0.1 * every, 1.9 * every))
            while not (running := [i for i in self.instances if i.runs]):
                await asyncio.sleep(0.05)
            # One that is still starting has less to lose.
            (victim,) = self._chance.choices(running, [4 if i.ready else 1 for i in running])
            self.counts["kills before it was ready"] += not victim.ready
            victim.kill()
            self.counts["kills"] += 1
            say(
                f"kill {number} of {self._options.kills}: instance "
                f"{self.instances.index(victim)}; {len(self.asked)} messages, "
                f"{sum(a.acknowledged for a in self.asked)} acknowledged, "
                f"{len(self._town.twilio.sent)} parts accepted, "
                f"{self._moods.met.total()} faults"
            )

    async def _all_ready(self) -> None:
        async with asyncio.timeout(60):
            while not all(i.ready for i in self.instances):
                await asyncio.sleep(0.05)

    def _somewhere(self) -> str:
        """An instance that runs, or where one ran last."""
        ready = [i for i in self.instances if i.ready and i.process]
        known = [p for p in self._town.processes if p.webhooks]
        process = self._chance.choice(ready).process if ready else known[-1]
        assert process is not None
        return process.webhooks

    async def _customer(self, n: int, key: ConversationKey) -> None:
        chance = random.Random(f"{self._options.seed} customer {n}")
        await asyncio.sleep(chance.uniform(0, 5))
        while not self._over.is_set():
            for _ in range(chance.randint(1, 3)):
                await self._write(chance, key)
                await asyncio.sleep(chance.uniform(0.05, 0.8))
            try:
                async with asyncio.timeout(chance.uniform(2, 12)):
                    await self._over.wait()
            except TimeoutError:
                continue

    async def _write(self, chance: random.Random, key: ConversationKey) -> None:
        """One message. Twilio tries a few times, and gives some messages up at once."""
        twilio = self._town.twilio
        asked = Asked(next(self._numbers), twilio_wire.sid("SM"), key)
        self.asked.append(asked)
        twilio.deliver_to = self._somewhere()
        delivery = await twilio.receive(key.partition, asked.text, sid=asked.sid)
        self.counts[f"webhooks answered {delivery.status}"] += 1
        patience = 1 if chance.random() < _GIVEN_UP_AT_ONCE else _DELIVERIES
        for _ in range(patience - 1):
            if delivery.ok:
                break
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            delivery = await self._redeliver(asked)
        asked.acknowledged = delivery.ok
        if delivery.ok and chance.random() < _REDELIVERED:
            await asyncio.sleep(chance.choice((0, 0, 2)))
            self.counts["webhooks redelivered after a 200"] += 1
            await self._redeliver(asked)

    async def _redeliver(self, asked: Asked) -> Delivery:
        self._town.twilio.deliver_to = self._somewhere()
        delivery = await self._town.twilio.redeliver(asked.sid)
        self.counts[f"webhooks answered {delivery.status}"] += 1
        return delivery
