"""INTENT, SEND, RECOVER, COMMIT: the model's answer on its way to the customer."""

from replyd.domain import effects, record, recovery, turn
from replyd.domain.record import Outbox
from replyd.errors import Ambiguous, Permanent, Temporary
from replyd.flows import outside_window, recover
from replyd.flows.compose import FIXED, Draft, compose, draft_of, fixed_draft
from replyd.flows.hand_over import hand_over
from replyd.flows.intend import intend
from replyd.flows.outcomes import Outcome, Retry, Settled
from replyd.flows.run import Drafts, Unwanted, ask, restart
from replyd.flows.send import Sent, send
from replyd.flows.settle import settle
from replyd.flows.workbench import Turn


class Reply:
    """One instance for all turns of a process. Its calls raise Temporary and its kinds when the
    turn has to come back later; the outbox then stays unless nothing of it can have been sent."""

    def __init__(self) -> None:
        self._drafts = Drafts()

    async def __call__(self, held: Turn) -> Outcome:
        """RUN, and what follows."""
        return await self._until_settled(held, None)

    async def say(self, held: Turn, what: effects.SayText) -> Outcome:
        """A fixed text instead of RUN."""
        held.fixed = what
        return await self._until_settled(held, None)

    async def resume(self, held: Turn, what: effects.Recover) -> Outcome:
        """The reply of a worker that ended while sending it, or could not tell."""
        await held.take(what.taken)
        held.intended, held.may_have_sent = "reply", True
        held.account.recovered(what.outbox)
        asked = [e for e in what.outbox.entries if e.get("role") == "user"]
        held.read_before({str(e.get("message_id")): str(e.get("content", "")) for e in asked})
        return await self._until_settled(held, what.outbox)

    async def _until_settled(self, held: Turn, unclear: Outbox | None) -> Outcome:
        while True:
            answer: Outcome | Unwanted | None
            if unclear is not None:
                answer = await self._reconcile(held, unclear)
            else:
                answer = await self._answer(held)
            unclear = None
            if isinstance(answer, turn.NewerMessages):
                answer = await restart(held, answer)
            match answer:
                case None:
                    continue
                case turn.LeaseLost():
                    sent = len(held.account.reply_sids)
                    held.ended("lease_lost", detail=f"after {sent} parts were sent")
                    return Retry()
                case turn.Silenced(reason):
                    maybe = held.unsent if held.may_have_sent else None
                    what = effects.HandOver(reason, held.pending, maybe_sent=maybe)
                    return await hand_over(held, what)
                case _:
                    return answer

    async def _answer(self, held: Turn) -> Outcome | Unwanted:
        draft: Draft | effects.HandOver | Unwanted
        if (closed := outside_window.for_people(held)) is not None:
            return await hand_over(held, closed)
        try:
            if held.fixed is not None:
                draft = fixed_draft(held.fixed.text, held.fixed.reason)
            else:
                draft = await ask(held, self._drafts)
        except Permanent as error:
            # Repeating cannot help: people answer.
            held.bench.failed("model", error)
            policy = held.bench.policy
            return await hand_over(
                held,
                effects.give_up(held.conversation, held.pending, turn.FAILED, str(error), policy),
            )
        if isinstance(draft, effects.HandOver):
            return await hand_over(held, draft)
        if not isinstance(draft, tuple):
            return draft
        outbox = compose(held, outside_window.fitted(held, draft))
        answer = await intend(held, outbox, seq=_insisted(held, held.conversation.seq))
        return await self._send(held, outbox, {}) if isinstance(answer, turn.Holds) else answer

    async def _send(
        self, held: Turn, outbox: Outbox, accepted: dict[int, str]
    ) -> Outcome | Unwanted:
        """`accepted`: the parts that need not be sent, entry index to SID."""
        sent = await send(held, outbox, accepted)
        noted = recovery.with_sids(outbox, sent.sids)
        match sent.stopped:
            case turn.LeaseLost():
                return sent.stopped
            case Ambiguous() as error:
                held.bench.failed("send", error)
                return await self._reconcile(held, noted)
            case Permanent() as error if not sent.sids:
                # Nobody can reach the customer this way, not even with an apology.
                held.bench.failed("send", error)
                what = effects.HandOver(turn.FAILED, held.pending, str(error))
                return await hand_over(held, what)
            case Temporary() as error if not sent.sids:
                self._drafts.keep(held, draft_of(outbox))
                raise error
        return await _settle(held, noted, sent)

    async def _reconcile(self, held: Turn, outbox: Outbox) -> Outcome | Unwanted:
        match await recover.look(held, outbox):
            case recovery.SendAgain():
                if (closed := outside_window.for_people(held)) is not None:
                    return await hand_over(held, closed)
                draft = outside_window.fitted(held, draft_of(outbox))
                # What a list may show too late still counts for the next look.
                again = compose(held, draft, at=outbox.at)
                answer = await intend(held, again, seq=_insisted(held, max(outbox.seqs)))
                return (
                    await self._send(held, again, {}) if isinstance(answer, turn.Holds) else answer
                )
            case recovery.Resume(sids):
                return await self._send(held, outbox, dict(sids))
            case effects.HandOver() as what:
                return await hand_over(held, what)
            case turn.LeaseLost() as lost:
                return lost


def _insisted(held: Turn, seq: int) -> int | None:
    """After the last restart newer messages wait for the next turn."""
    return seq if held.account.restarts < held.bench.policy.max_restarts else None


async def _settle(held: Turn, noted: Outbox, sent: Sent) -> Outcome:
    """COMMIT what was accepted, all of it or the first parts."""
    stopped, parts = sent.stopped, noted.parts
    detail = f"{len(sent.sids)} of {len(parts)} parts were sent"
    failure = None
    if stopped is not None:
        why = getattr(stopped, "reason", "")
        failure = record.failure("partly_sent", f"{detail}: {why}", held.bench.clock.now())
        noted = recovery.without_unsent(noted)
    status = record.AI_RESPONSE_SENT if stopped is None else record.REPLY_FAILED
    first = parts[0][1]
    # A thread that holds more than the customer got must not go on.
    thread_id = str(first.get("response_id", "")) if stopped is None else ""
    usage = held.usage(counted=0, replied=True, told=first.get(FIXED) == turn.OVER_LIMIT)
    if not await settle(
        held, noted, status=status, thread_id=thread_id, failure=failure, usage=usage
    ):
        held.ended("lease_lost", detail="the reply was sent, COMMIT did not hold")
        return Retry()
    if stopped is None:
        held.ended("replied")
    else:
        held.ended("partly_sent", reason=getattr(stopped, "reason", ""), detail=detail)
    return Settled(max(noted.seqs))
