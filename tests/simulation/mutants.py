"""The shipped protocol with one rule taken away, made by wrapping the ports of a daemon."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replyd.bootstrap import Parts
from replyd.domain import record as r
from replyd.domain.expressions import (
    All,
    AnyOf,
    Compare,
    Condition,
    DropHead,
    Exists,
    ItemExists,
    Missing,
    Remove,
    Set,
    Step,
    StepResult,
)
from replyd.domain.messages import ConversationKey, OutboundPart, SentMessage
from replyd.domain.steps import FLAG_DOWN, NOT_OPTED_OUT, UNFINISHED
from replyd.errors import Ambiguous, ReplydError
from replyd.ports import Received
from replyd.settings import Settings
from replyd.simulation.weather import Weather
from replyd.simulation.world import SETTINGS, Alter, unaltered

Rewrite = Callable[[Step], Step]
Drop = Callable[[Condition], bool]


class _Wrapper:
    """Everything else is the port's own."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


class _RewritingStore(_Wrapper):
    def __init__(self, port: Any, rewrite: Rewrite) -> None:
        super().__init__(port)
        self._rewrite = rewrite

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        result: StepResult = await self._port.apply(key, self._rewrite(step))
        return result


class _DeletesOnReceipt(_Wrapper):
    async def receive(self) -> Sequence[Received]:
        received: Sequence[Received] = await self._port.receive()
        if received:
            await self._port.delete(received)
        return received


class _AcknowledgesFirst(_Wrapper):
    """The wake-up that could not be sent is taken for sent."""

    async def send(self, body: str, delay_seconds: int) -> None:
        try:
            await self._port.send(body, delay_seconds)
        except ReplydError:
            return


class _RepeatsAmbiguous(_Wrapper):
    async def send(self, part: OutboundPart) -> str:
        while True:
            try:
                sid: str = await self._port.send(part)
            except Ambiguous:
                continue
            return sid


class _ListsNothing(_Wrapper):
    async def sent_since(self, *of: Any) -> Sequence[SentMessage]:
        await self._port.sent_since(*of)
        return []


@dataclass(frozen=True, slots=True)
class Mutant:
    """`alter` puts it into a daemon. `where`: the weather in which it can do harm at all; others
    would only take time."""

    name: str
    alter: Alter
    where: Callable[[Weather], bool] = lambda _: True
    settings: Settings = SETTINGS


def leases_get_lost(weather: Weather) -> bool:
    """Slow answers, and instances that are cut off for longer than a lease."""
    return weather.slow_model


def writes_get_lost(weather: Weather) -> bool:
    """Answers of the table get lost, or its writes come late."""
    return weather.rates["store"] >= 0.25 and not weather.ghosts


def writes_come_again(weather: Weather) -> bool:
    """Some time after they were answered."""
    return weather.ghosts


def sends_get_lost(weather: Weather) -> bool:
    """Answers of the channel get lost, or what it accepts comes late."""
    return weather.rates["channel"] >= 0.25


def without(step_names: tuple[str, ...], drop: Drop) -> Alter:
    """Terms of these steps' conditions for which `drop` is true are left out."""

    def rewrite(step: Step) -> Step:
        if step.name not in step_names:
            return step
        condition = step.condition
        terms = condition.terms if isinstance(condition, All) else (condition,)
        kept = tuple(t for t in terms if not drop(t))
        assert kept != terms, "the step has no such term"
        return replace(step, condition=All((ItemExists(), *kept)))

    return rewriting(rewrite)


def rewriting(rewrite: Rewrite) -> Alter:
    def alter(parts: Parts) -> Parts:
        return replace(parts, store=_RewritingStore(parts.store, rewrite))

    return alter


def _on_token(term: Condition) -> bool:
    return isinstance(term, Compare) and term.path == (r.LEASE, "token")


def _on_turn(term: Condition) -> bool:
    return isinstance(term, Compare) and term.path == (r.OUTBOX, "turn_id")


def _on_outbox(term: Condition) -> bool:
    return term == Missing((r.OUTBOX,)) or _on_turn(term)


def _on_head(term: Condition) -> bool:
    return isinstance(term, Compare) and term.path == (r.PENDING, 0, "sid")


def _on_expiry(term: Condition) -> bool:
    return isinstance(term, Compare) and term.path == (r.LEASE, "expires_at")


def _is(wanted: Condition) -> Drop:
    return lambda term: term == wanted


def _on_free_lease(term: Condition) -> bool:
    return isinstance(term, AnyOf) and Missing((r.LEASE, "expires_at")) in term.terms


def _on_delivery(term: Condition) -> bool:
    return isinstance(term, Compare) and term.path == (r.OUTBOX, "delivery")


def _forget_seen(step: Step) -> Step:
    """STAGE whether or not the SID is in `reply_seen`."""
    if step.name != "stage":
        return step
    kept: tuple[Condition, ...] = tuple(
        t
        for t in (step.condition.terms if isinstance(step.condition, All) else ())
        if not isinstance(t, All)
    )
    seen = Exists((r.SEEN,))
    first = any(t == Missing((r.SEEN,)) for t in kept)
    return replace(step, condition=All(kept if first else (*kept, seen)))


_TOKEN = Compare((r.LEASE, "token"), "=", "t")


def _keep_token(step: Step) -> Step:
    """CLAIM without a fresh token: whoever has ever claimed still passes for the holder."""
    if step.name != "claim":
        return _same_token(step)
    actions = tuple(
        Set(a.path, {**a.value, "token": "t"}) if isinstance(a, Set) and a.path == (r.LEASE,) else a
        for a in step.actions
    )
    return replace(step, actions=actions)


def _same_token(step: Step) -> Step:
    condition = step.condition
    terms = condition.terms if isinstance(condition, All) else (condition,)
    if not any(_on_token(t) for t in terms):
        return step
    return replace(
        step,
        condition=All(tuple(_TOKEN if _on_token(t) else t for t in terms)),
    )


def _settle_all(step: Step) -> Step:
    """COMMIT that takes everything pending, not what the turn took."""
    if step.name != "commit":
        return step
    actions = tuple(replace(a, count=1000) if isinstance(a, DropHead) else a for a in step.actions)
    return replace(step, actions=actions)


def _drop_outbox(step: Step) -> Step:
    """A release forgets the outbox whatever may have been sent."""
    if step.name != "release":
        return step
    return replace(step, actions=(*step.actions, Remove((r.OUTBOX,))))


def _impatient() -> Settings:
    """The channel is looked at before it can have accepted what is under way."""
    twilio = SETTINGS.twilio.model_copy(update={"timeout_seconds": 0.1})
    return SETTINGS.model_copy(update={"twilio": twilio})


def _queue(wrapper: type[_Wrapper]) -> Alter:
    return lambda parts: replace(parts, wakeups=wrapper(parts.wakeups))


# Two terms of the protocol are not here: `reply_seq` in INTENT and the window in CLAIM make replies
# better, and without them no promise breaks. ARM without the token is caught too, but in one run
# of some four hundred: ARM needs an outbox, and a worker that lost its lease mostly finds none.
MUTANTS = [
    Mutant(
        "intend_reply without the token", without(("intend_reply",), _on_token), leases_get_lost
    ),
    Mutant(
        "intend_handoff without the token", without(("intend_handoff",), _on_token), leases_get_lost
    ),
    # Either of the two terms does without the other in nearly every run.
    Mutant(
        "commit without token and turn",
        without(("commit",), lambda term: _on_token(term) or _on_turn(term)),
        writes_get_lost,
    ),
    Mutant("intend_reply over anything", without(("intend_reply",), _on_outbox), writes_come_again),
    Mutant("a turn comes back to life", without(("intend_handoff",), _on_head), writes_come_again),
    Mutant("apology settled again", without(("commit_apology",), _on_turn), writes_come_again),
    Mutant("renew may shorten", without(("renew",), _on_expiry), writes_come_again),
    Mutant("release without the token", without(("release",), _on_token), leases_get_lost),
    Mutant("renew without the token", without(("renew",), _on_token), leases_get_lost),
    Mutant("no fresh token", rewriting(_keep_token)),
    Mutant("intend_reply whatever the flag", without(("intend_reply",), _is(FLAG_DOWN))),
    Mutant("intend_reply after an opt-out", without(("intend_reply",), _is(NOT_OPTED_OUT))),
    Mutant("arm whatever the flag", without(("arm",), _is(FLAG_DOWN))),
    Mutant("arm after an opt-out", without(("arm",), _is(NOT_OPTED_OUT))),
    Mutant("claim whatever the lease", without(("claim",), _on_free_lease)),
    Mutant("claim with nothing to do", without(("claim",), _is(UNFINISHED))),
    Mutant("stage a SID again", rewriting(_forget_seen)),
    Mutant("commit over callbacks", without(("commit",), _on_delivery)),
    Mutant("commit settles all", rewriting(_settle_all)),
    Mutant("release drops the outbox", rewriting(_drop_outbox)),
    Mutant("wake-up deleted on receipt", _queue(_DeletesOnReceipt)),
    Mutant("acknowledged before the wake-up", _queue(_AcknowledgesFirst)),
    Mutant(
        "ambiguous send repeated",
        lambda parts: replace(parts, channel=_RepeatsAmbiguous(parts.channel)),
    ),
    Mutant(
        "the list shows nothing",
        lambda parts: replace(parts, channel=_ListsNothing(parts.channel)),
        sends_get_lost,
    ),
    Mutant("no grace", unaltered, sends_get_lost, _impatient()),
]
