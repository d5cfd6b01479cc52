"""Customers, one daemon, and a minute without one of its dependencies."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlencode

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from replyd.adapters import aws
from replyd.adapters.memory import (
    CountingIds,
    LoopClock,
    MemoryHandoffQueue,
    MemoryModel,
    MemoryQueue,
    MemoryStore,
    Recorder,
)
from replyd.adapters.memory.secrets import MemorySecrets
from replyd.adapters.twilio.accounts import Accounts
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.wiring import daemon
from replyd.demo.twilio_double import Exchanged
from replyd.domain import record
from replyd.domain.breaker import BreakerPolicy
from replyd.domain.messages import ConversationKey, Params
from replyd.flows.models import Backend, Models
from replyd.flows.pacing import KeyPace
from replyd.runtime.health import Health
from replyd.runtime.webhook_server import INBOUND_PATH, WebhookServer
from replyd.settings import Settings
from replyd.telemetry import Fanout
from tests.outages.faults import ACCOUNT, FailingChannel, FailingModel, Outage, ThroughSdk, now
from tests.process.books import Asked, Balance, Books, Reply, answer, balance
from tests.support.fault_proxy import DEPENDENCIES, Dependency, Mode

_BUSINESS, _SECRET = "+447700900100", "replyd/twilio"


@dataclass
class Observed:
    """`webhooks`: status and seconds of each that began and ended in the outage. `ready`: what
    `/readyz` named, with the seconds until it first did; `changes`: how often it went from ready to
    not ready; `ready_after`, `answered_after`: seconds from the outage's end until it was ready
    for good, and until all that had been acknowledged by then was answered. `replies`: parts that
    Twilio accepted in the second half of the outage; `longest_wait`: seconds for an answer, also
    to what CATCH-UP found. `at_people`: messages that they got."""

    webhooks: list[tuple[int, float]] = field(default_factory=list)
    ready: dict[str, float] = field(default_factory=dict)
    changes: int = 0
    ready_after: float = 0.0
    answered_after: float = 0.0
    replies: int = 0
    longest_wait: float = 0.0
    at_people: int = 0
    balance: Balance = field(default_factory=Balance)


class OutageWorld:
    """Customers, one daemon, one dependency."""

    def __init__(self, dependency: Dependency, *, customers: int = 4, seed: int = 1) -> None:
        self.settings = _settings()
        self._outages = {name: Outage(name) for name in DEPENDENCIES}
        self.outage = self._outages[dependency]
        self.chance = random.Random(seed)
        # The pauses between the tries of a request are tenacity's, which draws from this one.
        random.seed(seed)
        self.clock = LoopClock()
        self.store = MemoryStore()
        self.queue = MemoryQueue(
            self.settings.visibility_seconds, self.settings.queues.wait_seconds
        )
        self.handoffs = MemoryHandoffQueue()
        self.recorder = Recorder()
        calls = itertools.count(1)
        self.model = MemoryModel(lambda request: answer(next(calls), request.turn, 1))
        self.secrets = MemorySecrets({_SECRET: "token"})
        self.asked: list[Asked] = []
        self.keys = [ConversationKey(f"+4477009{n:05d}", f"c-{n}") for n in range(customers)]
        self._numbers = itertools.count(1)
        self._written: dict[int, float] = {}
        for key in self.keys:
            self.store.items[key] = {
                record.RECIPIENT_TEL: key.partition,
                record.CONVERSATION_ID: key.sort,
                record.COMPANY_TEL: _BUSINESS,
                record.MESSAGES: [],
                record.CREATED_AT: "2026-11-22T10:00:00.000Z",
            }
        # What is left of a connection; to make them costs more than all else here.
        self._mocks = {name: Mock() for name in ("app", "protocol", "writer", "transport")}
        self.server: WebhookServer
        self.channel: FailingChannel
        self.health: Health

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings, of = self.settings, self._outages
        accounts = Accounts(
            {},
            secrets=ThroughSdk(self.secrets, of["secretsmanager"]),
            secret_names={ACCOUNT: _SECRET},
            refresh_seconds=settings.twilio.secret_refresh_seconds,
        )
        store, wakeups = ThroughSdk(self.store, of["dynamodb"]), ThroughSdk(self.queue, of["sqs"])
        self.health = Health(
            self.clock,
            {
                "dynamodb": partial(store.get_side, "probe"),
                "sqs": _probe(of["sqs"]),
                "secretsmanager": accounts.probe,
            },
        )
        telemetry = Fanout([self.recorder, self.health], on_failure=_never)
        self.channel = FailingChannel(of["twilio"], accounts, settings.twilio.timeout_seconds)
        model = FailingModel(self.model, of["openai"], settings.ai.timeout_seconds)
        parts = Parts(
            store=store,
            wakeups=wakeups,
            handoffs=ThroughSdk(self.handoffs, of["sqs"]),
            model=Models(
                {"default": Backend(model, "key")},
                default="default",
                paces={"key": KeyPace("openai", self.clock, concurrency=50)},
                policy=BreakerPolicy(settings.ai.breaker_failures, settings.ai.breaker_seconds),
                clock=self.clock,
                on_change=_switched,
            ),
            channel=self.channel,
            clock=self.clock,
            ids=CountingIds("w"),
            owner="worker",
        )
        wired = daemon(settings, parts, telemetry)
        self.server = WebhookServer(
            channel=self.channel,
            accept=wired.accept,
            track=wired.track,
            telemetry=telemetry,
            observe_ack=lambda _: None,
            refresh=accounts.refresh,
            host="127.0.0.1",
            port=0,
            max_inflight=settings.server.max_inflight,
            header_timeout_seconds=10,
            body_timeout_seconds=10,
        )
        (consumer,) = wired.consumers
        polling = asyncio.create_task(consumer.run())
        tasks = [asyncio.create_task(s.run()) for s in (wired.buffer, wired.catch_up)]
        self.health.starting = False
        try:
            yield
        finally:
            consumer.stop()
            await polling
            await wired.buffer.drain(60)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await accounts.close()
        assert wired.progress.stuck() == []

    # --- what happens --------------------------------------------------------------------------

    async def write(self, key: ConversationKey, seen: Observed) -> None:
        """A customer's message: Twilio lists it, and delivers it four times at most."""
        number = next(self._numbers)
        asked = Asked(number, f"SM{number:032x}", key)
        self.asked.append(asked)
        self._written[number] = now()
        params = self.params(key, number)
        self.channel.receive(self.channel.parse(params))
        for _ in range(4):
            began, in_outage = now(), self.outage.mode is not None
            status = await self.post(params)
            if in_outage and self.outage.mode is not None:
                seen.webhooks.append((status, now() - began))
            if status == 200:
                asked.acknowledged = True
                return
            await asyncio.sleep(self.chance.uniform(0.2, 1.3))

    def params(self, key: ConversationKey, number: int) -> dict[str, str]:
        """What Twilio posts of the message with this number."""
        asked = Asked(number, f"SM{number:032x}", key)
        return {
            "MessageSid": asked.sid,
            "AccountSid": ACCOUNT,
            "From": f"whatsapp:{key.partition}",
            "To": f"whatsapp:{_BUSINESS}",
            "Body": asked.text,
        }

    def spawn_write(self, key: ConversationKey) -> "asyncio.Task[None]":
        return asyncio.create_task(self.write(key, Observed()))

    def history(self, key: ConversationKey) -> Sequence[Mapping[str, Any]]:
        entries: list[dict[str, Any]] = self.store.items[key][record.MESSAGES]
        return entries

    async def post(self, params: Params) -> int:
        """The webhook server's answer: what it does between the socket and the flows."""
        loop = asyncio.get_running_loop()
        body = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        body.feed_data(urlencode(dict(params)).encode())
        body.feed_eof()
        headers = {"X-Twilio-Signature": "genuine"}
        request = make_mocked_request(
            "POST", INBOUND_PATH, headers=headers, payload=body, **self._mocks
        )
        return (await self.server._respond(request)).status

    async def customer(self, key: ConversationKey, seen: Observed, until: float) -> None:
        await asyncio.sleep(self.chance.uniform(0, 7))
        writing: list[asyncio.Task[None]] = []
        while now() < until:
            writing.append(asyncio.create_task(self.write(key, seen)))
            await asyncio.sleep(self.chance.uniform(3, 11))
        await asyncio.gather(*writing)

    async def minute(
        self, mode: Mode, *, seconds: float = 60.0, before: float = 20.0, after: float = 20.0
    ) -> Observed:
        """An outage, with customers who write before, during and after it."""
        seen = Observed()
        async with self.running():
            start = now()
            customers = [
                asyncio.create_task(self.customer(key, seen, start + before + seconds + after))
                for key in self.keys
            ]
            watch = asyncio.create_task(self._watch(seen))
            await asyncio.sleep(before)
            began = now()
            self.outage.begin(mode, seconds)
            await asyncio.sleep(seconds)
            self.outage.mode = None
            ended = now()
            written = {asked.sid for asked in self.asked if asked.acknowledged}
            while written - self._in_histories():
                assert now() < ended + 600, "not all messages are answered after ten minutes"
                await asyncio.sleep(0.5)
            seen.answered_after = now() - ended
            await asyncio.gather(*customers)
            # Longer than any lease, pause or round of CATCH-UP.
            await asyncio.sleep(120)
            watch.cancel()
        self._look_back(seen, began, ended)
        seen.at_people = len(self.handoffs.bodies)
        seen.balance = self._balanced()
        return seen

    async def _watch(self, seen: Observed) -> None:
        """Asks `/readyz` every second."""
        before, began, ended = False, 0.0, 0.0
        while True:
            if self.outage.mode is not None:
                began = began or now()
            elif began:
                ended = ended or now()
            problems = await self.health.problems()
            for name in problems:
                seen.ready.setdefault(name, now() - began if began else -1.0)
            seen.changes += bool(problems) and not before
            before = bool(problems)
            if ended and problems:
                seen.ready_after = now() - ended
            await asyncio.sleep(1)

    def _look_back(self, seen: Observed, began: float, ended: float) -> None:
        for at, part in zip(self.channel.times, self.channel.accepted, strict=True):
            seen.replies += (began + ended) / 2 <= at <= ended
            reply = Reply.read(part.text)
            assert reply is not None
            waits = (at - self._written[number] for number in reply.numbers)
            if began <= at:
                seen.longest_wait = max(seen.longest_wait, *waits)

    def _in_histories(self) -> set[str]:
        return {str(entry.get("message_id")) for key in self.keys for entry in self.history(key)}

    def _balanced(self) -> Balance:
        handed: dict[str, Counter[str]] = {}
        for body in map(json.loads, self.handoffs.bodies):
            handed.setdefault(body["message"]["sid"], Counter())[body["handoff_reason"]] += 1
        books = Books(
            asked=self.asked,
            records={key.sort: self.store.items[key] for key in self.keys},
            sent=[
                Exchanged(
                    f"SM{number:032d}",
                    "out",
                    part.recipient.removeprefix("whatsapp:"),
                    _BUSINESS,
                    part.text,
                    0,
                    "sent",
                )
                for number, part in enumerate(self.channel.accepted, start=1)
            ],
            handed=handed,
        )
        found = balance(books)
        # What CATCH-UP finds late comes late.
        late = {asked.key.sort for asked in self.asked if not asked.acknowledged}
        found.imbalances = [
            i
            for i in found.imbalances
            if not (i.conversation in late and i.what.startswith("out of order of"))
        ]
        return found


def _probe(outage: Outage) -> Callable[[], Awaitable[object]]:
    async def probe() -> object:
        return await outage.through_sdk(partial(asyncio.sleep, 0), aws.READ_TIMEOUT_SECONDS)

    return probe


def _never(*_: object) -> None:
    raise AssertionError("a sink failed")


def _switched(profile: str, open: bool, reason: str) -> None:  # noqa: A002 - as `OnChange` says
    pass


def _settings() -> Settings:
    return Settings.model_validate(
        {
            "window": {"quiet_seconds": 2, "max_wait_seconds": 10},
            "twilio": {
                "account_sids": [ACCOUNT],
                "secret_name": _SECRET,
                "secret_refresh_seconds": 60,
            },
            "catchup": {"interval_seconds": 30, "settle_seconds": 15, "start_seconds": 1},
        }
    )
