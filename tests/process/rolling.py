"""Restart `replyd serve` again and again under load, one instance after the other, then see whether
anything was refused, lost or doubled, and how long it took.

    python -m tests.process.rolling --rounds 10

Each instance is started as systemd starts it, on a socket that outlives it. The seed chooses who
writes when; what a restart meets depends on the machine.
"""

import argparse
import asyncio
import itertools
import logging
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console
from rich.table import Table

from replyd.demo import twilio_wire
from replyd.demo.local_aws import LocalAws
from replyd.demo.openai_double import OpenAIDouble
from replyd.domain.messages import ConversationKey
from tests.process.balancer import Balancer
from tests.process.books import Asked, Balance, Imbalance, answer, balance, shown
from tests.process.couriers import Posted, TimedTwilio
from tests.process.evidence import Evidence
from tests.process.kills import no_lost_clients, table
from tests.process.town import API_KEY, BUSINESS, WEBHOOK_URL, Town, open_town
from tests.process.units import Restart, Unit, free_port, listening
from tests.support.counting_proxy import CountingProxy

# The promise: no restart takes longer beside the turns that are under way.
BEYOND_SECONDS = 5.0
# Twilio's limit.
ACK_SECONDS = 15.0
# As they come, but for a shorter burst, and a record of every part.
SETTINGS = {
    "REPLYD_WINDOW__QUIET_SECONDS": "1",
    "REPLYD_WINDOW__MAX_WAIT_SECONDS": "4",
    "REPLYD_QUEUES__WAIT_SECONDS": "",
    "REPLYD_DELIVERY__RECORD": "sent",
    "REPLYD_LOGGING__LEVEL": "DEBUG",
}
VARIANTS = ("pair", "one", "balanced")
_LONG = 0.15
_REDELIVERED = 0.15
_BURST = (1, 2, 3)
# What Twilio tries again with `#rc=3&rp=all`.
_RETRIES = 3
# Before each restart.
_PAUSE = (1.5, 3.0)


@dataclass(frozen=True, slots=True)
class Options:
    """`variant`: a `pair` of instances on one port, each with its socket unit; `one` with its
    socket unit; or a pair without, `balanced` by who is ready. `rate`: messages a second;
    `model`: seconds that an answer takes, the least and the most; `queue`: whether it has to be
    empty in the end, which takes a lease longer; `beyond`: seconds that a restart may take beside
    its turns."""

    variant: str = "pair"
    rounds: int = 10
    rate: float = 8.0
    customers: int = 40
    model: tuple[float, float] = (0.5, 4.0)
    seed: int = 1
    settle: float = 120.0
    queue: bool = True
    beyond: float = BEYOND_SECONDS
    logs: str = ""


@dataclass(slots=True)
class Report:
    restarts: list[Restart]
    posted: list[Posted]
    balance: Balance

    @property
    def slowest(self) -> float:
        """Seconds until the slowest webhook of a message was answered."""
        return max((p.seconds for p in self.posted if p.message and p.ok), default=0.0)


class SlowOpenAI(OpenAIDouble):
    def __init__(self, options: Options, **settings: Any) -> None:
        super().__init__(**settings)
        self._chance, self._seconds = random.Random(f"{options.seed} model"), options.model

    async def _create_response(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self._chance.uniform(*self._seconds))
        return await super()._create_response(request)


@dataclass(slots=True)
class Run:
    """Customers who write, and instances that are restarted meanwhile."""

    options: Options
    town: Town
    units: Sequence[Unit]
    asked: list[Asked] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self, say: Callable[[str], None]) -> None:
        keys = [
            ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(self.options.customers)
        ]
        await asyncio.gather(*(self.town.converse(key) for key in keys))
        async with asyncio.TaskGroup() as customers:
            for key in keys:
                customers.create_task(self._customer(key))
            await self._roll(say)
            self._over.set()

    async def _roll(self, say: Callable[[str], None]) -> None:
        chance = random.Random(f"{self.options.seed} restarts")
        for _ in range(self.options.rounds):
            for unit in self.units:
                await asyncio.sleep(chance.uniform(*_PAUSE))
                self.restarts.append(done := await unit.restart())
                say(
                    f"{done.unit} ended after {done.drain:.1f} s, with {done.turns} turns of up to "
                    f"{done.turn:.1f} s, and was ready again after {done.seconds:.1f} s; "
                    f"{len(self.asked)} messages written"
                )

    async def _customer(self, key: ConversationKey) -> None:
        """Bursts, so far apart that all customers together keep the rate."""
        options = self.options
        chance = random.Random(f"{options.seed} {key.sort}")
        pause = sum(_BURST) / len(_BURST) * options.customers / options.rate
        await asyncio.sleep(chance.uniform(0, pause))
        while not self._over.is_set():
            for _ in range(chance.choice(_BURST)):
                await self._write(chance, key)
                await asyncio.sleep(chance.uniform(0.05, 0.8))
            try:
                async with asyncio.timeout(chance.uniform(0.5, 1.5) * pause):
                    await self._over.wait()
            except TimeoutError:
                continue

    async def _write(self, chance: random.Random, key: ConversationKey) -> None:
        asked = Asked(next(self._numbers), twilio_wire.sid("SM"), key)
        self.asked.append(asked)
        delivery = await self.town.twilio.receive(key.partition, asked.text, sid=asked.sid)
        for _ in range(_RETRIES):
            if delivery.ok:
                break
            self.counts["messages delivered again"] += 1
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            delivery = await self.town.twilio.redeliver(asked.sid)
        asked.acknowledged = delivery.ok
        if chance.random() < _REDELIVERED:
            self.counts["webhooks redelivered after a 200"] += 1
            await self.town.twilio.redeliver(asked.sid)


async def run(options: Options, ministack: str, say: Callable[[str], None]) -> Report:
    """The whole of it. Raises TimeoutError when an instance does not stop or come up."""
    started = time.monotonic()
    lengths, calls = random.Random(f"{options.seed} lengths"), itertools.count(1)

    def reply(text: str) -> str:
        return answer(next(calls), text, lengths.choice((2, 3)) if lengths.random() < _LONG else 1)

    twilio = TimedTwilio(f"{options.seed} couriers", business=BUSINESS, webhook_url=WEBHOOK_URL)
    twilio.retries, twilio.timeout = 0, ACK_SECONDS
    openai = SlowOpenAI(options, api_key=API_KEY, replies=reply)
    async with open_town(ministack, CountingProxy(ministack), twilio, openai) as town:
        async with AsyncExitStack() as stack:
            units = await _units(options, town, stack)
            job = Run(options, town, units)
            await job.load(say)
            say("no more restarts and messages")
            evidence = Evidence(town, job.asked)
            left = await evidence.quiescent(options.settle, queue=options.queue)
            await twilio.settle()
            for unit in units:
                await unit.stop()
        books = await evidence.books()
        result = balance(books)
        report = Report(job.restarts, twilio.posted, result)
        result.imbalances += [*left, *await evidence.endings([]), *evidence.logs([])]
        result.imbalances += _broken(options, report, units)
        for name in dict.fromkeys(i.conversation for i in result.imbalances if i.conversation):
            for line in shown(books.records[name]):
                say(f"{name}: {line}")
        result.counts += job.counts
        result.counts.update(
            {
                "seconds": round(time.monotonic() - started),
                "customers": options.customers,
                "messages written": len(job.asked),
                "restarts": len(job.restarts),
                "webhooks": len(twilio.posted),
                "webhooks on a kept connection": sum(p.reused for p in twilio.posted),
                "webhooks not answered 200 or 204": sum(not p.ok for p in twilio.posted),
                "wake-ups in the dead-letter queue": len(books.parked),
            }
        )
        if options.logs:
            evidence.keep_logs(Path(options.logs))
    return report


async def _units(options: Options, town: Town, stack: AsyncExitStack) -> list[Unit]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    names = ("replyd",) if options.variant == "one" else ("replyd@1", "replyd@2")
    units, port = [], 0
    for name in names:
        environ, held = dict(SETTINGS), None
        if options.variant == "balanced":
            environ["REPLYD_SERVER__PORT"] = str(free_port())
        else:
            pair = options.variant == "pair"
            held = stack.enter_context(listening(port, reuse_port=pair))
            port = held.getsockname()[1]
        units.append(Unit(town, name, directory, environ, held))
        stack.push_async_callback(units[-1].close)
    await asyncio.gather(*(unit.start() for unit in units))
    town.twilio.deliver_to = f"http://127.0.0.1:{port}"
    if options.variant == "balanced":
        balancer = await stack.enter_async_context(Balancer(units))
        town.twilio.deliver_to = balancer.url
    return units


def _broken(options: Options, report: Report, units: Sequence[Unit]) -> list[Imbalance]:
    """What is promised of restarts beside that the books balance."""
    found = [
        Imbalance("a restart took too long", "", restart.unit, str(restart))
        for restart in report.restarts
        if restart.beyond >= options.beyond
    ]
    found += [
        Imbalance("a process did not feed the watchdog", "", unit.name)
        for unit in units
        if unit.heard["silence"] or unit.heard["stuck"]
    ]
    if options.variant != "balanced":
        found += [
            Imbalance("a webhook was refused", "", shows=str(posted))
            for posted in report.posted
            if not posted.ok
        ]
    return found


def restarts(report: Report) -> Table:
    """Each restart, for people; seconds."""
    beyond = [restart.beyond for restart in report.restarts]
    shown_table = Table(title="Restarts, in seconds", box=None)
    columns = ("unit", "turns", "last one ended", "process ended", "next one ready", "beyond turns")
    for column in columns:
        shown_table.add_column(column, justify="right")
    for done in report.restarts:
        seconds = (done.turn, done.drain, done.seconds, done.beyond)
        shown_table.add_row(done.unit, str(done.turns), *(f"{s:.2f}" for s in seconds))
    if beyond:
        shown_table.add_row("median", "", "", "", "", f"{statistics.median(beyond):.2f}")
        shown_table.add_row("longest", "", "", "", "", f"{max(beyond):.2f}")
    return shown_table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.process.rolling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Options()
    add = parser.add_argument
    add("--variant", choices=VARIANTS, default=defaults.variant, help="see Options (%(default)s)")
    add("--rounds", type=int, default=defaults.rounds, help="of all instances (%(default)s)")
    add("--rate", type=float, default=defaults.rate, help="messages a second (%(default)s)")
    add("--customers", type=int, default=defaults.customers, help="conversations (%(default)s)")
    add("--seed", type=int, default=defaults.seed, help="of all that is chosen (%(default)s)")
    add("--settle", type=float, default=defaults.settle, help="seconds at the end (%(default)s)")
    add("--logs", default="", help="directory to write the log of each process to")
    options = Options(**vars(parser.parse_args(arguments)))
    console = Console(markup=False, highlight=False, soft_wrap=True)

    async def everything() -> Report:
        async with LocalAws() as aws:
            return await run(options, aws.endpoint_url, console.print)

    logging.getLogger("aiohttp.server").addFilter(no_lost_clients)
    report = asyncio.run(everything())
    console.print(restarts(report))
    console.print(table(report.balance))
    console.print(f"slowest webhook of a message: {report.slowest:.2f} s")
    for imbalance in report.balance.imbalances:
        console.print(f"IMBALANCE: {imbalance}")
    broken = bool(report.balance.imbalances)
    console.print("the books do not balance" if broken else "the books balance")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
