"""HANDOFF: give messages to people."""

from replyd.domain import record, routing, steps, turn
from replyd.domain.record import Entry, Outbox
from replyd.flows.settle import settle
from replyd.flows.workbench import Outcome, Retry, Settled, Turn


async def hand_over(held: Turn, what: turn.HandOver) -> Outcome:
    """INTENT(handoff), the effect, COMMIT. Raises as the store and the queue do."""
    bench = held.bench
    if held.pending != what.taken:
        await held.take(what.taken)
    turn_id = held.account.turn_id = bench.ids.fresh()
    maybe_sent = turn.unknown_delivery(what.maybe_sent) if what.maybe_sent else None
    outbox = Outbox(
        turn_id=turn_id,
        kind="handoff",
        seqs=tuple(p.seq for p in held.pending),
        entries=_entries(held, turn_id, maybe_sent),
        at=bench.clock.now(),
        reason=what.reason,
        summary=_summary(maybe_sent),
        delivery=maybe_sent.delivery if maybe_sent else None,
    )
    held.intended = "handoff"
    step = steps.intend_handoff(held.lease.token, outbox, held.lease.expiry())
    result = await bench.store.apply(held.key, step)
    answer = turn.after_intent(result, held.read(result), token=held.lease.token, turn_id=turn_id)
    if not isinstance(answer, turn.Holds):
        held.ended("lease_lost", reason=what.reason)
        return Retry()
    held.lease.extended()
    return await carry_out(held, outbox, detail=what.detail)


async def repeat_handoff(held: Turn, what: turn.RepeatHandoff) -> Outcome:
    """The handoff of a worker that ended in the middle."""
    await held.take(what.taken)
    held.account.turn_id = what.outbox.turn_id
    held.intended = "handoff"
    return await carry_out(held, what.outbox, detail="repeated after an earlier worker ended")


async def carry_out(held: Turn, outbox: Outbox, *, detail: str) -> Outcome:
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
                handoff_detail=detail,
                handoff_summary=outbox.summary,
            )
            for taken in held.taken
        ]
    )
    wanted = outbox.reason in (turn.REQUESTED, turn.OPTED_OUT)
    status = record.HANDED_TO_HUMAN if wanted else record.REPLY_FAILED
    if not await settle(held, outbox, outbox.entries, status=status):
        held.ended("lease_lost", reason=outbox.reason, detail="COMMIT did not hold")
        return Retry()
    held.ended("handed_over", reason=outbox.reason, detail=detail)
    return Settled(max(outbox.seqs, default=conversation.settled))


def _entries(held: Turn, turn_id: str, maybe_sent: Outbox | None) -> tuple[Entry, ...]:
    if maybe_sent is not None:
        # Users' messages and the parts keep their places, as callbacks know them by index.
        return maybe_sent.entries
    rows = [(t.message.sid, t.pending.received_at, t.text) for t in held.taken]
    return tuple(routing.user_entries(rows, turn_id))


def _summary(maybe_sent: Outbox | None) -> str:
    if maybe_sent is None:
        return ""
    drafts = [str(e.get("content", "")) for e in maybe_sent.entries if e.get("role") == "assistant"]
    return (
        "This reply may have reached the customer: look at Twilio's message log before you "
        "answer.\n\n" + "\n\n".join(drafts)
    )
