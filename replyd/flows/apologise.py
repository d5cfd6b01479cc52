"""A word to the customer, once, ahead of a handoff: an apology, a farewell, or that STOP was
understood."""

from replyd.domain import effects, record, recovery, turn
from replyd.domain.record import Entry, Outbox
from replyd.domain.text import split_reply
from replyd.errors import Ambiguous
from replyd.flows.intend import intend
from replyd.flows.send import send
from replyd.flows.settle import settle_apology
from replyd.flows.workbench import Turn


async def apologise(held: Turn, what: effects.HandOver) -> bool:
    """An INTENT with a reply's conditions, or those of a notice, SEND, and a COMMIT of no messages;
    false when the lease was lost. An apology that cannot be sent, or may have been, is not tried
    again: what counts is that people get the messages. Raises as the store does."""
    outbox = _outbox(held, what)
    if not isinstance(await intend(held, outbox, seq=None), turn.Holds):
        # Whatever it was: a lost lease shows at the handoff's own INTENT.
        return True
    sent = await send(held, outbox, {})
    if sent.stopped is not None and not isinstance(sent.stopped, turn.Silenced | turn.LeaseLost):
        held.bench.failed("apology", sent.stopped)
    if sent.sids or isinstance(sent.stopped, Ambiguous):
        return await finish(held, recovery.with_sids(outbox, sent.sids))
    return not isinstance(sent.stopped, turn.LeaseLost)


async def finish(held: Turn, outbox: Outbox) -> bool:
    """Settle an apology that went out or may have; false when the lease was lost."""
    return await settle_apology(held, recovery.unknown_delivery(outbox))


def _outbox(held: Turn, what: effects.HandOver) -> Outbox:
    turn_id, now = effects.apology_id(held.conversation), held.bench.clock.now()
    said: list[Entry] = [
        {
            "role": "assistant",
            "content": text,
            "timestamp": record.iso(now),
            "turn_id": turn_id,
        }
        for text in split_reply(_words(held, what))
    ]
    # Whoever goes on after a crash hands over as it was meant.
    said[-1][effects.ANNOUNCED] = {
        "reason": what.reason,
        "detail": what.detail,
        "summary": what.summary,
        "raise_flag": what.raise_flag,
    }
    kind = "notice" if what.confirm_stop else "apology"
    return Outbox(turn_id, kind, (), tuple(said), now, delivery={})


def _words(held: Turn, what: effects.HandOver) -> str:
    if what.confirm_stop:
        return held.bench.stop_text
    return what.farewell or held.bench.apology_text
