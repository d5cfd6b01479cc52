"""A wake-up's work: CLAIM the conversation, decide, and carry the turn to its end."""

import asyncio
from contextlib import suppress

from replyd.domain import effects, record, steps, turn
from replyd.domain.events import TurnClaimed
from replyd.domain.expressions import StepResult
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, ReplydError, Temporary
from replyd.flows import apologise
from replyd.flows.account import Account
from replyd.flows.hand_over import hand_over, repeat_handoff
from replyd.flows.lease import Lease
from replyd.flows.outcomes import LookAgain, Outcome, PassOn, Retry, Settled
from replyd.flows.reply import Reply
from replyd.flows.roll_over import roll_over
from replyd.flows.workbench import News, Turn, Workbench

# A cancelled turn has this long to let go of its lease.
_RELEASE_SECONDS = 3.0


class AnswerConversation:
    """One turn, or the reason why there is none now. Never raises a DependencyError: what cannot
    be done now is an outcome."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._reply = Reply()

    async def __call__(self, key: ConversationKey, seq: int, news: News | None = None) -> Outcome:
        """`seq`: the wake-up's. `news`: of messages that come meanwhile."""
        try:
            held = await self._claim(key, seq)
        except DependencyError as error:
            self._bench.failed("claim", error)
            return Retry(_delay_ms(error))
        if not isinstance(held, Turn):
            return held
        held.news = news or held.news
        return await self._run(held)

    async def _claim(self, key: ConversationKey, seq: int) -> Turn | Outcome:
        bench = self._bench
        lease = Lease(bench.store, bench.clock, key, bench.ids.fresh(), bench.policy.lease_ms)
        for _ in range(3):
            result, now = await self._try_claim(key, lease)
            answer = turn.after_claim(
                result,
                bench.read(key, result),
                token=lease.token,
                seq=seq,
                now=now,
                policy=bench.policy,
                window=bench.window,
            )
            match answer:
                case turn.Claimed(conversation):
                    lease.extended()
                    return self._claimed(conversation, lease, now)
                case turn.NothingLeft(settled):
                    return Settled(settled)
                case turn.WindowOpen(closes_at):
                    return LookAgain(closes_at)
                case turn.HeldElsewhere(free_at):
                    return PassOn(free_at)
        return Retry()

    async def _try_claim(self, key: ConversationKey, lease: Lease) -> tuple[StepResult, int]:
        bench = self._bench
        lease.expiry()
        now = bench.clock.now()
        step = steps.claim(
            lease.token,
            bench.owner,
            now,
            lease_ms=bench.policy.lease_ms,
            skew_ms=bench.policy.skew_ms,
            window=bench.window,
        )
        return await bench.store.apply(key, step), now

    def _claimed(self, conversation: Conversation, lease: Lease, now: int) -> Turn:
        first = conversation.pending[0].received_at if conversation.pending else now
        waited = now - first
        closed = turn.window_closes_at(conversation, self._bench.window) or first
        account = Account(claimed_at=now, window_wait_ms=max(0, waited))
        self._bench.telemetry.emit(
            TurnClaimed(
                key=conversation.key,
                conversation_id=conversation.conversation_id,
                sids=tuple(p.sid for p in conversation.pending[: turn.MAX_TAKEN]),
                attempt=conversation.attempts,
                window_wait_ms=account.window_wait_ms,
                at=now,
                late_ms=max(0, now - closed),
            )
        )
        return Turn(self._bench, lease, conversation, account)

    async def _run(self, held: Turn) -> Outcome:
        try:
            return await self._carry_out(held)
        except Temporary as error:
            self._bench.failed("turn", error)
            delay_ms = _delay_ms(error)
            held.ended("retry", reason=error.dependency, detail=error.reason, retry_in_ms=delay_ms)
            give_back = isinstance(error, Busy | DependencyDown)
            await self._release(held, give_back=give_back, error=error)
            return Retry(delay_ms)
        except Permanent as error:
            # The table or a queue refuses the turn itself. The attempt is used up, so that
            # people get the conversation in the end.
            self._bench.failed("turn", error)
            held.ended("retry", reason=error.dependency, detail=error.reason)
            await self._release(held, give_back=False, error=error)
            return Retry()
        except asyncio.CancelledError:
            held.ended("retry", reason="drain", detail="the process is stopping")
            await asyncio.shield(self._release(held, give_back=True))
            raise

    async def _carry_out(self, held: Turn) -> Outcome:
        await roll_over(held)
        while True:
            now, policy = self._bench.clock.now(), self._bench.policy
            match effects.next_effect(held.conversation, now=now, policy=policy):
                case effects.AskModel(taken):
                    await held.take(taken)
                    return await self._reply(held)
                case effects.SayText() as what:
                    await held.take(what.taken)
                    return await self._reply.say(held, what)
                case effects.Recover() as what:
                    return await self._reply.resume(held, what)
                case effects.HandOver() as what:
                    return await hand_over(held, what)
                case effects.RepeatHandoff() as what:
                    return await repeat_handoff(held, what)
                case effects.FinishApology(outbox):
                    if not await apologise.finish(held, outbox):
                        held.ended("lease_lost", detail="COMMIT of an apology did not hold")
                        return Retry()
                case effects.LetGo():
                    await self._release(held, give_back=True)
                    held.ended("nothing_to_do")
                    return Settled(held.conversation.settled)

    async def _release(
        self, held: Turn, *, give_back: bool, error: DependencyError | None = None
    ) -> None:
        """Without it the lease runs out by itself: a failure here costs time only."""
        now, attempts = self._bench.clock.now(), held.conversation.attempts
        step = steps.release(
            held.lease.token,
            give_back_attempt=give_back,
            drop_outbox=held.intended == "reply" and not held.may_have_sent,
            failure=record.failure(error.dependency, error.reason, now) if error else None,
            usage=held.usage(counted=attempts - 1 if give_back else attempts),
        )
        with suppress(ReplydError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._bench.store.apply(held.key, step)


def _delay_ms(error: DependencyError) -> int:
    return int((getattr(error, "delay", None) or 0) * 1000)
