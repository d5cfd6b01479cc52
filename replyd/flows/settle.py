"""COMMIT: the turn's effect has happened, write it down."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from replyd.domain import consent, person_steps, recovery, steps, turn
from replyd.domain.expressions import Action, Step
from replyd.domain.record import Entry, Outbox
from replyd.errors import Permanent, ReplydError, Temporary
from replyd.flows.workbench import Turn

# The outbox, with what callbacks have written into it, and the entries for the history. Without
# entries the smallest form is wanted, which the table cannot find too large.
_Commit = Callable[[Outbox, tuple[Entry, ...]], Step]


async def settle(
    held: Turn,
    outbox: Outbox,
    *,
    status: str,
    thread_id: str = "",
    failure: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> bool:
    """Repeat COMMIT until it holds (true) or the lease is lost (false): whoever claims next then
    finds the outbox."""
    bench = held.bench
    pending = {p.sid for p in held.conversation.pending}
    prune = steps.prunable(
        {sid: at for sid, at in held.conversation.seen.items() if sid not in pending},
        bench.clock.now(),
        horizon_ms=bench.seen_horizon_ms,
        keep=bench.seen_keep,
    )

    def commit(seen: Outbox, entries: tuple[Entry, ...]) -> Step:
        return steps.commit(
            held.lease.token,
            seen,
            entries,
            bench.clock.now(),
            status=status,
            thread_id=thread_id,
            failure=failure,
            usage=usage,
            prune=prune if entries else (),
            prune_consent=consent.surplus(held.conversation.consents),
            kept=_kept(held),
        )

    if not await _until_held(held, outbox, commit):
        return False
    await _drop_bodies(held, len(outbox.seqs))
    return True


async def settle_apology(held: Turn, outbox: Outbox) -> bool:
    """As `settle`, for an apology: the turn goes on."""
    lease = held.lease

    def commit(seen: Outbox, entries: tuple[Entry, ...]) -> Step:
        return steps.commit_apology(lease.token, seen, entries, lease.expiry())

    if not await _until_held(held, outbox, commit):
        return False
    lease.extended()
    said = (*held.conversation.messages, *outbox.entries)
    held.conversation = replace(
        held.conversation, outbox=None, last_turn=outbox.turn_id, messages=said
    )
    return True


async def settle_person(held: Turn, outbox: Outbox) -> bool:
    """As `settle`, for a person's answer: it settles no message, and the lease goes."""

    def commit(seen: Outbox, entries: tuple[Entry, ...]) -> Step:
        return person_steps.commit_person(
            held.lease.token, seen, entries, held.bench.clock.now(), kept=_kept(held)
        )

    return await _until_held(held, outbox, commit)


def _kept(held: Turn) -> tuple[Action, ...]:
    """By what the claim has seen: a STOP that came since is pending, and its own COMMIT has the
    last word."""
    bench = held.bench
    expires_at = bench.retention.record_until(bench.clock.now())
    return steps.renewed(expires_at, opted_out=held.conversation.opted_out)


async def _until_held(held: Turn, outbox: Outbox, commit: _Commit) -> bool:
    bench, attempt, whole = held.bench, 0, True
    while held.lease.left_seconds() > 0:
        attempt += 1
        step = commit(outbox, recovery.history_of(outbox) if whole else ())
        try:
            result = await bench.store.apply(held.key, step)
        except Permanent as error:
            bench.failed("commit", error)
            if not whole:
                return False
            # Too large or malformed: settle without the texts rather than send again.
            whole = False
            continue
        except Temporary as error:
            bench.failed("commit", error)
            await asyncio.sleep(turn.pause_ms(attempt, bench.ids.jitter()) / 1000)
            continue
        answer = turn.after_commit(
            result, held.read(result), token=held.lease.token, turn_id=outbox.turn_id
        )
        if not isinstance(answer, turn.DeliveryChanged):
            return isinstance(answer, turn.Holds)
        outbox = replace(outbox, delivery=answer.outbox.delivery)
    return False


async def _drop_bodies(held: Turn, count: int) -> None:
    for taken in held.taken[:count]:
        if taken.pending.body_ref:
            # Its expiry removes what this leaves behind.
            with suppress(ReplydError):
                await held.bench.store.delete_side(taken.pending.body_ref)
