"""One run: a table, the queues, the vendors, some instances, customers, and the oracle."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from replyd.adapters.memory import LoopClock
from replyd.bootstrap.parts import Parts
from replyd.domain import record as r
from replyd.domain.messages import ConversationKey
from replyd.domain.tools import HAND_OVER
from replyd.domain.turn import BY_AI
from replyd.ports import ToolContext
from replyd.settings import Settings
from replyd.simulation import oracle, people
from replyd.simulation.instances import Instance, RunIds
from replyd.simulation.ledger import Ledger, Violation
from replyd.simulation.queue import Queue
from replyd.simulation.table import Table
from replyd.simulation.trace import Line, Trace
from replyd.simulation.vendors import (
    ACCOUNT,
    APOLOGY,
    BOOK,
    BUSINESS,
    CUSTOMER_PREFIX,
    LOOK,
    STOP_NOTICE,
    Accepted,
    Answers,
    Phone,
    opt_out_words,
)
from replyd.simulation.virtual_time import VirtualTimeLoop
from replyd.simulation.weather import Weather
from replyd.simulation.wired_ports import (
    WiredChannel,
    WiredHandoffs,
    WiredModel,
    WiredQueue,
    WiredStore,
    WiredToolbox,
)
from replyd.simulation.wires import Wires

# Short times make more things meet; heartbeats and polls are where idle time would be spent.
SETTINGS = Settings.model_validate(
    {
        "server": {"public_url": "https://simulated.example"},
        "window": {
            "quiet_seconds": 2,
            "max_wait_seconds": 10,
            "max_messages": 5,
            "max_restarts": 1,
        },
        "turn": {
            "lease_seconds": 30,
            "watchdog_seconds": 5,
            "give_up_after_seconds": 90,
            "max_attempts": 4,
        },
        "queues": {"visibility_seconds": 30, "heartbeat_seconds": 12, "wait_seconds": 20},
        "twilio": {"timeout_seconds": 5, "accounts": {ACCOUNT: ["token"]}},
        "catchup": {
            "interval_seconds": 20,
            "max_age_seconds": 90,
            # The first process may be killed before it has read the list.
            "first_look_back_seconds": 90,
            "overlap_seconds": 5,
            "settle_seconds": 2,
        },
        "delivery": {"record": ["delivered", "undelivered", "failed"]},
        "ai": {"tools": [HAND_OVER.name, BOOK, LOOK]},
        "tools": {
            BOOK: {"description": "books", "python": "tools:book", "effects": True},
            LOOK: {"description": "looks", "python": "tools:look"},
        },
        "opt_out": {
            "stop_words": opt_out_words("STOP"),
            "start_words": opt_out_words("START"),
            "stop_text": STOP_NOTICE,
        },
        # Customers of the simulation repeat themselves, and write day and night.
        "limits": {"loop_turns": 0, "loop_repeats": 0},
    }
)
CONVERSATIONS = 16
BUSY_SECONDS = 90.0
_SKEW_MS = 1_000

Alter = Callable[[Parts], Parts]


def unaltered(parts: Parts) -> Parts:
    """The protocol as it is shipped."""
    return parts


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one seed."""

    seed: int
    workers: int
    digest: str
    conversations: int
    messages: int
    turns: int
    in_two_records: int
    injected: Counter[str]
    violations: tuple[Violation, ...]
    lines: tuple[Line, ...]


class World:
    """Everything random comes from the seed; each actor has a source of its own."""

    def __init__(self, seed: int, workers: int | None, alter: Alter, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._seed = seed
        self._alter = alter
        rng = self.source("world")
        self.workers = rng.choice((2, 2, 3, 4)) if workers is None else workers
        self.busy_seconds = BUSY_SECONDS
        self.lookup_cache_seconds = settings.conversations.lookup_cache_seconds
        self.foreign = rng.random() < 0.1
        if rng.random() < 0.5:
            apology = settings.turn.model_copy(update={"apology_text": APOLOGY})
            settings = settings.model_copy(update={"turn": apology})
        day_turns = rng.choice((None, None, None, 2))
        limits = settings.limits.model_copy(update={"day_turns": day_turns})
        settings = settings.model_copy(update={"limits": limits})
        self.longest_stall = settings.watchdog_seconds
        self.weather = self.weather_of(seed)
        self.trace = Trace(self._loop.time)
        self.clocks = [
            LoopClock(skew_ms=rng.randint(-_SKEW_MS, _SKEW_MS)) for _ in range(self.workers)
        ]
        self.ledger = Ledger(self._loop.time, self._offset)
        self.ledger.ai.day_turns = day_turns
        self.ledger.may_go_unrecorded = self.weather.rates["texts"] > 0
        self.table = Table(self.ledger.stepped)
        self.queue = Queue(
            self._loop,
            self.source("queue"),
            visibility_seconds=settings.visibility_seconds,
            wait_seconds=settings.queues.wait_seconds,
        )
        self.answers = Answers(self.source("model"))
        self.phone = Phone(self._accepted, LoopClock().now)
        self.instances = [
            Instance(n + 1, settings, clock, self._connect, self._wiring, self._bug)
            for n, clock in enumerate(self.clocks)
        ]
        self._any = self.source("balancer")
        self._callbacks = self.source("callbacks")
        self._numbers = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._wires: list[Wires] = []

    @staticmethod
    def weather_of(seed: int) -> Weather:
        """The faults that a run with this seed has in store."""
        return Weather.drawn(_source(seed, "weather"), BUSY_SECONDS)

    def source(self, name: str) -> random.Random:
        return _source(self._seed, name)

    def time(self) -> float:
        return self._loop.time()

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def any_up(self) -> Instance | None:
        running = [i for i in self.instances if i.up]
        return self._any.choice(running) if running else None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """A reference is kept: the loop keeps none, and a collected task never ends."""
        self._tasks.append(self._loop.create_task(work))

    async def run(self) -> Report:
        keys = [
            ConversationKey(f"{CUSTOMER_PREFIX}{n:05d}", f"c-{n:02d}")
            for n in range(1, CONVERSATIONS + 1)
        ]
        for instance in self.instances:
            people.start(self, instance)
        actors: list[Coroutine[Any, Any, None]] = []
        for key in keys:
            self.create(key, "2026-11-22T10:00:00.000Z")
            rng = self.source(key.sort)
            actors.append(people.Customer(self, key, rng).live())
            if rng.random() < 0.15:
                actors.append(people.begin_anew(self, key, self.source(f"engine {key.sort}")))
            if rng.random() < 0.4:
                actors.append(people.take_over(self, key, self.source(f"person {key.sort}")))
            colleague = self.source(f"colleague {key.sort}")
            if colleague.random() < 0.25:
                actors.append(people.Colleague(self, key, colleague).work())
        chaos = self.source("chaos")
        sources = [random.Random(chaos.random()) for _ in range(20)]  # noqa: S311
        kills, drains = self.weather.kills, self.weather.drains
        sources_of_stalls = self.source("stalls")
        actors += [
            people.stall(self, random.Random(sources_of_stalls.random()))  # noqa: S311
            for _ in range(self.weather.stalls)
        ]
        actors += [people.kill(self, sources.pop()) for _ in range(kills)]
        actors += [people.drain(self, sources.pop()) for _ in range(drains)]
        for actor in actors:
            self.spawn(actor)
        with capture_logs(processors=[format_exc_info]) as logged:
            await oracle.settle(self)
        for line in logged:
            self._bug("log", f"{line['event']}\n{line.get('exception', '')}")
        self._close()
        return Report(
            self._seed,
            self.workers,
            self.trace.digest(),
            len(keys),
            len(self.ledger.sent),
            self.ledger.turns,
            len(self.ledger.excused),
            self.weather.injected,
            tuple(self.ledger.violations),
            tuple(self.trace.lines),
        )

    def create(self, key: ConversationKey, created_at: str) -> None:
        """As the engine that starts conversations does."""
        self.table.items[key] = {
            r.RECIPIENT_TEL: key.partition,
            r.CONVERSATION_ID: key.sort,
            r.COMPANY_TEL: BUSINESS,
            r.THREAD_ID: "",
            r.HANDOFF: False,
            r.MESSAGES: [],
            r.CREATED_AT: created_at,
        }

    # --- wiring --------------------------------------------------------------------------------

    def _connect(self, name: str) -> Wires:
        self._wires.append(Wires(name, self.source(name), self.weather, self.trace))
        return self._wires[-1]

    def _wiring(self, instance: Instance, wires: Wires) -> Parts:
        return self._alter(
            Parts(
                store=WiredStore(wires, self.table),
                wakeups=WiredQueue(wires, self.queue),
                handoffs=WiredHandoffs(wires, self._given),
                model=WiredModel(wires, self.answers),
                channel=WiredChannel(wires, self.phone),
                toolbox=WiredToolbox(wires, self._ran),
                clock=instance.clock,
                ids=RunIds(instance.name, self.source(f"ids {instance.name}")),
                owner=instance.name,
            )
        )

    def _bug(self, who: str, what: str) -> None:
        self.ledger.broke("bug", "", who, what)

    def _offset(self, owner: str) -> float:
        clock = self.clocks[int(owner[1:].partition(".")[0]) - 1]
        return (clock.epoch_ms + clock.skew_ms) / 1000

    def _accepted(self, part: Accepted) -> None:
        key = ConversationKey(part.query.get("p", ""), part.conversation)
        self.ledger.accepted(part, self.table.items.get(key))
        if self._callbacks.random() < 0.3:
            self.spawn(people.report(self, part, self.source(part.sid)))

    def _ran(self, who: str, tool: str, call: ToolContext) -> None:
        self.ledger.ai.ran(call.conversation_id, who, tool, call.turn)

    def _given(self, who: str, bodies: Sequence[str], late: bool) -> None:
        self.ledger.given_to_people(who, bodies, self.table.items, late=late)
        if f'"handoff_reason":"{BY_AI}"' in bodies[0].replace(": ", ":") and not late:
            self.spawn(people.hand_back(self, bodies[0], self.source(bodies[0])))

    # --- the end -------------------------------------------------------------------------------

    def _close(self) -> None:
        for wires in self._wires:
            wires.is_cut = wires.closed = True


def _source(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")  # noqa: S311 - repeats, guards nothing


def run(
    seed: int,
    workers: int | None = None,
    alter: Alter = unaltered,
    settings: Settings = SETTINGS,
) -> Report:
    """One seed, on a loop of its own. `workers`: how many instances; None lets the seed say.
    `alter` wraps the ports of every instance."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(_run(seed, workers, alter, settings))
    finally:
        _end(loop)
        loop.close()


async def _run(seed: int, workers: int | None, alter: Alter, settings: Settings) -> Report:
    return await World(seed, workers, alter, settings).run()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """What still waits is cancelled, and once more for what cancelling has started."""
    for _ in range(5):
        if not (tasks := asyncio.all_tasks(loop)):
            return
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=100))
