"""Who acts on the daemons from outside: customers behind the channel, people, operators."""

import asyncio
import json
import random
from typing import TYPE_CHECKING

from replyd.domain import steps
from replyd.domain.delivery import NOT_DELIVERED
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.flows.person_answer import Answered, Declined, Request
from replyd.runtime.catch_up import CatchUpService
from replyd.simulation.instances import Instance
from replyd.simulation.vendors import ACCOUNT, BUSINESS, Accepted, persons_answer, sid_of

if TYPE_CHECKING:
    from replyd.simulation.world import World

# The channel gives up waiting for a webhook's answer.
_PATIENCE_SECONDS = 15.0
_DELIVERIES = 4
# A person's tool waits for an answer, and asks again so many times.
_PERSONS_PATIENCE_SECONDS = 70.0
_QUESTIONS = 30
# The share of messages that are too long for the record and lie in an item of their own.
_LONG = 0.02


class Customer:
    """Writes in bursts; says STOP and START; has the channel deliver each message."""

    def __init__(self, world: "World", key: ConversationKey, rng: random.Random) -> None:
        self._world = world
        self._key = key
        self._rng = rng

    async def live(self) -> None:
        rng, world = self._rng, self._world
        await asyncio.sleep(rng.uniform(0, world.busy_seconds * 0.6))
        stopped = False
        for _ in range(rng.choice((1, 1, 2, 3))):
            for _ in range(rng.choice((1, 1, 2, 3, 5))):
                said = ""
                if rng.random() < (0.4 if stopped else 0.07):
                    said, stopped = ("START", False) if stopped else ("STOP", True)
                world.spawn(self._deliver(self._message(said)))
                await asyncio.sleep(rng.choice((0.05, 0.5, 1.0, 2.5)) * rng.random())
            if world.time() > world.busy_seconds:
                return
            await asyncio.sleep(rng.choice((3, 8, 25)) * rng.random())

    def _message(self, said: str) -> InboundMessage:
        number, rng = self._world.next_number(), self._rng
        sid = sid_of(number)
        params = {"MessageSid": sid, "AccountSid": ACCOUNT}
        words = self._rng.choice(("where is it?", "no, I meant the other one", "hello"))
        if self._rng.random() < _LONG:
            words = "so much to say " * 600
        return InboundMessage(
            sid=sid,
            sender=f"whatsapp:{self._key.partition}",
            recipient=f"whatsapp:{BUSINESS}",
            body=f"q{number} {said or words}",
            account_sid=ACCOUNT,
            # Twilio's own handling knows some of them; the rest are our words.
            params=params | ({"OptOutType": said} if said and rng.random() < 0.5 else {}),
        )

    async def _deliver(self, message: InboundMessage) -> None:
        """The channel's part: a webhook that gets no 200 is repeated a few times."""
        rng, world = self._rng, self._world
        world.ledger.customer_sent(message.sid)
        world.phone.take(message)
        world.trace.note("customer", self._key.sort, f"writes {message.body[:40]!r}")
        if world.foreign and rng.random() < 0.2:
            self._queue_directly(message)
            return
        for attempt in range(_DELIVERIES):
            fate = world.weather.fate("webhook", rng, world.time())
            if fate == "duplicate":
                world.spawn(self._post(message))
            if await self._post(message) and fate != "answer_lost":
                return
            if attempt < _DELIVERIES - 1:
                await asyncio.sleep(rng.choice((0.2, 5, 20)) * rng.random())
        world.trace.note("channel", self._key.sort, f"gives {message.body[:40]!r} up")

    async def _post(self, message: InboundMessage) -> bool:
        world = self._world
        if (instance := world.any_up()) is None:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        world.spawn(self._handle(instance, message, answer))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await answer
        except TimeoutError:
            return False

    async def _handle(
        self, instance: Instance, message: InboundMessage, answer: "asyncio.Future[bool]"
    ) -> None:
        name, wires = instance.name, instance.wires
        self._world.ledger.delivery(message.sid, name)
        accepted = await instance.webhook(message)
        if wires is None or wires.is_cut:
            return
        status = "200" if accepted else "503"
        self._world.trace.note(name, self._key.sort, f"{status} for {message.body[:40]!r}")
        if accepted:
            self._world.ledger.acknowledged(message.sid)
        if not answer.done():
            answer.set_result(accepted)

    def _queue_directly(self, message: InboundMessage) -> None:
        """Another webhook handler, which knows nothing of STAGE, answered 200."""
        self._world.queue.send(json.dumps({"version": 1, "message": message.as_dict()}), 0)
        self._world.ledger.acknowledged(message.sid)
        self._world.trace.note("other", self._key.sort, f"queues {message.body[:40]!r} as it is")


async def take_over(world: "World", key: ConversationKey, rng: random.Random) -> None:
    """A person takes the conversation and hands it back, now and then more than once."""
    for _ in range(rng.choice((1, 1, 2))):
        await asyncio.sleep(rng.uniform(0, world.busy_seconds * 0.6))
        for up in (True, False):
            world.trace.note("person", key.sort, "takes over" if up else "hands back")
            world.table.apply_now("person", key, steps.set_handoff(up))
            await asyncio.sleep(rng.choice((0.3, 3, 30)) * rng.random())


class Colleague:
    """A person who answers in a conversation, asks again until they know what became of it, and
    gives it back."""

    def __init__(self, world: "World", key: ConversationKey, rng: random.Random) -> None:
        self._world = world
        self._key = key
        self._rng = rng

    async def work(self) -> None:
        rng, world, key = self._rng, self._world, self._key
        for _ in range(rng.choice((1, 1, 2))):
            await asyncio.sleep(rng.uniform(0, world.busy_seconds * 0.6))
            number = world.next_number()
            parts = persons_answer(number, rng.choice((1, 1, 2, 3)))
            world.ledger.people.writes(key.sort, parts)
            await self._insist(Request("\n\n".join(parts), "Ann", f"h{number}", ACCOUNT))
            await asyncio.sleep(rng.choice((0.3, 3, 30)) * rng.random())
            world.trace.note("person", key.sort, "hands back")
            world.table.apply_now("person", key, steps.set_handoff(False))

    async def _insist(self, request: Request) -> None:
        world, label = self._world, request.key
        for _ in range(_QUESTIONS):
            world.trace.note("person", self._key.sort, f"answers {label}")
            answer = await self._ask(request)
            known = answer.reason if isinstance(answer, Declined) else answer and answer.delivery
            world.trace.note("person", self._key.sort, f"{label}: {known or 'no answer'}")
            if isinstance(answer, Answered):
                return
            if answer is not None and answer.reason not in ("busy", "try_again"):
                return
            await asyncio.sleep(5 + 15 * self._rng.random())

    async def _ask(self, request: Request) -> Answered | Declined | None:
        world = self._world
        if (instance := world.any_up()) is None:
            return None
        answer: asyncio.Future[Answered | Declined | None] = (
            asyncio.get_running_loop().create_future()
        )
        world.spawn(self._handle(instance, request, answer))
        try:
            async with asyncio.timeout(_PERSONS_PATIENCE_SECONDS):
                return await answer
        except TimeoutError:
            return None

    async def _handle(
        self,
        instance: Instance,
        request: Request,
        answer: "asyncio.Future[Answered | Declined | None]",
    ) -> None:
        wires = instance.wires
        found = await instance.reply(self._key, request)
        if wires is not None and not wires.is_cut and not answer.done():
            answer.set_result(found)


async def hand_back(world: "World", body: str, rng: random.Random) -> None:
    """A person has worked on what the AI handed over."""
    key = json.loads(body)["key"]
    conversation = ConversationKey(key["recipient_tel"], key["conversation_id"])
    await asyncio.sleep(rng.choice((3, 30, 60)) * rng.random())
    world.trace.note("person", conversation.sort, "hands back what the AI handed over")
    world.table.apply_now("person", conversation, steps.set_handoff(False))


async def begin_anew(world: "World", key: ConversationKey, rng: random.Random) -> None:
    """The engine starts another conversation with a customer while the first one goes on."""
    await asyncio.sleep(rng.uniform(0, world.busy_seconds * 0.7))
    second = ConversationKey(key.partition, f"{key.sort}b")
    world.create(second, "2026-11-22T11:00:00.000Z")
    world.ledger.unsure_until[key.sort] = world.time() + world.lookup_cache_seconds
    world.trace.note("engine", second.sort, "starts a conversation")


async def report(world: "World", part: Accepted, rng: random.Random) -> None:
    """The channel's status callbacks for a part, in whichever order, repeated until their 204."""
    states = rng.choice(
        (
            ("sent", "delivered"),
            ("delivered", "sent"),
            ("failed",),
            ("undelivered", "sent"),
            ("read",),
        )
    )
    for state in states:
        for _ in range(_DELIVERIES):
            await asyncio.sleep(rng.choice((0.05, 0.5, 5)) * rng.random())
            fate = world.weather.fate("webhook", rng, world.time())
            if fate == "duplicate":
                world.spawn(_tell(world, part, state))
            if await _tell(world, part, state) and fate != "answer_lost":
                break


async def _tell(world: "World", part: Accepted, state: str) -> bool:
    if (instance := world.any_up()) is None:
        return False
    if state in NOT_DELIVERED:
        world.ledger.failures.reported(part.sid)
    params = {"MessageSid": part.sid, "MessageStatus": state, "AccountSid": ACCOUNT}
    wires = instance.wires
    accepted = await instance.status(params, dict(part.query))
    if wires is None or wires.is_cut or not accepted:
        return False
    if state in NOT_DELIVERED:
        world.ledger.failures.acknowledged(part.sid, instance.name)
    return True


async def kill(world: "World", rng: random.Random) -> None:
    """kill -9 at some instant, and a start some time later."""
    await asyncio.sleep(rng.uniform(1, world.busy_seconds))
    if (instance := _one_running(world, rng)) is None:
        return
    world.trace.note(instance.name, "", "KILLED")
    world.weather.injected["kill -9"] += 1
    instance.up = False
    assert instance.wires is not None
    instance.wires.cut(world.queue)
    await asyncio.sleep(rng.choice((0.5, 5, 40)) * rng.random())
    start(world, instance)


async def stall(world: "World", rng: random.Random) -> None:
    """A process stands still, for less than the watchdog ends it for."""
    await asyncio.sleep(rng.uniform(1, world.busy_seconds))
    if (instance := _one_running(world, rng)) is None:
        return
    seconds = rng.uniform(0.1, world.longest_stall)
    world.trace.note(instance.name, "", f"stands still for {seconds:.1f} s")
    world.weather.injected["stall"] += 1
    assert instance.wires is not None
    instance.wires.stall(seconds)


async def drain(world: "World", rng: random.Random) -> None:
    """A deployment: SIGTERM, and a start when the process has ended."""
    await asyncio.sleep(rng.uniform(1, world.busy_seconds))
    if (instance := _one_running(world, rng)) is None:
        return
    world.trace.note(instance.name, "", "drains")
    world.weather.injected["drain"] += 1
    await instance.drain()
    assert instance.wires is not None
    # The process has ended: what it left under way ends with it.
    instance.wires.cut(world.queue)
    start(world, instance)


def _one_running(world: "World", rng: random.Random) -> Instance | None:
    running = [i for i in world.instances if i.up]
    return rng.choice(running) if running else None


def start(world: "World", instance: Instance) -> None:
    instance.start()
    world.trace.note(instance.name, "", "started")
    # Which process may have staged a message: not only one that its webhook came to.
    world.phone.listed = world.ledger.delivery
    assert instance.daemon is not None
    world.spawn(_catch_up(world, instance.name, instance.daemon.catch_up))


async def _catch_up(world: "World", name: str, service: CatchUpService) -> None:
    """Until the process ends: then its requests hang for ever."""
    try:
        await service.run()
    except Exception as bug:  # noqa: BLE001 - whatever it is, it is the oracle's to tell
        world.ledger.broke("bug", "", name, f"CATCH-UP ended: {bug!r}")
