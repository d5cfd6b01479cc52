"""The shipped protocol with one rule taken away, made by wrapping the ports of a daemon."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replyd.bootstrap.parts import Parts
from replyd.domain import record as r
from replyd.domain.catch_up import Inbox
from replyd.domain.expressions import (
    All,
    AnyOf,
    Compare,
    Condition,
    DropHead,
    Exists,
    ItemExists,
    Missing,
    Not,
    Remove,
    Set,
    Step,
    StepResult,
)
from replyd.domain.messages import ConversationKey, OutboundPart, SentMessage
from replyd.domain.steps import FLAG_DOWN, NOT_OPTED_OUT, UNFINISHED
from replyd.errors import Ambiguous, ReplydError
from replyd.ports import Clock, Received
from replyd.settings import Settings
from replyd.simulation.weather import Weather
from replyd.simulation.world import SETTINGS, Alter, unaltered

Rewrite = Callable[[Step], Step]
Where = Callable[[Weather], bool]


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

    async def send(self, body: str, delay_seconds: int, *more: Any) -> None:
        try:
            await self._port.send(body, delay_seconds, *more)
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


class _JumpingCursor(_Wrapper):
    """CATCH-UP's cursor goes on to the present, whatever has failed."""

    def __init__(self, port: Any, clock: Clock) -> None:
        super().__init__(port)
        self._clock = clock

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], *rest: Any, **named: Any
    ) -> None:
        if name.startswith("catchup#"):
            attributes = {"seen_until": self._clock.now()}
        await self._port.put_side(name, attributes, *rest, **named)


class _ListsNoInbox(_Wrapper):
    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        inbox: Inbox = await self._port.received_since(account_sid, since, until)
        return replace(inbox, messages=())


def anywhere(_weather: Weather) -> bool:
    return True


_OF_THE_HOLDER = frozenset({
    "renew", "release", "intend_reply", "intend_handoff", "arm", "arm_tool", "note_tool",
    "commit", "commit_apology",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """`alter` puts it into a daemon. `where`: the weather in which it can do harm at all; others
    would only take time."""

    name: str
    alter: Alter
    where: Where = anywhere
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


_NAMED = ((FLAG_DOWN, "flag"), (NOT_OPTED_OUT, "opt-out"), (UNFINISHED, "unfinished"))
_KINDS: dict[tuple[str | int, ...], str] = {
    (r.LEASE, "token"): "token",
    (r.LEASE, "expires_at"): "expiry",
    (r.OUTBOX,): "turn",
    (r.OUTBOX, "turn_id"): "turn",
    (r.OUTBOX, "delivery"): "delivery",
    (r.LAST_TURN,): "committed",
    (r.PENDING, 0, "sid"): "head",
    (r.SEQ,): "seq",
    (r.LAST_AT,): "window",
    (r.SEEN,): "seen",
    (r.MESSAGES, 0): "same",
    (r.OUTBOX, "kind"): "turn",
    (r.OPTED_OUT,): "opt-out",
    (r.TOOLS,): "called",
    (r.TOOLS, "book"): "called",
    (r.TOOLS, "book", "token"): "called",
}


def kind_of(term: Condition) -> str:
    """What a term of a step's condition is about."""
    for known, name in _NAMED:
        if term == known:
            return name
    if isinstance(term, Not):
        return "lease" if (kind := kind_of(term.term)) == "expiry" else kind
    if isinstance(term, All | AnyOf):
        return kind_of(term.terms[0])
    if isinstance(term, ItemExists):
        return "item"
    return "sid" if term.path[:2] == (r.OUTBOX, "entries") else _KINDS[term.path]


def terms_of(step: Step) -> tuple[Condition, ...]:
    return step.condition.terms if isinstance(step.condition, All) else (step.condition,)


def without(name: str, *kinds: str) -> Alter:
    """The step of this name without these terms of its condition."""

    def rewrite(step: Step) -> Step:
        if step.name != name:
            return step
        kept = [t for t in terms_of(step) if kind_of(t) not in kinds]
        return replace(step, condition=All((ItemExists(), *kept)))

    return rewriting(rewrite)


def rewriting(rewrite: Rewrite) -> Alter:
    def alter(parts: Parts) -> Parts:
        return replace(parts, store=_RewritingStore(parts.store, rewrite))

    return alter


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
    if step.name == "claim":
        lease = (r.LEASE,)
        actions = tuple(
            Set(a.path, {**a.value, "token": "t"}) if isinstance(a, Set) and a.path == lease else a
            for a in step.actions
        )
        return replace(step, actions=actions)
    if step.name in _OF_THE_HOLDER:
        terms = tuple(_TOKEN if kind_of(t) == "token" else t for t in terms_of(step))
        return replace(step, condition=All(terms))
    return step


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


def _forget_tools(step: Step) -> Step:
    """A release forgets which tools were called."""
    if step.name != "release":
        return step
    return replace(step, actions=(*step.actions, Remove((r.TOOLS,))))


def _leave_the_flag(step: Step) -> Step:
    """A person's answer does not take the conversation from the AI."""
    if step.name != "intend_person":
        return step
    return replace(step, actions=tuple(a for a in step.actions if a.path != (r.HANDOFF,)))


def _impatient() -> Settings:
    """The channel is looked at before it can have accepted what is under way."""
    twilio = SETTINGS.twilio.model_copy(update={"timeout_seconds": 0.1})
    return SETTINGS.model_copy(update={"twilio": twilio})


def _queue(wrapper: type[_Wrapper]) -> Alter:
    return lambda parts: replace(parts, wakeups=wrapper(parts.wakeups))


# Each term of the steps that the simulation can tell from its absence, and the weather it takes.
TERMS: dict[tuple[str, str], Where] = {
    ("claim", "lease"): anywhere,
    ("claim", "unfinished"): anywhere,
    ("renew", "token"): leases_get_lost,
    ("intend_reply", "token"): leases_get_lost,
    ("intend_reply", "flag"): anywhere,
    ("intend_reply", "opt-out"): anywhere,
    ("intend_handoff", "head"): writes_come_again,
    ("arm", "flag"): anywhere,
    ("arm", "opt-out"): anywhere,
    ("commit", "delivery"): anywhere,
    ("commit_apology", "turn"): writes_come_again,
    ("take", "lease"): anywhere,
    ("arm_tool", "flag"): anywhere,
    ("arm_tool", "opt-out"): anywhere,
    ("arm_tool", "token"): leases_get_lost,
}
# The other terms, and what tells: the model (`tests/model/mutants.py`) finds what is too rare here.
ELSEWHERE: dict[tuple[str, str], str] = {
    ("stage", "item"): "the contract suite; no record is removed in a run",
    ("stage", "seen"): "`stage a SID again`",
    ("claim", "window"): "no promise breaks, bursts are answered in pieces",
    ("intend_reply", "seq"): "no promise breaks, a newer message waits for the next turn",
    ("intend_reply", "turn"): "the model",
    ("intend_reply", "head"): "the model",
    ("intend_reply", "committed"): "the model",
    ("intend_handoff", "token"): "the model; a worker without a lease mostly learns of it sooner",
    ("intend_handoff", "delivery"): "the model",
    ("release", "token"): "the model; as above",
    ("renew", "expiry"): "the contract suite; renewals that follow make up for it",
    ("arm", "token"): "the model",
    ("arm", "turn"): "the contract suite; the token and the flow do without",
    ("arm", "sid"): "the contract suite; RECOVER does without",
    ("commit", "token"): "the model, and `commit without token and turn`",
    ("commit", "turn"): "`commit without token and turn`",
    ("commit_apology", "token"): "the contract suite; the turn does without",
    ("commit_apology", "delivery"): "the contract suite",
    ("take", "turn"): "the contract suite; the flow looks before it asks",
    ("take", "item"): "the contract suite; no record is removed in a run",
    ("intend_person", "token"): "the contract suite; nobody takes a person's lease before it ends",
    ("intend_person", "opt-out"): "the contract suite; what TAKE shows is milliseconds old",
    ("intend_person", "turn"): "the contract suite; TAKE looks too",
    ("intend_person", "committed"): "the contract suite; the history tells as well",
    ("intend_person", "same"): "the contract suite; the last turn tells as well",
    ("arm_person", "token"): "the contract suite; as for a reply",
    ("arm_person", "turn"): "the contract suite; as for a reply",
    ("arm_person", "opt-out"): "the contract suite; the oracle lets a part pass",
    ("arm_person", "sid"): "the contract suite; a person's answer is never resumed",
    ("commit_person", "token"): "the contract suite; the turn does without",
    ("commit_person", "turn"): "the contract suite; the token does without",
    ("commit_person", "delivery"): "the contract suite",
    ("take_over", "item"): "the contract suite; no record is removed in a run",
    ("give_back", "item"): "the contract suite; no record is removed in a run",
    ("intend_notice", "token"): "the contract suite; as for a reply",
    ("intend_notice", "head"): "the model, for a reply's",
    ("intend_notice", "opt-out"): "the contract suite; a notice is only meant after STOP",
    ("intend_notice", "turn"): "the model, for a reply's",
    ("intend_notice", "committed"): "the model, for an apology's",
    ("arm_tool", "called"): "the contract suite; a claim shows what was called before it",
    ("arm_tool", "head"): "the contract suite; the token does without",
    ("note_tool", "token"): "the contract suite; the tool's own token does without",
    ("note_tool", "called"): "the contract suite; what it may overwrite is never read again",
    ("roll_over", "token"): "the contract suite; histories stay short in a run",
    ("roll_over", "same"): "the contract suite",
}

MUTANTS = [
    *(
        Mutant(f"{step} without its {kind}", without(step, kind), where)
        for (step, kind), where in TERMS.items()
    ),
    Mutant("commit without token and turn", without("commit", "token", "turn"), writes_get_lost),
    Mutant("no fresh token", rewriting(_keep_token)),
    Mutant("stage a SID again", rewriting(_forget_seen)),
    Mutant("commit settles all", rewriting(_settle_all)),
    Mutant("a person leaves the flag", rewriting(_leave_the_flag)),
    Mutant("release drops the outbox", rewriting(_drop_outbox)),
    Mutant("release forgets tools", rewriting(_forget_tools)),
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
    Mutant(
        "cursor that jumps over failures",
        lambda parts: replace(parts, store=_JumpingCursor(parts.store, parts.clock)),
        writes_get_lost,
    ),
    Mutant(
        "no catch-up",
        lambda parts: replace(parts, channel=_ListsNoInbox(parts.channel)),
    ),
    Mutant("no grace", unaltered, sends_get_lost, _impatient()),
]
