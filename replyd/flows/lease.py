"""The lease that a worker holds on a conversation while it runs a turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from replyd.domain import record, steps
from replyd.domain.expressions import Refused, StepResult
from replyd.domain.messages import ConversationKey
from replyd.errors import ReplydError
from replyd.ports import Clock, ConversationStore


class Lease:
    """`expires_at` in the item is wall clock; what is left of one's own lease is measured with a
    clock that never stands still, counted from before the request that set it."""

    def __init__(
        self, store: ConversationStore, clock: Clock, key: ConversationKey, token: str, ms: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._key = key
        self._ms = ms
        self.token = token
        self.lost = False
        self._asked_at = self._held_from = clock.elapsed()

    def expiry(self) -> int:
        """The `expires_at` to ask for now, epoch ms. Call `extended` when the step holds."""
        self._asked_at = self._clock.elapsed()
        return self._clock.now() + self._ms

    def extended(self) -> None:
        self._held_from = max(self._held_from, self._asked_at)

    def left_seconds(self) -> float:
        return 0.0 if self.lost else self._held_from + self._ms / 1000 - self._clock.elapsed()

    async def renew(self) -> StepResult:
        """Brings the item. Raises as the store does. Sets `lost` when somebody else has taken
        over."""
        asked_at = self._clock.elapsed()
        expires_at = self._clock.now() + self._ms
        result = await self._store.apply(self._key, steps.renew(self.token, expires_at))
        if isinstance(result, Refused):
            there = (result.item or {}).get(record.LEASE)
            self.lost = not isinstance(there, dict) or there.get("token") != self.token
        else:
            self._held_from = max(self._held_from, asked_at)
        return result

    def renewal_seconds(self) -> float:
        """When the next renewal is due: before two thirds of the lease have passed."""
        return max(self.left_seconds() / 2, self._ms / 10_000)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renewed for as long as the block runs."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        while not self.lost:
            await asyncio.sleep(self.renewal_seconds())
            # A renewal that fails is tried again; when none holds, the next step is refused.
            with suppress(ReplydError):
                await self.renew()
