"""What happens to wake-ups once received: kept from others, given back, sent again, deleted."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from replyd.domain.events import DependencyFailed
from replyd.errors import DependencyError
from replyd.ports import Clock, Received, Telemetry, WakeupQueue
from replyd.runtime.entry import Entry
from replyd.runtime.progress import Progress

# SQS batches take ten.
BATCH = 10
# What is settled waits for so long for more, and is then deleted in one request. No customer waits
# for that; a process that is killed meanwhile leaves so many more wake-ups that come again.
GATHER_SECONDS = 0.25


class Receipts:
    """No failure is raised: each is told of, and a wake-up that could not be deleted or hidden
    comes again, which does no harm. `visibility_seconds`: for how long a receive hides one;
    `heartbeat_seconds`: between two calls of `keep`."""

    def __init__(
        self,
        *,
        wakeups: WakeupQueue,
        clock: Clock,
        telemetry: Telemetry,
        progress: Progress,
        visibility_seconds: int,
        heartbeat_seconds: float,
    ) -> None:
        self._wakeups = wakeups
        self._clock = clock
        self._telemetry = telemetry
        self._progress = progress
        self._visibility = visibility_seconds
        # What would not safely last until the next heartbeat.
        self._old = visibility_seconds * 0.8 - heartbeat_seconds
        self._to_delete: list[Received] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._deleting = asyncio.Lock()

    def superseded(self, received: Received) -> None:
        """To be deleted with what is settled next, or at the next `keep`."""
        self._to_delete.append(received)
        if len(self._to_delete) >= BATCH:
            self._some.set()
            self._enough.set()

    def settled(self, received: Received) -> None:
        """To be deleted soon."""
        self._some.set()
        self.superseded(received)

    async def run(self) -> None:
        """Deletes for all conversations together, until cancelled."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._enough.wait()
            await self.flush()

    async def flush(self) -> None:
        """Returns once what is to be deleted by now is deleted, or was tried."""
        async with self._deleting:
            done, self._to_delete = self._to_delete, []
            self._some.clear()
            self._enough.clear()
            if not done:
                return
            try:
                with self._progress.within("buffer"):
                    await self._wakeups.delete(done)
            except DependencyError as error:
                # They come again and are recognised as settled.
                self._failed("delete", error)

    async def keep(self, entries: Iterable[Entry]) -> None:
        """Hide for longer what others would see soon. Waits for no delete, which may take long."""
        if self._to_delete:
            self._some.set()
        elapsed = self._clock.elapsed()
        aging = [
            (entry, entry.held)
            for entry in entries
            if entry.held is not None and elapsed - entry.held_since >= self._old
        ]
        for batch in (aging[i : i + BATCH] for i in range(0, len(aging), BATCH)):
            if await self._hide([held for _, held in batch], self._visibility):
                for entry, _ in batch:
                    entry.held_since = elapsed

    async def give_back(self, held: Sequence[Received]) -> None:
        """For others to receive at once."""
        for i in range(0, len(held), BATCH):
            await self._hide(held[i : i + BATCH], 0)

    async def send_again(self, held: Received, delay_seconds: int) -> bool:
        """A fresh wake-up that says the same; whether it was sent."""
        try:
            await self._wakeups.send(held.body, delay_seconds, held.trace)
        except DependencyError as error:
            self._failed("send", error)
            return False
        return True

    async def _hide(self, held: Sequence[Received], seconds: int) -> bool:
        try:
            with self._progress.within("buffer"):
                await self._wakeups.hide(held, seconds)
        except DependencyError as error:
            self._failed("hide", error)
            return False
        return True

    def _failed(self, operation: str, error: DependencyError) -> None:
        self._telemetry.emit(DependencyFailed.of(error, operation))
