"""Slots that are few, and shared fairly: turns of a process, calls on an API key."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from replyd.domain.pacing import FairOrder, Rates
from replyd.errors import Busy
from replyd.ports import Clock

# A `Retry-After` beyond this is cut: one odd header must not stop a key for a day.
LONGEST_PAUSE_SECONDS = 300.0


@dataclass(slots=True, eq=False)
class _Waiter:
    """`answer`: true for a slot, false for none. `until`: when it gives up, on the loop's clock."""

    tenant: str
    tokens: float
    until: float
    answer: "asyncio.Future[bool]"


def _at_once(_: float) -> float:
    return 0.0


class FairSlots:
    """At most `concurrency` holders at once, and `per_tenant` of one tenant, None for as many as
    there are. Those who wait have their turns in `FairOrder`.

    `admit`: given the tokens of whoever is next, seconds until it may go, or 0 for now, which
    books them."""

    def __init__(
        self,
        concurrency: int,
        per_tenant: int | None = None,
        *,
        admit: Callable[[float], float] = _at_once,
    ) -> None:
        self._free = concurrency
        self._per_tenant = concurrency if per_tenant is None else per_tenant
        self._admit = admit
        self._taken: Counter[str] = Counter()
        self._order: FairOrder[_Waiter] = FairOrder()
        self._timer: asyncio.TimerHandle | None = None

    def waiting(self) -> list[float]:
        """The tokens of each that waits."""
        return [waiter.tokens for waiter in self._order]

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Waits for as long as it takes."""
        await self.enter(tenant)
        try:
            yield
        finally:
            self.leave(tenant)

    async def enter(self, tenant: str, tokens: float = 0, seconds: float = math.inf) -> bool:
        """Whether there was a slot within so many seconds; then `leave` must follow."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(tenant, tokens, loop.time() + seconds, loop.create_future())
        self._order.push(tenant, waiter)
        self.serve()
        try:
            if not waiter.answer.done():
                timeout = seconds if math.isfinite(seconds) else None
                await asyncio.wait((waiter.answer,), timeout=timeout)
        except asyncio.CancelledError:
            # The slot may have come at the same moment.
            if waiter.answer.done() and waiter.answer.result():
                self.leave(tenant)
            raise
        finally:
            if not waiter.answer.done():
                self._refuse([waiter])
        return waiter.answer.result()

    def leave(self, tenant: str) -> None:
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        self.serve()

    def refuse(self, seconds: float) -> None:
        """Whoever would give up within so many seconds does so now."""
        until = asyncio.get_running_loop().time() + seconds
        self._refuse([waiter for waiter in self._order if waiter.until < until])

    def _refuse(self, waiters: Sequence[_Waiter]) -> None:
        for waiter in waiters:
            self._order.drop(waiter.tenant, waiter)
            waiter.answer.set_result(False)
        # Others may have waited behind them.
        self.serve()

    def serve(self) -> None:
        """Give out what can be given out, and come back when there will be more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and (head := self._order.head(self._may)) is not None:
            tenant, waiter = head
            if wait := self._admit(waiter.tokens):
                self._timer = asyncio.get_running_loop().call_later(wait, self.serve)
                return
            self._order.serve(tenant)
            self._free -= 1
            self._taken[tenant] += 1
            waiter.answer.set_result(True)

    def _may(self, tenant: str) -> bool:
        return self._taken[tenant] < self._per_tenant


class Slot:
    """A call under way."""

    def __init__(self, book: Callable[[float], None], estimate: float) -> None:
        self._book = book
        self._booked = estimate

    def used(self, tokens: int) -> None:
        """What the call has really used. Without it the estimate stands."""
        self._book(tokens - self._booked)
        self._booked = tokens


class KeyPace:
    """The calls on one API key: so many at once, so many and so many tokens a minute, None for no
    limit. `dependency`: its name in errors."""

    def __init__(
        self,
        dependency: str,
        clock: Clock,
        *,
        concurrency: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_wait_seconds: float = 5.0,
    ) -> None:
        self._dependency = dependency
        self._clock = clock
        self._max_wait = max_wait_seconds
        self._rates = Rates.of(requests_per_minute, tokens_per_minute)
        self._slots = FairSlots(concurrency, admit=self._admit)

    @asynccontextmanager
    async def slot(self, tenant: str, tokens_estimate: float = 0) -> AsyncIterator[Slot]:
        """Raises Busy when there is no slot within `max_wait_seconds`, or cannot be: a turn must
        not hold its lease for nothing. A Busy with a delay that the call raises holds back
        everybody else's too."""
        await self._enter(tenant, tokens_estimate)
        try:
            yield Slot(self._book, tokens_estimate)
        except Busy as busy:
            if busy.delay:
                self._pause(min(busy.delay, LONGEST_PAUSE_SECONDS))
            raise
        finally:
            self._slots.leave(tenant)

    async def _enter(self, tenant: str, tokens: float) -> None:
        wait = self._rates.wait(tokens, self._clock.elapsed())
        if wait > self._max_wait:
            raise self._busy(wait)
        if not await self._slots.enter(tenant, tokens, self._max_wait):
            raise self._busy(self._backlog(tokens))

    def _busy(self, seconds: float) -> Busy:
        return Busy(self._dependency, "too many calls on this key", delay=seconds)

    def _backlog(self, tokens: float) -> float:
        """Seconds until the calls that wait, and this one, may have been made. Nobody knows how
        long those under way take: as long as it was waited for, to begin with."""
        waiting = [*self._slots.waiting(), tokens]
        backlog = self._rates.backlog(len(waiting), sum(waiting), self._clock.elapsed())
        return backlog or self._max_wait

    def _admit(self, tokens: float) -> float:
        now = self._clock.elapsed()
        if not (wait := self._rates.wait(tokens, now)):
            self._rates = self._rates.take(tokens, now)
        return wait

    def _book(self, tokens: float) -> None:
        self._rates = self._rates.book(tokens, self._clock.elapsed())
        self._slots.serve()

    def _pause(self, seconds: float) -> None:
        self._rates = self._rates.pause(self._clock.elapsed() + seconds)
        self._slots.refuse(seconds)
