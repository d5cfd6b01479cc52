"""What the service manager hears: all of it while every service gets on, and only then."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from replyd.adapters.memory import (
    CountingIds,
    LoopClock,
    MemoryChannel,
    MemoryHandoffQueue,
    MemoryModel,
    MemoryQueue,
    MemoryStore,
    Recorder,
)
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.policies import longest_turn_seconds
from replyd.bootstrap.process import supervisor as open_supervisor
from replyd.bootstrap.wiring import Daemon, daemon
from replyd.domain import record
from replyd.errors import ConfigError
from replyd.ports import Depth, Received
from replyd.runtime import systemd
from replyd.runtime.consumer import ADOPT_SECONDS
from replyd.runtime.health import Health
from replyd.runtime.no_buffer import NoBuffer
from replyd.runtime.ops_server import OpsServer
from replyd.runtime.progress import REQUEST_SECONDS, Progress
from replyd.runtime.queue_depths import READING_SECONDS, QueueDepths
from replyd.runtime.supervisor import Supervisor
from replyd.runtime.systemd import ServiceManager
from replyd.runtime.webhook_server import WebhookServer
from replyd.settings import Settings
from tests.support.world import BUSINESS, KEY, message

WATCHDOG_SECONDS = 60.0


@dataclass(slots=True)
class HangingQueue(MemoryQueue):
    """Requests hang from `hanging` on."""

    hanging: set[str] = field(default_factory=set)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Sequence[Received]:
        await self._hang("receive")
        return await MemoryQueue.receive(self)

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        await self._hang("hide")
        await MemoryQueue.hide(self, messages, seconds)

    async def depth(self) -> Depth:
        await self._hang("depth")
        return await MemoryQueue.depth(self)

    async def _hang(self, request: str) -> None:
        if request in self.hanging:
            await self.released.wait()


class Listener:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """What came since the last call, one entry for each assignment."""
        assignments: list[str] = []
        while True:
            try:
                assignments += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return assignments

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


@dataclass
class Running:
    supervisor: Supervisor
    daemon: Daemon
    queue: HangingQueue
    store: MemoryStore
    model: MemoryModel
    task: "asyncio.Task[None]"


@asynccontextmanager
async def running(listener: Listener) -> AsyncIterator[Running]:
    """A supervisor with all its services, on memory and virtual time."""
    settings, queue, channel = Settings(), HangingQueue(), MemoryChannel()
    clock, telemetry, store, model = LoopClock(), Recorder(), MemoryStore(), MemoryModel()
    parts = Parts(
        store=store,
        wakeups=queue,
        handoffs=MemoryHandoffQueue(),
        model=model,
        channel=channel,
        clock=clock,
        ids=CountingIds("w"),
        owner="worker",
    )
    wired = daemon(settings, parts, telemetry)
    health = Health(clock, {})
    supervisor = Supervisor(
        webhooks=WebhookServer(
            channel=channel,
            accept=wired.accept,
            track=wired.track,
            telemetry=telemetry,
            observe_ack=lambda _: None,
            host="127.0.0.1",
            port=0,
            max_inflight=1,
            header_timeout_seconds=1,
            body_timeout_seconds=1,
        ),
        ops=OpsServer(health=health, render=lambda: (b"", ""), host="127.0.0.1", port=0),
        consumers=wired.consumers,
        buffer=wired.buffer,
        health=health,
        progress=wired.progress,
        manager=ServiceManager(listener.address, watchdog_seconds=WATCHDOG_SECONDS),
        depths=QueueDepths(
            queues={"replies": queue},
            interval_seconds=60,
            telemetry=telemetry,
            progress=wired.progress,
        ),
        drain_seconds=10,
        watchdog_seconds=60,
    )
    task = asyncio.create_task(supervisor.run())
    await supervisor.ready.wait()
    try:
        yield Running(supervisor, wired, queue, store, model, task)
    finally:
        queue.hanging.clear()
        queue.released.set()
        supervisor.stop()
        await task


def _service(name: str) -> "asyncio.Task[None]":
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    return task


async def test_it_hears_of_start_work_and_end(listener: Listener) -> None:
    async with running(listener) as process:
        ready, status, *_ = listener.heard()
        assert ready == "READY=1"
        port = process.supervisor.webhooks.port
        assert status == f"STATUS=ready on port {port}: 0 turns, 0 conversations held"
        fed = 0
        for _ in range(10):
            await asyncio.sleep(WATCHDOG_SECONDS)
            fed += listener.heard().count("WATCHDOG=1")
        # Every half of the time: one that is late does no harm.
        assert fed in (20, 21)
    stopping, extend, status, *_ = listener.heard()
    assert (stopping, extend) == ("STOPPING=1", "EXTEND_TIMEOUT_USEC=70000000")
    assert status.startswith("STATUS=draining")


async def test_a_long_poll_in_time_is_work(listener: Listener) -> None:
    async with running(listener) as process:
        process.queue.wait_seconds = 20
        for _ in range(10):
            await asyncio.sleep(WATCHDOG_SECONDS)
            assert "WATCHDOG=1" in listener.heard()


async def test_a_receive_that_never_ends_stops_the_feeding(listener: Listener) -> None:
    async with running(listener) as process:
        process.queue.hanging.add("receive")
        await asyncio.sleep(REQUEST_SECONDS + 2 * WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {"STATUS=stuck: consumer"}
        process.queue.hanging.clear()
        process.queue.released.set()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert "WATCHDOG=1" in listener.heard()


async def test_an_adoption_that_never_ends_stops_the_feeding(listener: Listener) -> None:
    progress = Progress(LoopClock().elapsed)
    with progress.within("consumer", ADOPT_SECONDS), progress.within("consumer"):
        await asyncio.sleep(REQUEST_SECONDS + 1)
        assert progress.stuck() == ["consumer"]
    assert progress.stuck() == []


async def test_a_heartbeat_that_never_ends_stops_the_feeding(listener: Listener) -> None:
    async with running(listener) as process:
        process.queue.hanging.add("hide")
        held = asyncio.create_task(
            process.daemon.buffer._receipts.give_back([Received("m-1", "m-1/1", "{}", 1)])
        )
        await asyncio.sleep(REQUEST_SECONDS + WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {"STATUS=stuck: buffer"}
        process.queue.released.set()
        await held


async def test_a_depth_that_never_comes_stops_the_feeding_and_no_drain(listener: Listener) -> None:
    async with running(listener) as process:
        process.queue.hanging.add("depth")
        await asyncio.sleep(READING_SECONDS + 2 * WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {"STATUS=stuck: queue depths"}
        process.supervisor.stop()
        async with asyncio.timeout(20):
            await asyncio.wait([process.task])


async def test_a_turn_that_never_ends_stops_the_feeding(listener: Listener) -> None:
    longest = longest_turn_seconds(Settings())
    async with running(listener) as process:
        process.store.items[KEY] = {
            record.RECIPIENT_TEL: KEY.partition,
            record.CONVERSATION_ID: KEY.sort,
            record.COMPANY_TEL: BUSINESS,
        }
        # Without any of the time limits that the adapters have. The lease is renewed all the time.
        process.model.seconds = 10 * longest
        await process.daemon.accept(message(1))
        for _ in range(int(longest / WATCHDOG_SECONDS)):
            await asyncio.sleep(WATCHDOG_SECONDS)
            assert "WATCHDOG=1" in listener.heard()
        assert process.daemon.buffer.running == 1
        await asyncio.sleep(2 * WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {"STATUS=stuck: turn"}


def test_no_time_limit_of_a_turn_is_beyond_its_bound() -> None:
    slow: dict[str, Any] = {
        "ai": {"timeout_seconds": 900, "max_tool_rounds": 9, "profiles": {"other": {}}},
        "window": {"max_restarts": 4},
    }
    # Each draft with all rounds of tools, each round asked of both profiles.
    assert longest_turn_seconds(Settings.model_validate(slow)) > 5 * 10 * 2 * 900


@pytest.mark.parametrize("name", ["buffer", "consumer", "queue depths"])
async def test_a_service_that_is_gone_stops_the_feeding(listener: Listener, name: str) -> None:
    async with running(listener):
        _service(name).cancel()
        await asyncio.sleep(WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {f"STATUS=stuck: {name}"}


async def test_a_server_that_listens_no_more_stops_the_feeding(listener: Listener) -> None:
    async with running(listener) as process:
        await process.supervisor.webhooks.stop()
        await asyncio.sleep(WATCHDOG_SECONDS)
        listener.heard()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert set(listener.heard()) == {"STATUS=stuck: webhooks"}


async def test_a_manager_that_is_gone_is_no_reason_to_end(listener: Listener) -> None:
    async with running(listener) as process:
        listener.close()
        await asyncio.sleep(3 * WATCHDOG_SECONDS)
        assert not process.task.done()


async def test_nobody_is_told_when_nobody_asked() -> None:
    ServiceManager().notify("READY=1")


async def test_an_abstract_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        name = str(tmp_path)
        end.bind(f"\0{name}")
        ServiceManager(f"@{name}").notify("READY=1", "STATUS=ready")
        assert end.recv(100) == b"READY=1\nSTATUS=ready"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        # Meant for another process: not touched.
        ({"LISTEN_FDS": "3", "LISTEN_PID": "1"}, None),
    ],
)
async def test_what_the_manager_asks_for(environ: dict[str, str], seconds: float | None) -> None:
    manager = ServiceManager.from_environment(environ)
    assert manager == ServiceManager("", seconds, [], [])


async def test_a_process_without_turns_has_nothing_to_look_at() -> None:
    settings = Settings.model_validate({"server": {"role": "webhook"}})
    parts = Parts(
        store=MemoryStore(),
        wakeups=MemoryQueue(),
        handoffs=MemoryHandoffQueue(),
        model=MemoryModel(),
        channel=MemoryChannel(),
        clock=LoopClock(),
        ids=CountingIds("w"),
        owner="webhook",
    )
    assert daemon(settings, parts, Recorder()).consumers == ()
    NoBuffer().staged(KEY, 1, 0)
    NoBuffer().wake(KEY, 1, 0)


async def test_a_worker_has_no_use_for_a_socket() -> None:
    settings = Settings.model_validate({"server": {"role": "worker"}})
    with socket.create_server(("127.0.0.1", 0)) as handed:
        manager = ServiceManager(webhook_sockets=[handed])
        with pytest.raises(ConfigError, match=r"server\.role"):
            async with open_supervisor(settings, manager=manager):
                pass


async def test_a_descriptor_must_be_a_listening_socket() -> None:
    with socket.socket() as idle:
        for fd in (os.dup(idle.fileno()), os.open(os.devnull, os.O_RDONLY), 10_000):
            with pytest.raises(ConfigError, match=rf"descriptor {fd} "):
                systemd._listening(fd)
    with socket.create_server(("127.0.0.1", 0)) as server:
        inherited = systemd._listening(os.dup(server.fileno()))
        assert inherited.getsockname() == server.getsockname()
        assert not inherited.get_inheritable()
        inherited.close()
