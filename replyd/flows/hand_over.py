"""HANDOFF: give messages to people."""

from dataclasses import replace

from replyd.domain import delivery, effects, record, recovery, steps, turn
from replyd.domain.record import Outbox
from replyd.flows import outside_window
from replyd.flows.apologise import apologise
from replyd.flows.outcomes import Outcome, Retry, Settled
from replyd.flows.settle import settle
from replyd.flows.tools import called
from replyd.flows.workbench import Turn


async def hand_over(held: Turn, what: effects.HandOver) -> Outcome:
    """INTENT(handoff), the effect, COMMIT. Raises as the store and the queue do."""
    if held.pending != what.taken:
        await held.take(what.taken)
    says_first = what.apologise or what.farewell or (what.confirm_stop and held.bench.stop_text)
    # Outside of the window the customer would not get it.
    says_first = says_first and not outside_window.is_closed(held)
    if says_first and not await apologise(held, what):
        held.ended("lease_lost", reason=what.reason)
        return Retry()
    outbox = _outbox(held, what, what.maybe_sent)
    held.account.turn_id = outbox.turn_id
    held.intended = "handoff"
    while True:
        step = steps.intend_handoff(
            held.lease.token,
            outbox,
            held.lease.expiry(),
            head=held.head,
            over=what.maybe_sent and outbox,
        )
        result = await held.bench.store.apply(held.key, step)
        now_there = held.read(result)
        answer = turn.after_handoff_intent(result, now_there, token=held.lease.token)
        match answer:
            case turn.Holds():
                held.lease.extended()
                return await carry_out(held, outbox)
            case turn.LeaseLost():
                held.ended("lease_lost", reason=what.reason)
                return Retry()
            case turn.DeliveryChanged(there):
                outbox = replace(outbox, delivery=there.delivery)


async def repeat_handoff(held: Turn, what: effects.RepeatHandoff) -> Outcome:
    """The handoff of a worker that ended in the middle."""
    await held.take(what.taken)
    held.account.turn_id = what.outbox.turn_id
    held.intended = "handoff"
    return await carry_out(held, what.outbox)


async def carry_out(held: Turn, outbox: Outbox) -> Outcome:
    bench, conversation = held.bench, held.conversation
    if outbox.kind == "handoff":
        await _give(held, outbox)
    status = _STATUSES.get(outbox.reason, record.REPLY_FAILED)
    if outbox.kind == "silence":
        status = record.REPLY_WITHHELD
    now, intended = bench.clock.now(), outbox.reason in turn.INTENDED
    failure = None if intended else record.failure(outbox.reason, outbox.detail, now)
    usage = held.usage(counted=0)
    if not await settle(held, outbox, status=status, failure=failure, usage=usage):
        held.ended("lease_lost", reason=outbox.reason, detail="COMMIT did not hold")
        return Retry()
    outcome = "handed_over" if outbox.kind == "handoff" else "withheld"
    held.ended(outcome, reason=outbox.reason, detail=outbox.detail)
    return Settled(max(outbox.seqs, default=conversation.settled))


# What stands in the record; of the AI's failures, which people have to look at, `reply_failed`.
_STATUSES = dict.fromkeys(
    (*turn.INTENDED, turn.OVER_LIMIT, turn.LOOP, turn.FLAGGED), record.HANDED_TO_HUMAN
)


async def _give(held: Turn, outbox: Outbox) -> None:
    bench, conversation = held.bench, held.conversation
    await bench.handoffs.send(
        [
            bench.codec.encode(
                key=held.key,
                seq=taken.pending.seq,
                received_at=taken.pending.received_at,
                message=taken.message,
                conversation_id=conversation.conversation_id,
                thread_id=conversation.thread_id,
                company_tel=conversation.company_tel,
                handoff_reason=outbox.reason,
                handoff_detail=outbox.detail,
                handoff_summary=outbox.summary,
            )
            for taken in held.taken
        ]
    )


def _outbox(held: Turn, what: effects.HandOver, maybe_sent: Outbox | None) -> Outbox:
    """Of a reply that may have been sent it keeps turn and entries, as callbacks know them."""
    at = held.bench.clock.now()
    if maybe_sent is not None:
        marked = recovery.unknown_delivery(maybe_sent)
        return replace(
            marked,
            kind="handoff",
            seqs=held.seqs,
            at=at,
            reason=what.reason,
            detail=what.detail,
            summary="\n\n".join(filter(None, (_summary(marked), called(held)))),
        )
    turn_id = held.bench.ids.fresh()
    entries = held.user_entries(turn_id)
    if held.account.tools and entries:
        entries[-1]["tools"] = list(held.account.tools)
    return Outbox(
        turn_id,
        "silence" if what.silent else "handoff",
        held.seqs,
        tuple(entries),
        at,
        reason=what.reason,
        detail=what.detail,
        summary=what.summary or called(held),
        raise_flag=what.raise_flag,
        delivery={},
    )


_FATES = {
    delivery.UNKNOWN: "This may have reached the customer, look at Twilio's message log:",
    delivery.NOT_SENT: "This has not been sent:",
}


def _summary(reply: Outbox) -> str:
    """What people need to know of a reply that got stuck: each part, and what became of it."""
    return "\n\n".join(
        f"{_FATES.get(str(part.get('delivery')), 'This was sent:')}\n{part.get('content', '')}"
        for _, part in reply.parts
    )
