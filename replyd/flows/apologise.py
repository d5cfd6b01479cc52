"""FAIL's first half: tell the customer, once, that the AI has no answer."""

from replyd.domain import effects, record, recovery, turn
from replyd.domain.record import Entry, Outbox
from replyd.errors import Ambiguous
from replyd.flows.intend import intend
from replyd.flows.send import send
from replyd.flows.settle import settle_apology
from replyd.flows.workbench import Turn


async def apologise(held: Turn) -> bool:
    """An INTENT with a reply's conditions, SEND, and a COMMIT of no messages; false when the
    lease was lost. An apology that cannot be sent, or may have been, is not tried again: what
    counts is that people get the messages. Raises as the store does."""
    outbox = _outbox(held)
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


def _outbox(held: Turn) -> Outbox:
    turn_id, now = effects.apology_id(held.conversation), held.bench.clock.now()
    entry: Entry = {
        "role": "assistant",
        "content": held.bench.apology_text,
        "timestamp": record.iso(now),
        "turn_id": turn_id,
    }
    return Outbox(turn_id, "apology", (), (entry,), now, delivery={})
