"""SEND and ARM: a reply's parts in order, each at most once."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from replyd.domain import steps, turn
from replyd.domain.events import PartSent
from replyd.domain.messages import OutboundPart
from replyd.domain.record import Entry, Outbox
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary
from replyd.flows.workbench import Turn

_ARM_TRIES = 3


@dataclass(frozen=True, slots=True)
class Sent:
    """How far SEND came: the SID of each entry whose part was accepted, and why it stopped
    before the last part, if it did."""

    sids: dict[int, str]
    stopped: DependencyError | turn.Silenced | turn.LeaseLost | None = None


async def send(held: Turn, outbox: Outbox, accepted: Mapping[int, str]) -> Sent:
    """Sends the parts that are not among `accepted` (entry index to SID), and stops at the first
    one that was not taken. A part that was certainly refused is tried again only behind parts
    that were accepted; a refused first part goes back to INTENT, where all conditions are looked
    at again."""
    bench, sids = held.bench, dict(accepted)
    parts = outbox.parts
    for number, (index, entry) in enumerate(parts, start=1):
        attempt = 0
        while index not in sids:
            attempt += 1
            armed = await _arm(held, outbox.turn_id, index, sids) if sids else turn.Holds()
            if not isinstance(armed, turn.Holds):
                return Sent(sids, armed)
            started = bench.clock.now()
            try:
                sids[index] = await _send_part(held, outbox, index, entry)
            except Temporary as error:
                if not sids or attempt >= bench.policy.max_attempts:
                    return Sent(sids, error)
                bench.failed("send", error)
                pause = turn.pause_ms(attempt, bench.ids.jitter()) / 1000
                await asyncio.sleep(max(pause, error.delay or 0))
                continue
            except (Permanent, Ambiguous) as error:
                return Sent(sids, error)
            now = bench.clock.now()
            held.account.send_ms += now - started
            held.account.reply_sids.append(sids[index])
            bench.telemetry.emit(
                PartSent(held.key, held.sids, number, len(parts), sids[index], now - started, now)
            )
    return Sent(sids)


async def _arm(
    held: Turn, turn_id: str, index: int, sids: dict[int, str]
) -> turn.Holds | turn.LeaseLost | turn.Silenced:
    """Once more before a further part: flag, opt-out, token. Notes the SIDs so far, for free.
    Raises as the store does, after a few tries: then RECOVER has to find out what was sent."""
    lease, attempt = held.lease, 0
    while True:
        attempt += 1
        step = steps.arm(lease.token, turn_id, index, lease.expiry(), accepted=sids)
        try:
            result = await held.bench.store.apply(held.key, step)
        except Temporary as error:
            if attempt >= _ARM_TRIES:
                raise
            held.bench.failed("arm", error)
            await asyncio.sleep(turn.pause_ms(attempt, held.bench.ids.jitter()) / 1000)
        else:
            break
    answer = turn.after_arm(result, held.read(result), token=lease.token)
    if isinstance(answer, turn.Holds):
        lease.extended()
    return answer


async def _send_part(held: Turn, outbox: Outbox, index: int, entry: Entry) -> str:
    # Read right before the send: a process that stood still must not send late.
    if held.lease.left_seconds() < held.bench.send_margin_seconds:
        raise Temporary("replyd", "too little of the lease was left to start a send")
    last = held.taken[-1].message
    part = OutboundPart(
        account_sid=last.account_sid,
        sender=last.recipient,
        recipient=last.sender,
        text=str(entry.get("content", "")),
        status_callback=held.bench.status_callback(held.key, outbox.turn_id, index),
    )
    before, held.may_have_sent = held.may_have_sent, True
    try:
        return await held.bench.channel.send(part)
    except (Temporary, Permanent):
        # A proof of refusal.
        held.may_have_sent = before
        raise
