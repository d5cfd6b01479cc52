"""CATCH-UP: find what customers sent and no webhook made durable.

Twilio could not deliver it, or the webhook died between STAGE and its wake-up. Everything in the
vendor's list goes through STAGE, which refuses what is known.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from replyd.domain.catch_up import CatchUpPolicy, Listed, advanced
from replyd.domain.events import (
    CaughtUp,
    DependencyFailed,
    Event,
    MessageAccepted,
    MessageDropped,
)
from replyd.errors import DependencyError, Permanent, Temporary
from replyd.flows.accept_message import AcceptMessage
from replyd.ports import Channel, Clock, ConversationStore, Telemetry

# More than one process accepts between two rounds; a SID that is forgotten costs two requests.
_REMEMBERED = 20_000
_SEEN_UNTIL = "seen_until"
# Nothing older is looked at, not even for the overlap: another system may have answered it.
_BEGAN = "began"


class ArrivalClock:
    """Implements `ports.Clock` for CATCH-UP's STAGE: `stands_at` is when a message came that is too
    old for the AI, None for the time as it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stands_at: int | None = None

    def now(self) -> int:
        return self._clock.now() if self.stands_at is None else self.stands_at

    def elapsed(self) -> float:
        return self._clock.elapsed()


class Lately:
    """Implements `ports.Telemetry`: hands everything on, and remembers the SIDs that this process
    need not look at again: their wake-ups are on the queue, or they are settled."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._order: deque[str] = deque()
        self._sids: set[str] = set()

    def emit(self, event: Event) -> None:
        if isinstance(event, MessageAccepted | MessageDropped):
            self.add(event.sid)
        self._telemetry.emit(event)

    def add(self, sid: str) -> None:
        if sid in self._sids:
            return
        if len(self._order) >= _REMEMBERED:
            self._sids.discard(self._order.popleft())
        self._order.append(sid)
        self._sids.add(sid)

    def __contains__(self, sid: str) -> bool:
        return sid in self._sids


class Verdict:
    """Implements `ports.Telemetry` for CATCH-UP's STAGE: notes what became of the message. That it
    was known is no news, and most are."""

    def __init__(self, lately: Lately) -> None:
        self._lately = lately
        self.staged = False
        self.known = False

    def emit(self, event: Event) -> None:
        match event:
            case MessageAccepted(again=True) | MessageDropped(reason="already_settled"):
                self.known = True
                self._lately.add(event.sid)
                return
            case MessageAccepted():
                self.staged = True
            case _:
                pass
        self._lately.emit(event)


class CatchUp:
    """`accept` must tell the time by `arrival` and what it did to `verdict`, and must take no
    message for START: one that is found late may be older than a STOP."""

    def __init__(
        self,
        *,
        store: ConversationStore,
        channel: Channel,
        clock: Clock,
        telemetry: Telemetry,
        accept: AcceptMessage,
        arrival: ArrivalClock,
        verdict: Verdict,
        lately: Lately,
        policy: CatchUpPolicy,
        interval_seconds: float,
    ) -> None:
        self._store = store
        self._channel = channel
        self._clock = clock
        self._telemetry = telemetry
        self._accept = accept
        self._arrival = arrival
        self._verdict = verdict
        self._lately = lately
        self._policy = policy
        self._interval = max(1, int(interval_seconds))
        self._started_at = clock.now()

    async def begin(self, account_sid: str) -> None:
        """Stores where the very first round is to begin, unless somebody has: a process that ends
        before its first round must not take with it what it was told to deliver again. Failures
        are reported; the first round stores it too."""
        try:
            if _time(await self._store.get_side(_name(account_sid)), _SEEN_UNTIL) is not None:
                return
            now = self._clock.now()
            # Of two processes the later one would begin later.
            name, period = f"catchup-begin#{account_sid}", self._interval
            if await self._store.once_per(name, now // 1000, period):
                since = self._policy.since(None, started_at=self._started_at, now=now)
                await self._store.put_side(_name(account_sid), _cursor(since, since), None)
        except DependencyError as error:
            self._report(error)

    async def round(self, account_sid: str) -> AsyncIterator[None]:
        """Lists once and stages, unless another instance did within the interval. Yields after
        each step, so that whoever drives it can tell a long round from one that hangs. Failures
        of dependencies are reported and end the round; the cursor stays before what failed."""
        tally = _Tally(account_sid, self._clock.elapsed())
        try:
            if not await self._is_ours(account_sid):
                return
            yield
            async for _ in self._list_and_stage(account_sid, tally):
                yield
        except DependencyError as error:
            self._report(error)
        if tally.begun:
            now, elapsed = self._clock.now(), self._clock.elapsed()
            self._telemetry.emit(tally.event(now, elapsed))

    async def _is_ours(self, account_sid: str) -> bool:
        now = self._clock.now() // 1000
        return await self._store.once_per(f"catchup-round#{account_sid}", now, self._interval)

    async def _list_and_stage(self, account_sid: str, tally: "_Tally") -> AsyncIterator[None]:
        name, now = _name(account_sid), self._clock.now()
        item = await self._store.get_side(name)
        cursor = _time(item, _SEEN_UNTIL)
        tally.begun, tally.seen_until = True, cursor or 0
        since = self._policy.since(cursor, started_at=self._started_at, now=now)
        began = (_time(item, _BEGAN) or 0) if cursor is not None else since
        since = max(since, began)
        if cursor is None:
            # Should this round fail, the next process must not begin later.
            cursor = since
            await self._store.put_side(name, _cursor(cursor, began), None)
        until = self._policy.until(now)
        if until <= since:
            return
        inbox = await self._channel.received_since(account_sid, since, until)
        tally.listed, tally.failed = len(inbox.messages), inbox.unreadable
        yield
        reached = inbox.until
        for listed in inbox.messages:
            if listed.message.sid in self._lately:
                tally.known += 1
                continue
            try:
                await self._stage(listed, tally)
            except Permanent as error:
                # It would be refused next time too, and must not keep the others.
                tally.failed += 1
                self._report(error)
            except Temporary as error:
                tally.failed += 1
                self._report(error)
                reached = min(reached, listed.at)
                break
            yield
        moved = advanced(cursor, reached, since=since)
        if moved is not None and moved != cursor:
            await self._store.put_side(name, _cursor(moved, began), None)
            tally.seen_until = moved

    async def _stage(self, listed: Listed, tally: "_Tally") -> None:
        old = self._policy.too_old(listed.at, self._clock.now())
        # Staged as of then, it has waited too long at its first CLAIM, and its window is closed.
        self._arrival.stands_at = listed.at if old else None
        self._verdict.staged = self._verdict.known = False
        await self._accept(listed.dated)
        tally.known += self._verdict.known
        tally.too_old += self._verdict.staged and old
        tally.staged += self._verdict.staged and not old

    def _report(self, error: DependencyError) -> None:
        self._telemetry.emit(DependencyFailed.of(error, "catch_up"))


class _Tally:
    """What a round has done so far."""

    def __init__(self, account_sid: str, elapsed: float) -> None:
        self._account = account_sid
        self._began = elapsed
        self.begun = False
        self.listed = self.staged = self.known = self.too_old = self.failed = 0
        self.seen_until = 0

    def event(self, now: int, elapsed: float) -> CaughtUp:
        return CaughtUp(
            account=self._account,
            listed=self.listed,
            staged=self.staged,
            known=self.known,
            too_old=self.too_old,
            failed=self.failed,
            seen_until=self.seen_until,
            duration_ms=round((elapsed - self._began) * 1000),
            at=now,
        )


def _name(account_sid: str) -> str:
    return f"catchup#{account_sid}"


def _cursor(seen_until: int, began: int) -> dict[str, int]:
    return {_SEEN_UNTIL: seen_until, _BEGAN: began}


def _time(item: dict[str, Any] | None, name: str) -> int | None:
    """An item that cannot be read is none."""
    try:
        return None if item is None else int(item[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
