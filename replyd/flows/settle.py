"""COMMIT: the turn's effect has happened, write it down."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from replyd.domain import steps, turn
from replyd.domain.record import Entry, Outbox
from replyd.errors import Permanent, ReplydError, Temporary
from replyd.flows.workbench import Turn


async def settle(
    held: Turn, outbox: Outbox, entries: Sequence[Entry], *, status: str, thread_id: str = ""
) -> bool:
    """Repeat COMMIT until it holds (true) or the lease is lost (false): whoever claims next then
    finds the outbox."""
    bench = held.bench
    prune = steps.prunable(
        {
            sid: at
            for sid, at in held.conversation.seen.items()
            if sid not in {p.sid for p in held.conversation.pending}
        },
        bench.clock.now(),
        horizon_ms=bench.seen_horizon_ms,
        keep=bench.seen_keep,
    )
    entries = tuple(entries)
    attempt = 0
    while held.lease.left_seconds() > 0:
        attempt += 1
        step = steps.commit(
            held.lease.token,
            outbox,
            turn.with_delivery(entries, outbox),
            bench.clock.now(),
            status=status,
            thread_id=thread_id,
            prune=prune,
        )
        try:
            result = await bench.store.apply(held.key, step)
        except Permanent as error:
            bench.failed("commit", error)
            if not entries:
                return False
            # Too large or malformed: settle without the texts rather than send again.
            entries, prune = (), ()
            continue
        except Temporary as error:
            bench.failed("commit", error)
            await asyncio.sleep(turn.pause_ms(attempt, bench.ids.jitter()) / 1000)
            continue
        answer = turn.after_commit(
            result, held.read(result), token=held.lease.token, turn_id=outbox.turn_id
        )
        if isinstance(answer, turn.DeliveryChanged):
            outbox = answer.outbox
            continue
        if isinstance(answer, turn.Holds):
            await _drop_bodies(held, len(outbox.seqs))
            return True
        return False
    return False


async def _drop_bodies(held: Turn, count: int) -> None:
    for taken in held.taken[:count]:
        if taken.pending.body_ref:
            # Its expiry removes what this leaves behind.
            with suppress(ReplydError):
                await held.bench.store.delete_side(taken.pending.body_ref)
