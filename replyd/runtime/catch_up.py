"""CATCH-UP, soon after the start and every few minutes."""

import asyncio
from collections.abc import Sequence

from replyd.flows.catch_up import CatchUp
from replyd.runtime.progress import Progress


class CatchUpService:
    """Until it is cancelled, which may happen at any time: a round is repeatable, and what a round
    that was cut short has staged is known to the next.

    `step_seconds`: a step of a round that takes longer is stuck. `start_seconds`: before the first
    round, for webhooks that waited for this process: what they bring need not be listed."""

    def __init__(
        self,
        *,
        catch_up: CatchUp,
        accounts: Sequence[str],
        interval_seconds: float,
        step_seconds: float,
        progress: Progress,
        start_seconds: float,
    ) -> None:
        self._catch_up = catch_up
        self._accounts = tuple(accounts)
        self._start_seconds = start_seconds
        # Asked more often than rounds are due, so that others soon go on where one has ended.
        self._pause_seconds = interval_seconds / 4
        self._step_seconds = step_seconds
        self._progress = progress

    async def run(self) -> None:
        for account_sid in self._accounts:
            with self._progress.within("catch-up", self._step_seconds):
                await self._catch_up.begin(account_sid)
        await asyncio.sleep(self._start_seconds)
        while True:
            for account_sid in self._accounts:
                await self._round(account_sid)
            await asyncio.sleep(self._pause_seconds)

    async def _round(self, account_sid: str) -> None:
        steps = self._catch_up.round(account_sid)
        going = True
        while going:
            with self._progress.within("catch-up", self._step_seconds):
                going = await anext(steps, _ENDED) is not _ENDED


_ENDED = object()
