"""SEND and ARM: a reply's parts in order, each at most once."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from replyd.domain import person_steps, steps, turn
from replyd.domain.content_template import filled_of
from replyd.domain.events import DependencyFailed, PartSent
from replyd.domain.messages import OutboundPart
from replyd.domain.record import Entry, Outbox
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary
from replyd.flows.workbench import Turn

_LOOK_SECONDS = 0.25
_NOT_ON_ITS_WAY = frozenset({"accepted", "scheduled", "queued", "sending"})


@dataclass(frozen=True, slots=True)
class Sent:
    """How far SEND came: the SID of each entry whose part was accepted, and why it stopped
    before the last part, if it did."""

    sids: dict[int, str]
    stopped: DependencyError | turn.Silenced | turn.LeaseLost | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Whose account sends, from which business number, to whom; the addresses with the channel
    prefix."""

    account_sid: str
    sender: str
    recipient: str


async def send(
    held: Turn, outbox: Outbox, accepted: Mapping[int, str], *, route: Route | None = None
) -> Sent:
    """Sends the parts that are not among `accepted` (entry index to SID), and stops at the first
    one that was not taken. A part that was certainly refused is tried again only behind parts
    that were accepted; a refused first part goes back to INTENT, where all conditions are looked
    at again. `route`: where to, when it is not the way back of the newest message taken."""
    bench, sids = held.bench, dict(accepted)
    parts, route = outbox.parts, route or _way_back(held)
    for number, (index, entry) in enumerate(parts, start=1):
        attempt = 0
        if index not in sids and (before := sids.get(parts[number - 2][0] if number > 1 else -1)):
            await _until_on_its_way(held, route, before)
        while index not in sids:
            attempt += 1
            armed = await _arm(held, outbox, index, sids) if sids else turn.Holds()
            if not isinstance(armed, turn.Holds):
                return Sent(sids, armed)
            started = bench.clock.now()
            try:
                sids[index] = await _send_part(held, outbox, index, entry, route)
            except Temporary as error:
                if not sids or attempt >= bench.policy.max_attempts:
                    return Sent(sids, error)
                bench.failed("send", error)
                pause = turn.pause_ms(attempt, bench.ids.jitter())
                wanted = max(pause, (error.delay or 0) * 1000)
                # An odd `Retry-After` must not hold the conversation up for a day.
                async with held.lease.kept():
                    await asyncio.sleep(min(wanted, turn.LONGEST_PAUSE_MS) / 1000)
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


async def _until_on_its_way(held: Turn, route: Route, sid: str) -> None:
    """Messages that follow too closely can arrive in another order. What cannot be found out in
    time holds nothing up."""
    bench = held.bench
    if not bench.part_wait_seconds:
        return
    pause = _LOOK_SECONDS
    with suppress(TimeoutError):
        async with asyncio.timeout(bench.part_wait_seconds):
            while True:
                try:
                    state = await bench.channel.state_of(route.account_sid, sid)
                except DependencyError as error:
                    # Not a word about whether the channel can be used: nothing was to be sent.
                    bench.telemetry.emit(DependencyFailed(error.dependency, "state", error.reason))
                    return
                if state not in _NOT_ON_ITS_WAY:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)


async def _arm(
    held: Turn, outbox: Outbox, index: int, sids: dict[int, str]
) -> turn.Holds | turn.LeaseLost | turn.Silenced:
    """Once more before a further part: flag, opt-out, token. Notes the SIDs so far, for free.
    Raises as the store does, after a few tries: then RECOVER has to find out what was sent."""
    lease = held.lease
    arm = person_steps.arm_person if outbox.kind == person_steps.PERSON else steps.arm
    result = await held.insist(
        "arm", lambda: arm(lease.token, outbox.turn_id, index, lease.expiry(), accepted=sids)
    )
    answer = turn.after_arm(result, held.read(result), token=lease.token)
    if isinstance(answer, turn.Holds):
        lease.extended()
    return answer


def _way_back(held: Turn) -> Route:
    last = held.taken[-1].message
    return Route(last.account_sid, last.recipient, last.sender)


async def _send_part(held: Turn, outbox: Outbox, index: int, entry: Entry, route: Route) -> str:
    template = filled_of(entry)
    part = OutboundPart(
        account_sid=route.account_sid,
        sender=route.sender,
        recipient=route.recipient,
        text=str(entry.get("content", "")),
        status_callback=held.bench.status_callback(held.key, outbox.turn_id, index),
        content_sid=template.sid,
        content_variables=template.variables,
    )
    bench, lease = held.bench, held.lease
    async with bench.pace.slot(part, lease.left_seconds() - bench.send_margin_seconds):
        # Read right before the send: a process that stood still must not send late.
        if lease.left_seconds() < bench.send_margin_seconds:
            raise Temporary("replyd", "too little of the lease was left to start a send")
        before, held.may_have_sent = held.may_have_sent, True
        try:
            return await bench.channel.send(part)
        except (Temporary, Permanent):
            # A proof of refusal.
            held.may_have_sent = before
            raise
