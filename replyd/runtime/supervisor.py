"""The process: services in order, signals, drain."""

import asyncio
import faulthandler
import signal
from collections.abc import Sequence
from contextlib import suppress

import structlog

from replyd.runtime.buffer import Buffer
from replyd.runtime.consumer import Consumer
from replyd.runtime.health import Health
from replyd.runtime.ops_server import OpsServer
from replyd.runtime.webhook_server import WebhookServer

_log = structlog.get_logger("replyd")


class Supervisor:
    """Runs the services until told to stop, then drains. A service that ends by a bug stops the
    others, and the bug is raised."""

    def __init__(
        self,
        *,
        webhooks: WebhookServer,
        ops: OpsServer,
        consumers: Sequence[Consumer],
        buffer: Buffer,
        health: Health,
        drain_seconds: float,
        watchdog_seconds: float,
    ) -> None:
        self.webhooks = webhooks
        self.ops = ops
        self._consumers = consumers
        self._buffer = buffer
        self._health = health
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
            await self.webhooks.start()
            async with asyncio.TaskGroup() as services:
                watchdog = services.create_task(self._watchdog())
                receipts = services.create_task(self._buffer.run())
                polls = [services.create_task(c.run()) for c in self._consumers]
                self._health.starting = False
                self.ready.set()
                _log.info("ready", port=self.webhooks.port, ops_port=self.ops.port)
                await self._stop.wait()
                await self._drain(polls)
                receipts.cancel()
                watchdog.cancel()
        finally:
            await self.webhooks.stop()
            await self.ops.stop()

    async def _drain(self, polls: Sequence[asyncio.Task[None]]) -> None:
        """What came in is finished or given back; nothing new comes in."""
        _log.info("draining", turns=self._buffer.running, held=self._buffer.held)
        self._health.draining = True
        await self.webhooks.stop()
        for consumer in self._consumers:
            consumer.stop()
        await asyncio.gather(*polls)
        await self._buffer.drain(self._drain_seconds)
        _log.info("drained")

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
