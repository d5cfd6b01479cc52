"""INTENT of what goes to the customer: a reply, an apology, or a notice."""

from replyd.domain import consent, steps, turn
from replyd.domain.record import Outbox
from replyd.flows.workbench import Turn


async def intend(
    held: Turn, outbox: Outbox, *, seq: int | None
) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
    """`seq`: the newest message that it answers, where a newer one means to ask again. Raises as
    the store does."""
    lease = held.lease
    held.account.turn_id = outbox.turn_id
    expires_at = lease.expiry()
    if outbox.kind == "notice":
        step = consent.intend_notice(
            lease.token, outbox, expires_at, head=held.head, over=held.unsent
        )
    else:
        step = steps.intend_reply(
            lease.token, outbox, expires_at, head=held.head, seq=seq, over=held.unsent
        )
    held.intended = outbox.kind
    result = await held.bench.store.apply(held.key, step)
    answer = turn.after_intent(
        result, held.read(result), token=lease.token, turn_id=outbox.turn_id, seq=seq
    )
    if isinstance(answer, turn.Holds):
        held.unsent = None
        lease.extended()
    return answer
