"""Take a dependency away from a running `replyd serve` for a minute, and see what becomes of it.

    python -m tests.process.outages --seconds 60 --only dynamodb:slow

Customers write before, during and after. Prints what webhooks and `/readyz` answered, how long it
took until all was well again, and whether a message was lost or answered twice.
"""

import argparse
import asyncio
import itertools
import logging
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from moto.server import ThreadedMotoServer
from rich.console import Console
from rich.table import Table

from replyd.demo import twilio_wire
from replyd.demo.local_aws import LocalAws
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from tests.contract.conftest import client
from tests.process.books import Asked, Imbalance, answer, balance
from tests.process.evidence import Evidence
from tests.process.kills import no_lost_clients
from tests.process.town import API_KEY, BUSINESS, WEBHOOK_URL, Process, Town, open_town
from tests.support.fault_proxy import DEPENDENCIES, MODES, Dependency, FaultProxy, Mode

SETTINGS = {
    "REPLYD_WINDOW__QUIET_SECONDS": "2",
    "REPLYD_WINDOW__MAX_WAIT_SECONDS": "10",
    # A drain waits for the poll under way.
    "REPLYD_QUEUES__WAIT_SECONDS": "5",
    "REPLYD_CATCHUP__INTERVAL_SECONDS": "30",
    "REPLYD_CATCHUP__SETTLE_SECONDS": "15",
    "REPLYD_CATCHUP__START_SECONDS": "1",
    "REPLYD_LOGGING__LEVEL": "DEBUG",
}
# What replyd's documentation tells to set: `#rc=3&rp=all`.
DELIVERIES = 4
OUT_OF_ORDER = ("out of order of arrival", "out of order of sending")
LOOK_SECONDS = 0.5
# Several that start at once on a busy machine take their time.
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Options:
    """`around`: seconds before and after the outage in which customers write too."""

    seconds: float = 60.0
    customers: int = 8
    every: float = 6.0
    around: float = 15.0
    settle: float = 300.0
    seed: int = 1


@dataclass(slots=True)
class Observed:
    """`answers`: HTTP statuses of the webhooks that came in the outage, 0 for none; `slowest` of
    them, seconds. `ready`: what `/readyz` named then, with the seconds until it first did; `flaps`:
    how often it changed its mind. `ready_after`, `settled_after`: seconds from the outage's end to
    the last 503 of `/readyz`, and until each message written before is answered. `busiest`:
    requests to the dependency in the busiest second of the outage; `requests`: in all of it."""

    dependency: Dependency
    mode: Mode
    answers: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    ready: dict[str, float] = field(default_factory=dict)
    flaps: int = 0
    ready_after: float = 0.0
    settled_after: float = 0.0
    busiest: int = 0
    requests: int = 0
    written: int = 0
    by_catch_up: int = 0
    handed: Counter[str] = field(default_factory=Counter)
    imbalances: list[Imbalance] = field(default_factory=list)


class Run:
    """One daemon, its customers, and one outage."""

    def __init__(self, options: Options, town: Town, proxy: FaultProxy, seen: Observed) -> None:
        self._options = options
        self._town = town
        self._proxy = proxy
        self.seen = seen
        self._chance = random.Random(options.seed)
        self._numbers = itertools.count(1)
        self._over = asyncio.Event()
        self._down = False
        self._ended_at = 0.0
        self.asked: list[Asked] = []
        self.evidence = Evidence(town, self.asked)
        self.keys = [
            ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(options.customers)
        ]

    async def load(self, process: Process) -> None:
        await asyncio.gather(*(self._town.converse(key) for key in self.keys))
        self._town.twilio.retries = 0
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(process))
            customers = [group.create_task(self._customer(key)) for key in self.keys]
            await asyncio.sleep(self._options.around)
            await self._outage()
            before_end = list(self.asked)
            await asyncio.gather(
                self._settled(before_end), asyncio.wait(customers), self._close_later()
            )
            watch.cancel()
        self.seen.imbalances += await self.evidence.quiescent(self._options.settle)
        await self._town.twilio.settle()
        process.process.send_signal(signal.SIGTERM)

    async def _outage(self) -> None:
        self._down = True
        self._proxy.seen.clear()
        await self._proxy.begin(self.seen.mode, self._options.seconds)
        await asyncio.sleep(self._options.seconds)
        self._down = False
        self._ended_at = time.monotonic()
        seconds = Counter(int(at) for at in self._proxy.seen)
        self.seen.busiest = max(seconds.values(), default=0)
        self.seen.requests = seconds.total()
        await self._proxy.end()

    async def _close_later(self) -> None:
        await asyncio.sleep(self._options.around)
        self._over.set()

    async def _settled(self, asked: Sequence[Asked]) -> None:
        """Until each of these messages is in the history, or it has taken too long."""
        while time.monotonic() - self._ended_at < self._options.settle:
            items = [await self._town.item(key) for key in self.keys]
            there = {m.get("message_id") for item in items for m in item.get(record.MESSAGES, [])}
            if {a.sid for a in asked} <= there:
                self.seen.settled_after = time.monotonic() - self._ended_at
                return
            await asyncio.sleep(LOOK_SECONDS)
        lost = sum(a.sid not in there for a in asked)
        self.seen.imbalances.append(Imbalance(f"{lost} messages never in a history", ""))

    async def _watch(self, process: Process) -> None:
        """Asks `/readyz` all the time."""
        before, began = 200, 0.0
        async with aiohttp.ClientSession() as session:
            while True:
                began = began or (time.monotonic() if self._down else 0.0)
                async with session.get(process.ops + "/readyz") as answer:
                    problems = (await answer.json())["problems"]
                now = time.monotonic()
                for name in problems:
                    self.seen.ready.setdefault(name, now - began if began else -1)
                if self._ended_at and answer.status != 200:
                    self.seen.ready_after = now - self._ended_at
                self.seen.flaps += answer.status != before
                before = answer.status
                await asyncio.sleep(LOOK_SECONDS)

    async def _customer(self, key: ConversationKey) -> None:
        every = self._options.every
        await asyncio.sleep(self._chance.uniform(0, every))
        while not self._over.is_set():
            # Nobody waits for an answer before the next question.
            task = asyncio.create_task(self._write(key))
            await asyncio.sleep(self._chance.uniform(0.5 * every, 1.5 * every))
            await task

    async def _write(self, key: ConversationKey) -> None:
        """One message; Twilio gives up after a few tries."""
        asked = Asked(next(self._numbers), twilio_wire.sid("SM"), key)
        self.asked.append(asked)
        for attempt in range(DELIVERIES):
            down, began = self._down, time.monotonic()
            if attempt:
                delivery = await self._town.twilio.redeliver(asked.sid)
            else:
                delivery = await self._town.twilio.receive(key.partition, asked.text, sid=asked.sid)
            if down:
                self.seen.answers[delivery.status] += 1
                self.seen.slowest = max(self.seen.slowest, time.monotonic() - began)
            if delivery.ok:
                asked.acknowledged = True
                return
            await asyncio.sleep(self._chance.uniform(0.2, 1))


@asynccontextmanager
async def secrets_of(name: str, token: str) -> AsyncIterator[str]:
    """A Secrets Manager with Twilio's auth token, by its URL. All of a process have one store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        async with client("secretsmanager", f"http://{host}:{port}") as aws:
            await aws.create_secret(Name=name, SecretString=token)
        yield f"http://{host}:{port}"
    finally:
        server.stop()


async def run(options: Options, ministack: str, dependency: Dependency, mode: Mode) -> Observed:
    """One row. Raises TimeoutError when the daemon does not come up."""
    seen, calls = Observed(dependency, mode), itertools.count(1)
    twilio = TwilioDouble(business=BUSINESS, webhook_url=WEBHOOK_URL)
    openai = OpenAIDouble(
        api_key=API_KEY, replies=lambda text: answer(next(calls), text, 1), delay=0.5
    )
    sqs = FaultProxy("sqs", ministack)
    async with AsyncExitStack() as stack:
        town = await stack.enter_async_context(open_town(ministack, sqs, twilio, openai))
        targets = {"dynamodb": ministack, "openai": openai.base_url, "twilio": twilio.base_url}
        if dependency == "secretsmanager":
            name = f"replyd/{twilio.account_sid}"
            targets[dependency] = await stack.enter_async_context(
                secrets_of(name, twilio.auth_token)
            )
        proxies: dict[str, FaultProxy] = {"sqs": sqs}
        for name in (name for name in DEPENDENCIES if name in targets):
            proxies[name] = await stack.enter_async_context(FaultProxy(name, targets[name]))
        environ = SETTINGS | {
            "AWS_ENDPOINT_URL_DYNAMODB": proxies["dynamodb"].base_url,
            "OPENAI_BASE_URL": f"{proxies['openai'].base_url}/v1",
            "REPLYD_TWILIO__BASE_URL": proxies["twilio"].base_url,
        }
        if dependency == "secretsmanager":
            environ |= {
                "AWS_ENDPOINT_URL_SECRETS_MANAGER": proxies[dependency].base_url,
                "TWILIO_ACCOUNT_SID": "",
                "TWILIO_AUTH_TOKEN": "",
                "REPLYD_TWILIO__ACCOUNT_SIDS": f'["{twilio.account_sid}"]',
                "REPLYD_TWILIO__SECRET_NAME": "replyd/{account_sid}",
                # The least: it is looked up again within the outage.
                "REPLYD_TWILIO__SECRET_REFRESH_SECONDS": "60",
            }
        job = Run(options, town, proxies[dependency], seen)
        process = await town.spawn(**environ)
        async with asyncio.timeout(START_SECONDS):
            await process.ready.wait()
        twilio.deliver_to = process.webhooks
        await job.load(process)
        books = await job.evidence.books()
        result = balance(books)
        seen.written = len(job.asked)
        seen.by_catch_up = result.counts["not acknowledged, in a turn all the same"]
        for reasons in books.handed.values():
            seen.handed += reasons
        # What CATCH-UP finds late comes late.
        late = {asked.key.sort for asked in job.asked if not asked.acknowledged}
        seen.imbalances += [
            *(
                i
                for i in result.imbalances
                if i.what not in OUT_OF_ORDER or i.conversation not in late
            ),
            *await job.evidence.endings([]),
            *job.evidence.logs([]),
        ]
        for name in ("lost", "staged without a wake-up"):
            if number := result.counts[f"not acknowledged, {name}"]:
                seen.imbalances.append(Imbalance(f"{number} messages {name}", ""))
    return seen


def cells(seen: Observed) -> dict[str, str]:
    """What was observed, by the heads of columns."""
    return {
        "row": f"{seen.dependency}:{seen.mode}",
        "webhooks in it": ", ".join(f"{n} x {s}" for s, n in sorted(seen.answers.items())),
        "slowest": f"{seen.slowest:.1f} s",
        "/readyz: since": ", ".join(f"{name} {at:.0f} s" for name, at in seen.ready.items()),
        "changes": str(seen.flaps),
        "ready again": f"{seen.ready_after:.0f} s",
        "all answered": f"{seen.settled_after:.0f} s",
        "requests": str(seen.requests),
        "busiest second": str(seen.busiest),
        "messages": str(seen.written),
        "by CATCH-UP": str(seen.by_catch_up),
        "people": ", ".join(f"{reason} {n}" for reason, n in seen.handed.items()),
        "lost or doubled": str(len(seen.imbalances)),
    }


def table(rows: Sequence[Observed]) -> Table:
    shown = Table(title="Outages")
    for name in cells(rows[0]):
        shown.add_column(name)
    for seen in rows:
        shown.add_row(*cells(seen).values())
    return shown


def rows_of(only: str) -> list[tuple[Dependency, Mode]]:
    """Those that fit: `dynamodb`, `dynamodb:slow`, `:slow`, several with commas, all when empty."""
    wanted = [w.partition(":") for w in only.split(",")]
    return [
        (dependency, mode)
        for dependency in DEPENDENCIES
        for mode in MODES
        if any(d in ("", dependency) and m in ("", mode) for d, _, m in wanted)
    ]


async def run_all(
    options: Options, only: str, parallel: int, say: Callable[[str], None]
) -> list[Observed]:
    room = asyncio.Semaphore(parallel)

    async with LocalAws() as aws:

        async def one(dependency: Dependency, mode: Mode) -> Observed:
            async with room:
                say(f"{dependency}:{mode} begins")
                try:
                    seen = await run(options, aws.endpoint_url, dependency, mode)
                except Exception as error:  # noqa: BLE001 - the others are worth having all the same
                    traceback.print_exc()
                    seen = Observed(dependency, mode)
                    seen.imbalances.append(Imbalance(f"not run to the end: {error!r}", ""))
                say(", ".join(f"{name}: {cell}" for name, cell in cells(seen).items()))
                return seen

        return await asyncio.gather(*(one(*row) for row in rows_of(only)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.process.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Options()
    add = parser.add_argument
    add("--seconds", type=float, default=defaults.seconds, help="of each outage (%(default)s)")
    add("--only", default="", help="rows, such as dynamodb:slow,sqs (all)")
    add("--parallel", type=int, default=1, help="rows at once (%(default)s)")
    add("--customers", type=int, default=defaults.customers, help="in each row (%(default)s)")
    add("--every", type=float, default=defaults.every, help="seconds from message to message")
    add("--seed", type=int, default=defaults.seed, help="of all that is chosen (%(default)s)")
    add(
        "--settle",
        type=float,
        default=defaults.settle,
        help="seconds in which all must be answered after the outage (%(default)s)",
    )
    given = vars(parser.parse_args(arguments))
    only, parallel = given.pop("only"), given.pop("parallel")
    # Nothing of what is printed is to be read as rich's markup.
    console = Console(markup=False, highlight=False, soft_wrap=True, width=220)
    logging.getLogger("aiohttp.server").addFilter(no_lost_clients)
    rows = asyncio.run(run_all(Options(**given), only, parallel, console.print))
    console.print(table(rows))
    for seen in rows:
        for imbalance in seen.imbalances:
            console.print(f"{seen.dependency}:{seen.mode}: IMBALANCE: {imbalance}")
    return 1 if any(seen.imbalances for seen in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
