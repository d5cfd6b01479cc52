"""RECOVER: find out how far a reply came whose send has no answer, or whose worker ended."""

import asyncio
from dataclasses import replace

from replyd.domain import effects, recovery, turn
from replyd.domain.events import SendReconciled
from replyd.domain.record import Outbox
from replyd.errors import Permanent, Temporary
from replyd.flows.workbench import Turn

Found = recovery.SendAgain | recovery.Resume | effects.HandOver | turn.LeaseLost


async def look(held: Turn, outbox: Outbox) -> Found:
    """Wait the grace, counted from now: from this worker's claim, or from its own failed attempt.
    Then look at what callbacks have told, then at the channel's list.

    Raises Temporary and its kinds when the list cannot be read for now."""
    held.account.reconciled += 1
    bench, sids, certain = held.bench, recovery.known_sids(outbox), True
    if len(sids) < len(outbox.parts):
        async with held.lease.kept():
            await asyncio.sleep(bench.grace_seconds)
        there = held.read(await held.lease.renew())
        if isinstance(turn.after_renewal(there, token=held.lease.token), turn.LeaseLost):
            return turn.LeaseLost()
        if there is not None and there.outbox is not None:
            outbox = replace(outbox, delivery=there.outbox.delivery)
        sids, certain = await _accepted(held, outbox)
    found = recovery.after_look(
        outbox,
        held.pending,
        sids,
        certain=certain,
        given_up=_given_up(held),
        policy=bench.policy,
    )
    if isinstance(found, recovery.SendAgain) or (certain and not sids):
        held.unsent = outbox
        held.may_have_sent = not certain
    bench.telemetry.emit(
        SendReconciled(
            key=held.key,
            conversation_id=held.conversation.conversation_id,
            turn_id=outbox.turn_id,
            parts=len(outbox.parts),
            accepted=len(sids),
            outcome=_outcome(found, outbox, certain=certain),
            at=bench.clock.now(),
        )
    )
    return found


async def _accepted(held: Turn, outbox: Outbox) -> tuple[dict[int, str], bool]:
    """Entry index to SID, and whether a part without one was certainly not accepted."""
    bench, last = held.bench, held.taken[-1].message
    known = recovery.known_sids(outbox)
    if len(known) == len(outbox.parts):
        return known, True
    since = recovery.listed_since(outbox, bench.policy)
    try:
        listed = await bench.channel.sent_since(
            last.account_sid, last.recipient, last.sender, since
        )
    except Permanent as error:
        bench.failed("list", error)
        return known, False
    except Temporary as error:
        if _given_up(held) is None:
            raise
        bench.failed("list", error)
        return known, False
    elsewhere = {str(m["message_id"]) for m in held.conversation.messages if m.get("message_id")}
    sids = recovery.accepted_parts(outbox, listed, since=since, elsewhere=elsewhere)
    everybodys = elsewhere | set(sids.values())
    return sids, not recovery.is_nobodys(listed, since=since, known=everybodys)


def _given_up(held: Turn) -> effects.HandOver | None:
    bench = held.bench
    return effects.given_up(
        held.conversation,
        held.pending,
        now=bench.clock.now(),
        policy=bench.policy,
        further=held.account.reconciled - 1,
    )


def _outcome(found: Found, outbox: Outbox, *, certain: bool) -> str:
    match found:
        case recovery.SendAgain():
            return "sent_again" if certain else "sent_again_unsure"
        case recovery.Resume(sids):
            missing = len(outbox.parts) - len(sids)
            return "resumed" if missing else "accepted"
        case _:
            return "handed_over"
