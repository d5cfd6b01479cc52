"""The operations port: what an orchestrator and a scraper ask."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from replyd.domain.events import DependencyFailed, Event, ModelAnswered, PartSent
from replyd.domain.messages import ConversationKey
from replyd.errors import (
    Ambiguous,
    Busy,
    DependencyDown,
    DependencyError,
    Permanent,
    Temporary,
)
from replyd.runtime.health import Health
from replyd.runtime.ops_server import OpsServer
from tests.http.conftest import Log

KEY = ConversationKey("+447700900001", "c-1")
ANSWERED = ModelAnswered(KEY, ("SM1",), "gpt-6-luna", 900, 120, 30, 0)
SENT = PartSent(KEY, ("SM1",), 1, 1, "SM9", 80, 0)
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Clock:
    """Stands still until it is moved."""

    seconds: float = 1000.0

    def now(self) -> int:
        return round(self.seconds * 1000)

    def elapsed(self) -> float:
        return self.seconds


@dataclass
class Probe:
    failure: Exception | None = None
    gate: asyncio.Event | None = None
    calls: int = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@dataclass
class Ops:
    session: aiohttp.ClientSession
    url: str
    health: Health
    clock: Clock
    dynamodb: Probe
    sqs: Probe
    rendered: list[bytes] = field(default_factory=lambda: [b"up 1\n"])

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as response:
            return response.status, json.loads(await response.read())

    async def ready(self) -> tuple[int, Any]:
        status, body = await self.get("/readyz")
        assert body["status"] == ("not ready" if body["problems"] else "ready")
        return status, body["problems"]


@asynccontextmanager
async def operating(probe_seconds: float = 3.0) -> AsyncIterator[Ops]:
    clock, dynamodb, sqs = Clock(), Probe(), Probe()
    probes: dict[str, Callable[[], Awaitable[object]]] = {"dynamodb": dynamodb, "sqs": sqs}
    health = Health(clock, probes, probe_seconds=probe_seconds)
    rendered = [b"up 1\n"]
    server = OpsServer(
        health=health, render=lambda: (rendered[0], METRICS), host="127.0.0.1", port=0
    )
    await server.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            url = f"http://127.0.0.1:{server.port}"
            yield Ops(session, url, health, clock, dynamodb, sqs, rendered)
    finally:
        await server.stop()


@pytest.fixture
async def ops() -> AsyncIterator[Ops]:
    async with operating() as ops:
        ops.health.starting = False
        yield ops


async def test_alive_whatever_else_is_wrong(ops: Ops) -> None:
    ops.dynamodb.failure = DependencyDown("dynamodb", "unreachable")
    ops.health.draining = True
    assert await ops.get("/livez") == (200, {"status": "alive"})
    assert ops.dynamodb.calls == 0


async def test_ready(ops: Ops) -> None:
    for path in ("/readyz", "/healthz"):
        assert await ops.get(path) == (200, {"status": "ready", "problems": {}})


async def test_not_ready_before_the_start_and_from_the_drain_on() -> None:
    async with operating() as ops:
        assert await ops.ready() == (503, {"replyd": "starting"})
        ops.health.starting = False
        assert await ops.ready() == (200, {})
        ops.health.draining = True
        assert await ops.ready() == (503, {"replyd": "draining"})
        status, body = await ops.get("/healthz")
        assert (status, body["problems"]) == (503, {"replyd": "draining"})


@pytest.mark.parametrize("kind", [Temporary, DependencyDown, Permanent])
async def test_a_probe_that_fails(ops: Ops, kind: type[Temporary] | type[Permanent]) -> None:
    ops.dynamodb.failure = kind("dynamodb", "no such table")
    assert await ops.ready() == (503, {"dynamodb": "dynamodb: no such table"})
    ops.dynamodb.failure = None
    ops.clock.seconds += 2.1
    assert await ops.ready() == (200, {})


async def test_a_probe_that_does_not_answer() -> None:
    async with operating(probe_seconds=0.05) as ops:
        ops.health.starting = False
        ops.sqs.gate = asyncio.Event()
        assert await ops.ready() == (503, {"sqs": "did not answer within 0.05 s"})
        ops.sqs.gate.set()
        ops.clock.seconds += 2.1
        assert await ops.ready() == (200, {})


async def test_a_probe_with_a_bug(ops: Ops, log: Log) -> None:
    ops.sqs.failure = KeyError("Zk7canary9Q")
    ops.dynamodb.failure = DependencyDown("dynamodb", "unreachable")
    status, problems = await ops.ready()
    assert status == 503
    assert problems == {
        "dynamodb": "dynamodb: unreachable",
        "sqs": "its check ended with a bug, see the log",
    }
    logged = log.take()
    assert "KeyError" in logged
    assert "Zk7canary9Q" not in logged


async def test_probes_are_asked_now_and_then_only(ops: Ops) -> None:
    for _ in range(5):
        await ops.ready()
    assert (ops.dynamodb.calls, ops.sqs.calls) == (1, 1)
    # What was found stands for as long, good or bad.
    ops.dynamodb.failure = DependencyDown("dynamodb", "unreachable")
    ops.clock.seconds += 1.9
    assert (await ops.ready())[0] == 200
    ops.clock.seconds += 0.2
    assert (await ops.ready())[0] == 503
    ops.dynamodb.failure = None
    assert (await ops.ready())[0] == 503
    assert ops.dynamodb.calls == 2


async def test_many_askers_share_one_probe(ops: Ops) -> None:
    ops.dynamodb.gate = asyncio.Event()
    asking = [asyncio.create_task(ops.ready()) for _ in range(10)]
    while not ops.dynamodb.calls:
        await asyncio.sleep(0.001)
    assert (await ops.get("/livez"))[0] == 200
    ops.dynamodb.gate.set()
    assert await asyncio.gather(*asking) == [(200, {})] * 10
    assert ops.dynamodb.calls == 1


async def test_an_asker_that_leaves_does_not_spoil_it_for_others(ops: Ops) -> None:
    ops.dynamodb.gate = asyncio.Event()
    leaving = asyncio.create_task(ops.ready())
    while not ops.dynamodb.calls:
        await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    ops.dynamodb.gate.set()
    assert await ops.ready() == (200, {})
    assert ops.dynamodb.calls == 1


async def test_a_vendor_that_failed_is_down_until_it_answers(ops: Ops) -> None:
    ops.health.emit(DependencyFailed("openai", "respond", "quota used up", down=True))
    ops.health.emit(DependencyFailed("twilio", "send", "account suspended", "20005", down=True))
    # The probes tell about these.
    ops.health.emit(DependencyFailed("dynamodb", "apply", "throttled"))
    both = {"openai": "quota used up", "twilio": "account suspended"}
    assert await ops.ready() == (503, both)
    ops.health.emit(ANSWERED)
    assert await ops.ready() == (503, {"twilio": "account suspended"})
    ops.health.emit(SENT)
    assert await ops.ready() == (200, {})


async def test_a_failure_is_forgotten_when_nobody_asks_the_vendor_again(ops: Ops) -> None:
    ops.health.emit(DependencyFailed("openai", "respond", "did not answer", down=True))
    ops.clock.seconds += 59
    assert (await ops.ready())[0] == 503
    ops.clock.seconds += 2
    assert await ops.ready() == (200, {})


async def test_metrics(ops: Ops) -> None:
    async with ops.session.get(ops.url + "/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == METRICS
        assert await response.read() == b"up 1\n"


async def test_other_paths_and_methods(ops: Ops) -> None:
    for path in ("/", "/metrics/", "/readyz/x", "/webhooks/twilio/whatsapp", "/..%2Fmetrics"):
        async with ops.session.get(ops.url + path) as response:
            assert response.status == 404
    async with ops.session.post(ops.url + "/readyz") as response:
        assert response.status == 405
    async with ops.session.head(ops.url + "/readyz") as response:
        assert response.status == 200


async def test_stop_and_a_port_that_is_taken() -> None:
    async with operating() as ops:
        taken = OpsServer(
            health=ops.health,
            render=lambda: (b"", METRICS),
            host="127.0.0.1",
            port=int(ops.url.rsplit(":", 1)[1]),
        )
        with pytest.raises(OSError, match="address already in use"):
            await taken.start()
        await taken.stop()
    with pytest.raises(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(ops.url + "/livez"):
            pass


async def test_nothing_needs_to_be_started_to_be_stopped() -> None:
    health = Health(Clock(), {})
    await OpsServer(health=health, render=lambda: (b"", ""), host="127.0.0.1", port=0).stop()


@pytest.mark.parametrize(
    ("vendor", "error", "answer"),
    [
        ("twilio", Ambiguous("twilio", "HTTP 503: it may have accepted the message"), SENT),
        ("openai", Temporary("openai", "no answer within 60 s"), ANSWERED),
    ],
)
async def test_a_vendor_that_fails_again_and_again_is_down(
    ops: Ops, vendor: str, error: DependencyError, answer: Event
) -> None:
    failure = DependencyFailed.of(error, "turn")
    for _ in range(4):
        ops.health.emit(failure)
    assert (await ops.ready())[0] == 200
    ops.health.emit(failure)
    assert await ops.ready() == (503, {vendor: error.reason})
    ops.health.emit(answer)
    for _ in range(4):
        ops.health.emit(failure)
    assert (await ops.ready())[0] == 200


async def test_failures_that_are_far_apart_are_not_in_a_row(ops: Ops) -> None:
    for _ in range(20):
        ops.health.emit(DependencyFailed.of(Temporary("openai", "HTTP 500"), "turn"))
        ops.clock.seconds += 61
    assert (await ops.ready())[0] == 200


@pytest.mark.parametrize(
    "error",
    [
        # It works, and says no.
        Busy("twilio", "too many requests"),
        Permanent("twilio", "the customer has blocked us"),
        # Not a vendor whose answers anybody counts.
        Temporary("replyd", "too little of the lease was left to start a send"),
        Temporary("tools", "HTTP 500"),
    ],
)
async def test_what_does_not_count_as_down_however_often(ops: Ops, error: DependencyError) -> None:
    for _ in range(20):
        ops.health.emit(DependencyFailed.of(error, "turn"))
    assert (await ops.ready())[0] == 200


async def test_one_call_that_failed_does_not_make_the_instance_unready(ops: Ops) -> None:
    ops.health.emit(DependencyFailed("twilio", "send", "the customer has blocked us", "63032"))
    ops.health.emit(DependencyFailed("openai", "respond", "no answer within 60 s"))
    assert (await ops.ready())[0] == 200
