"""The process: services in order, signals, drain."""

import asyncio
import faulthandler
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import structlog

from replyd.runtime.buffer import Buffer
from replyd.runtime.catch_up import CatchUpService
from replyd.runtime.consumer import Consumer
from replyd.runtime.drain import drain
from replyd.runtime.health import Health
from replyd.runtime.ops_server import OpsServer
from replyd.runtime.progress import Progress
from replyd.runtime.queue_depths import QueueDepths
from replyd.runtime.systemd import ServiceManager
from replyd.runtime.webhook_server import WebhookServer

_log = structlog.get_logger("replyd")

# What a drain takes besides turns: requests under way, a long poll, giving back.
_DRAIN_MARGIN_SECONDS = 60.0


class Supervisor:
    """Runs the services until told to stop, then drains. A service that ends by a bug stops the
    others, and the bug is raised.

    `takes_webhooks`: whether `webhooks` is started. Without `consumers` it runs no turns. `load`:
    what is better done now than when somebody waits for it, but being ready need not wait for."""

    def __init__(
        self,
        *,
        webhooks: WebhookServer,
        ops: OpsServer,
        consumers: Sequence[Consumer],
        buffer: Buffer,
        health: Health,
        progress: Progress,
        manager: ServiceManager,
        drain_seconds: float,
        watchdog_seconds: float,
        takes_webhooks: bool = True,
        catch_up: CatchUpService | None = None,
        depths: QueueDepths | None = None,
        load: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.webhooks = webhooks
        self.ops = ops
        self._consumers = consumers
        self._buffer = buffer
        self._health = health
        self._progress = progress
        self._manager = manager
        self._takes_webhooks = takes_webhooks
        self._load = load
        self._rounds = {"catch-up": catch_up, "queue depths": depths}
        self._services: list[asyncio.Task[None]] = []
        self._drain_seconds = drain_seconds
        self._watchdog_seconds = watchdog_seconds
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Ask for a drain; `run` returns when it is done."""
        self._stop.set()

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT drain; a second one exits at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop()

    async def run(self) -> None:
        """Raises OSError when a port cannot be listened on, ExceptionGroup for a bug."""
        try:
            await self.ops.start()
            if self._takes_webhooks:
                await self.webhooks.start()
            async with asyncio.TaskGroup() as group:
                watchdog = group.create_task(self._watchdog())
                receipts = group.create_task(self._buffer.run(), name="buffer")
                polls = [group.create_task(c.run(), name="consumer") for c in self._consumers]
                rounds = [
                    group.create_task(service.run(), name=name)
                    for name, service in self._rounds.items()
                    if service is not None
                ]
                self._services = [receipts, *polls, *rounds]
                self._is_ready()
                if self._load is not None:
                    group.create_task(self._load())
                feeding = group.create_task(self._feed())
                await self._stop.wait()
                # Before the buffer drains: what CATCH-UP has staged by then is looked after.
                for task in rounds:
                    task.cancel()
                await self._drain(polls)
                for task in (receipts, feeding, watchdog):
                    task.cancel()
        finally:
            await self.webhooks.stop()
            await self.ops.stop()

    def _is_ready(self) -> None:
        self._health.starting = False
        self.ready.set()
        ports = {"port": self.webhooks.port} if self._takes_webhooks else {}
        _log.info("ready", **ports, ops_port=self.ops.port)
        self._manager.notify("READY=1", self._status())

    async def _drain(self, polls: Sequence[asyncio.Task[None]]) -> None:
        """What came in is finished or given back; nothing new comes in. Except webhooks on a socket
        that outlives us: they go on until turns are finished, or they would wait that long for the
        next process, longer than Twilio does."""
        _log.info("draining", turns=self._buffer.running, held=self._buffer.held)
        longest = round(1_000_000 * (self._drain_seconds + _DRAIN_MARGIN_SECONDS))
        self._manager.notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={longest}", self._status())
        self._health.draining = True
        if self.webhooks.outlived:
            self.webhooks.let_go()
        else:
            await self.webhooks.stop()
        await drain(self._consumers, polls, self._buffer, self._drain_seconds)
        await self.webhooks.stop()
        _log.info("drained")

    def _status(self) -> str:
        state = "draining" if self._stop.is_set() else "ready"
        where = f" on port {self.webhooks.port}" if self._takes_webhooks else ""
        turns, held = self._buffer.running, self._buffer.held
        return f"STATUS={state}{where}: {turns} turns, {held} conversations held"

    async def _feed(self) -> None:
        """Tells the service manager that all goes on: from the loop, for one that hangs tells
        nothing, and only while no service hangs."""
        if self._manager.watchdog_seconds is None:
            return
        before: list[str] = []
        while True:
            if stuck := self._stuck():
                self._manager.notify(f"STATUS=stuck: {', '.join(stuck)}")
                if stuck != before:
                    _log.error("stuck", services=stuck)
            else:
                self._manager.notify("WATCHDOG=1", self._status())
            before = stuck
            await asyncio.sleep(self._manager.watchdog_seconds / 2)

    def _stuck(self) -> list[str]:
        """The services that have ended or hang."""
        stuck = self._progress.stuck()
        if not self._stop.is_set():
            ended = (task.get_name() for task in self._services if task.done())
            servers = {"operations port": self.ops.serving}
            if self._takes_webhooks:
                servers["webhooks"] = self.webhooks.serving
            stuck += chain(ended, (name for name, serving in servers.items() if not serving))
        return stuck

    async def _watchdog(self) -> None:
        """Ends a process whose loop stands still: its leases run out, and a write of its after
        that could double a reply. The timer needs no loop and no GIL."""
        try:
            while True:
                faulthandler.dump_traceback_later(self._watchdog_seconds, exit=True)
                await asyncio.sleep(self._watchdog_seconds / 4)
        finally:
            with suppress(RuntimeError):
                faulthandler.cancel_dump_traceback_later()
