"""RUN: ask the model once for the burst, and stop asking when nobody wants the answer any more."""

import asyncio
import sys
from collections import OrderedDict
from contextlib import suppress

from replyd.domain import effects, turn
from replyd.domain.events import ModelInterrupted
from replyd.errors import DependencyError
from replyd.flows.compose import Draft
from replyd.flows.converse import converse
from replyd.flows.tools import TurnOverError
from replyd.flows.typing_indicator import typing_indicator
from replyd.flows.workbench import Turn

_MAX_DRAFTS = 1_000
# No message has a seq beyond this one.
_NO_NEWS = sys.maxsize

Unwanted = turn.NewerMessages | turn.Silenced | turn.LeaseLost
_WHY: dict[type[Unwanted], str] = {
    turn.NewerMessages: "newer_messages",
    turn.Silenced: "silenced",
    turn.LeaseLost: "lease_lost",
}


class Drafts:
    """Answers that could not be sent yet, by the messages they answer: an outage of the channel
    must not buy the same answer again at each attempt."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], tuple[Draft, dict[str, str]]] = OrderedDict()

    def keep(self, held: Turn, draft: Draft) -> None:
        self._kept[held.sids] = (draft, {t.message.sid: t.text for t in held.taken})
        while len(self._kept) > _MAX_DRAFTS:
            self._kept.popitem(last=False)

    def pop(self, held: Turn) -> Draft | None:
        """The answer, and the messages as they were read for it."""
        draft, texts = self._kept.pop(held.sids, (None, {}))
        held.read_before(texts)
        return draft


async def ask(held: Turn, drafts: Drafts) -> Draft | effects.HandOver | Unwanted:
    """The model's answer, with the lease kept meanwhile. The call is cancelled, which saves its
    cost, as soon as a renewal shows that its answer would be thrown away.

    Raises as `converse` does."""
    bench, account = held.bench, held.account
    if (draft := drafts.pop(held)) is not None:
        return draft
    started = bench.clock.now()
    call = asyncio.create_task(converse(held))
    watch = asyncio.create_task(_until_unwanted(held))
    try:
        async with typing_indicator(held, enabled=bench.typing):
            await asyncio.wait((call, watch), return_when=asyncio.FIRST_COMPLETED)
        now = bench.clock.now()
        account.model_ms += now - started
        if not call.done():
            unwanted = watch.result()
            reason = _WHY[type(unwanted)]
            bench.telemetry.emit(ModelInterrupted(held.key, held.sids, reason, now - started, now))
            return unwanted
        return call.result()
    except TurnOverError as over:
        return over.answer
    finally:
        for task in (call, watch):
            task.cancel()
        await asyncio.gather(call, watch, return_exceptions=True)


async def restart(held: Turn, newer: turn.NewerMessages) -> turn.Silenced | turn.LeaseLost | None:
    """Take the newer messages too, once their sender has finished typing; None to go on."""
    held.account.restarts += 1
    held.conversation = newer.conversation
    heard = held.conversation.seq
    while (left := _window_ms(held)) > 0:
        heard = await _wait(held, min(left / 1000, held.lease.renewal_seconds()), heard)
        answer = await _renewed(held, seq=held.conversation.seq)
        if isinstance(answer, turn.NewerMessages):
            held.conversation = answer.conversation
        elif isinstance(answer, turn.Silenced | turn.LeaseLost):
            return answer
    await held.take(held.conversation.pending[: turn.MAX_TAKEN])
    return None


def _window_ms(held: Turn) -> int:
    bench = held.bench
    return turn.window_closes_at(held.conversation, bench.window) - bench.clock.now()


async def _until_unwanted(held: Turn) -> Unwanted:
    may_restart = held.account.restarts < held.bench.policy.max_restarts
    seq = held.conversation.seq if may_restart else None
    heard = held.conversation.seq if may_restart else _NO_NEWS
    while True:
        heard = await _wait(held, held.lease.renewal_seconds(), heard)
        answer = await _renewed(held, seq=seq)
        if answer is not None and not isinstance(answer, turn.Holds):
            return answer


async def _wait(held: Turn, seconds: float, heard: int) -> int:
    """Until the time is over or this process hears of a message beyond `heard`; returns how far
    it has heard then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await held.news.beyond(heard)
    return max(heard, held.news.seq)


async def _renewed(held: Turn, *, seq: int | None) -> turn.Holds | Unwanted | None:
    """None when the renewal failed: it is tried again, and when none holds the next step is
    refused."""
    bench = held.bench
    try:
        result = await held.lease.renew()
    except DependencyError as error:
        bench.failed("renew", error)
        await asyncio.sleep(turn.pause_ms(1, bench.ids.jitter()) / 1000)
        return None
    return turn.after_renewal(held.read(result), token=held.lease.token, seq=seq)
