"""The window in the process: one entry per conversation, holding its newest wake-up.

Wake-ups only say "look at this conversation". The entry holds the newest one, waits for the window
to close, runs the turn, and is done with wake-ups once everything up to them is settled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

import structlog

from replyd.domain import turn
from replyd.domain.events import TurnEnded
from replyd.domain.messages import ConversationKey
from replyd.domain.wakeup import Wakeup
from replyd.domain.window import delay_seconds
from replyd.flows.outcomes import LookAgain, Outcome, PassOn, Retry, Settled
from replyd.flows.pacing import FairSlots
from replyd.flows.workbench import News
from replyd.ports import NOT_TRACED, Clock, Ids, Received, Telemetry, Tracing, WakeupQueue
from replyd.runtime.entry import TAKES, Entry
from replyd.runtime.no_tracing import NoTracing
from replyd.runtime.progress import REQUEST_SECONDS, Progress
from replyd.runtime.receipts import Receipts

_log = structlog.get_logger("replyd")

# A closing time that nobody asked for by then belongs to a wake-up that went elsewhere.
_HINT_KEPT_MS = 60_000


class Buffer:
    """Implements `ports.LocalBuffer`. `max_held`: conversations at once; `concurrency`: turns,
    `per_tenant` of them for the customers of one business, None for as many as there are;
    `turn_seconds`: a turn that takes longer is stuck. `quiet_seconds`: the longest delay that a
    message's own wake-up is sent with."""

    def __init__(
        self,
        *,
        answer: Callable[[ConversationKey, int, News], Awaitable[Outcome]],
        wakeups: WakeupQueue,
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        progress: Progress,
        concurrency: int,
        max_held: int,
        visibility_seconds: int,
        heartbeat_seconds: float,
        turn_seconds: float,
        per_tenant: int | None = None,
        quiet_seconds: float = 0,
        tracing: Tracing | None = None,
    ) -> None:
        self._answer = answer
        self._receipts = Receipts(
            wakeups=wakeups,
            clock=clock,
            telemetry=telemetry,
            progress=progress,
            visibility_seconds=visibility_seconds,
            heartbeat_seconds=heartbeat_seconds,
        )
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._progress = progress
        self._turns = FairSlots(concurrency, per_tenant)
        self._max_held = max_held
        self._heartbeat = heartbeat_seconds
        self._quiet_ms = round(quiet_seconds * 1000)
        self._turn_seconds = turn_seconds
        self._tracing = tracing or NoTracing()
        self._entries: dict[ConversationKey, Entry] = {}
        self._hints: dict[ConversationKey, int] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def held(self) -> int:
        """Conversations with an entry."""
        return len(self._entries)

    @property
    def running(self) -> int:
        """Turns under way."""
        return sum(e.running for e in self._entries.values())

    @property
    def waiting_seconds(self) -> float:
        """For how long the customer who waits longest among those held here has done so since the
        window closed; turns under way count, until they end."""
        now = self._clock.now()
        return max([0, *(now - e.late_from for e in self._entries.values())]) / 1000

    @property
    def full(self) -> bool:
        """Whether no further conversation may be held now."""
        return not self._room.is_set()

    async def has_room(self) -> None:
        """Returns when a further conversation may be held."""
        await self._room.wait()

    # --- what comes in -------------------------------------------------------------------------

    def offer(self, wakeup: Wakeup, received: Received) -> None:
        """Hold a wake-up from the queue, or the newer one of two."""
        entry = self._entries.get(wakeup.key)
        if entry is None:
            entry = self._open(wakeup.key, wakeup.seq)
            if received.sent_at:
                # A delay by no more than the quiet time is over.
                entry.late_from = min(entry.late_from, received.sent_at + self._quiet_ms)
        entry.woken_by.add(wakeup.seq, received.trace)
        if entry.held is None:
            pass
        elif entry.held.message_id == received.message_id:
            # The same message received again: only its newest receipt can delete it.
            pass
        elif wakeup.seq < entry.held_seq:
            self._receipts.superseded(received)
            return
        else:
            self._receipts.superseded(entry.held)
        entry.held, entry.held_seq = received, wakeup.seq
        entry.business = wakeup.business or entry.business
        entry.held_since = self._clock.elapsed()
        entry.seq = max(entry.seq, wakeup.seq)
        entry.news.tell(wakeup.seq)
        # No later than a message that came just now: whose clock it was may be far ahead.
        self._reschedule(entry, min(wakeup.closes_at, self._clock.now() + self._quiet_ms))

    def staged(self, key: ConversationKey, seq: int, closes_at: int) -> None:
        self._hints[key] = closes_at
        if (entry := self._entries.get(key)) is not None:
            entry.news.tell(seq)
            if entry.held is not None:
                self._reschedule(entry)

    def wake(self, key: ConversationKey, seq: int, at: int) -> None:
        if self._draining:
            return
        entry = self._entries.get(key) or self._open(key, seq)
        entry.seq = max(entry.seq, seq)
        entry.woken_by.add(seq, self._tracing.context())
        self._hints[key] = at
        entry.news.tell(seq)
        self._reschedule(entry)

    def _reschedule(self, entry: Entry, closes_at: int = 0) -> None:
        """`closes_at`: by the wake-up that just came. Without it the window has closed, unless we
        know of a newer one."""
        closes_at = max(closes_at, self._hints.get(entry.key, 0))
        entry.postpone(closes_at)
        if not entry.failures:
            entry.due = max(self._clock.now(), closes_at)
        entry.look_again()

    def _open(self, key: ConversationKey, seq: int) -> Entry:
        now = self._clock.now()
        entry = self._entries[key] = Entry(key, now, seq, late_from=now)
        # It outlives the request that may have opened it, and is no part of its trace.
        entry.task = asyncio.create_task(
            self._attend(entry), name="conversation", context=Context()
        )
        self._idle.clear()
        if len(self._entries) >= self._max_held:
            self._room.clear()
        return entry

    def _close(self, entry: Entry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        if len(self._entries) < self._max_held:
            self._room.set()
        if not self._entries:
            self._idle.set()

    # --- an entry's life -----------------------------------------------------------------------

    async def _attend(self, entry: Entry) -> None:
        try:
            while True:
                await entry.until_due(self._clock)
                async with self._turns.slot(entry.tenant):
                    if self._draining:
                        return
                    outcome = await self._turn(entry)
                if outcome is None:
                    return
                if await self._finished(entry, outcome) or await self._left_to_others(entry):
                    return
        except Exception:  # noqa: BLE001 - one conversation's bug must not stop all others
            self._bug(entry)
        finally:
            self._close(entry)

    async def _turn(self, entry: Entry) -> Outcome | None:
        """None when it ended with a bug."""
        woken_by = entry.woken_by.newest_first()
        parent, *links = woken_by or [NOT_TRACED]
        with self._tracing.begin("turn", "consumer", TAKES, parent=parent, links=links) as span:
            entry.running = True
            # What arrives during the turn is of the next window.
            self._hints.pop(entry.key, None)
            try:
                with self._progress.within("turn", self._turn_seconds):
                    outcome = await self._answer(entry.key, entry.seq, entry.news)
            except Exception as bug:  # noqa: BLE001 - as above, and its lines are of this trace
                span.failed(type(bug).__name__)
                self._bug(entry)
                return None
            finally:
                entry.running = False
            span.set({"replyd.wake_up": type(outcome).__name__})
            if isinstance(outcome, Settled):
                for trace in entry.woken_by.settled(outcome.seq):
                    if trace not in woken_by:
                        span.link(trace)
            return outcome

    def _bug(self, entry: Entry) -> None:
        # The wake-up comes again and ends in the dead-letter queue, where somebody looks.
        _log.exception("a turn ended with a bug; its wake-up is left to redrive")
        ended = TurnEnded(entry.key, entry.key.sort, "", "bug", self._clock.now())
        self._telemetry.emit(ended)

    async def _finished(self, entry: Entry, outcome: Outcome) -> bool:
        """Act on a turn's outcome; true when nothing is left to wait for."""
        now = self._clock.now()
        match outcome:
            case Settled(seq):
                entry.failures = 0
                if entry.held is not None and entry.held_seq <= seq:
                    self._receipts.settled(entry.held)
                    entry.held = None
                # The hint of a newer message, if any, came during the turn.
                entry.due = max(self._clock.now(), self._hints.get(entry.key, 0))
                entry.late_from = entry.due
                return entry.held is None and entry.seq <= seq
            case LookAgain(at):
                entry.due = at
                entry.postpone(at)
            case Retry(delay_ms):
                entry.failures += 1
                pause = turn.pause_ms(entry.failures, self._ids.jitter())
                entry.due = now + max(pause, delay_ms)
            case PassOn(at):
                # A little after the other's lease, and not all at once.
                at += int(1000 * self._ids.jitter())
                return await self._pass_on(entry, at)
        return False

    async def _left_to_others(self, entry: Entry) -> bool:
        """While draining, what is left to wait for is for another instance to wait for."""
        if self._draining and entry.held is not None:
            await self._receipts.give_back([entry.held])
        return self._draining

    async def _pass_on(self, entry: Entry, at: int) -> bool:
        """A fresh wake-up instead of this one, so that waiting uses up no receives."""
        held = entry.held
        entry.due = at
        if held is None:
            return False
        if not await self._receipts.send_again(held, delay_seconds(at, self._clock.now())):
            return False
        self._receipts.settled(held)
        if entry.held is not held:
            return False
        entry.held = None
        return True

    # --- the heartbeat -------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps held wake-ups invisible and deletes what need not come again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receipts.run(), name="deletes")
            group.create_task(self._heartbeats(), name="heartbeats")

    async def _heartbeats(self) -> None:
        while True:
            with self._progress.within("buffer", self._heartbeat + REQUEST_SECONDS):
                await asyncio.sleep(self._heartbeat)
            await self._receipts.keep(self._entries.values())
            horizon = self._clock.now() - _HINT_KEPT_MS
            for key in [k for k, at in self._hints.items() if at < horizon]:
                del self._hints[key]

    # --- the end -------------------------------------------------------------------------------

    async def drain(self, grace_seconds: float) -> None:
        """Give back what waits at once, let turns finish within the grace, then cancel them."""
        self._draining = True
        waiting = [e for e in self._entries.values() if not e.running]
        await self._give_back(waiting)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            await self._give_back(list(self._entries.values()))
        await self._receipts.flush()

    async def _give_back(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.task is not None:
                entry.task.cancel()
        await asyncio.gather(*(e.task for e in entries if e.task), return_exceptions=True)
        await self._receipts.give_back([e.held for e in entries if e.held is not None])
