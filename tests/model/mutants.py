"""The shipped protocol with ONE rule taken away, and the smallest bounds that show why it is
there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from replyd.domain import effects, record, recovery, steps, turn
from replyd.domain.expressions import All, Condition, DropHead, Remove, Step
from tests.model.bounds import Bounds, Budget

Put = Callable[[pytest.MonkeyPatch], None]
Rewrite = Callable[[Step], Step]
Shipped = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """`promise`: the one that breaks first."""

    name: str
    put: Put
    bounds: Bounds
    promise: str


ONE, TWO, PARTS = Bounds(messages=1), Bounds(messages=2), Bounds(messages=1, parts=2)
ALONE = Bounds(workers=1, messages=2)
# STOP is a newer message, too: where that does not stop a draft, its own condition must.
STOPPED = Bounds(messages=2, stop=True, max_restarts=0)


def replaced(module: Any, name: str, other: Shipped) -> Put:
    return lambda patch: patch.setattr(module, name, other)


def wrapped(module: Any, name: str, wrap: Callable[..., Any]) -> Put:
    """`wrap` gets the shipped function and its arguments."""
    return replaced(module, name, partial(wrap, getattr(module, name)))


def rewritten(name: str, rewrite: Rewrite) -> Put:
    return wrapped(steps, name, lambda shipped, *args, **kw: rewrite(shipped(*args, **kw)))


def without(name: str, drop: Callable[[Condition], bool], *, always: bool = True) -> Put:
    """The step without the terms of its condition for which `drop` is true. `always`: it never
    comes without such a term."""

    def rewrite(step: Step) -> Step:
        terms = step.condition.terms if isinstance(step.condition, All) else (step.condition,)
        kept = tuple(t for t in terms if not drop(t))
        assert kept != terms or not always, "the step has no such term"
        return replace(step, condition=All(kept))

    return rewritten(name, rewrite)


def _names(*path: str) -> Callable[[Condition], bool]:
    """A term on this attribute, whatever its form."""
    shown = repr(path)[:-1]
    return lambda term: shown in repr(term)


def _is(wanted: Condition) -> Callable[[Condition], bool]:
    return lambda term: term == wanted


def _settles_all(step: Step) -> Step:
    actions = tuple(replace(a, count=9) if isinstance(a, DropHead) else a for a in step.actions)
    return replace(step, actions=actions)


def _settles_less(step: Step) -> Step:
    actions = tuple(
        replace(a, count=a.count - 1) if isinstance(a, DropHead) else a for a in step.actions
    )
    return replace(step, actions=actions)


def _forgets_seen(step: Step) -> Step:
    assert isinstance(step.condition, All)
    return replace(step, condition=All(step.condition.terms[:1]))


def _drops_outbox(step: Step) -> Step:
    return replace(step, actions=(*step.actions, Remove((record.OUTBOX,))))


def _too_early(shipped: Shipped, result: Any, conversation: Any, **kw: Any) -> Any:
    answer = shipped(result, conversation, **kw)
    return turn.NothingLeft(kw["seq"]) if isinstance(answer, turn.HeldElsewhere) else answer


def _without_outbox(shipped: Shipped, conversation: Any, **kw: Any) -> Any:
    return shipped(replace(conversation, outbox=None), **kw)


def _whatever_is_said(shipped: Shipped, outbox: record.Outbox, *rest: Any, **kw: Any) -> Any:
    return recovery.Resume({i: "SM" for i, _ in outbox.parts})


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


def within(bounds: Bounds = ONE, **faults: int) -> Bounds:
    return replace(bounds, budget=Budget(**faults))


TOKEN = _names(record.LEASE, "token")
FLAG, OPT_OUT = _is(steps.FLAG_DOWN), _is(steps.NOT_OPTED_OUT)
DELIVERY = _names(record.OUTBOX, "delivery")

# Not here: `reply_pending` in a reply's INTENT, which takes three messages, three late repetitions
# and a quarter of a minute to show.
MUTANTS = [
    Mutant("stage a SID again", rewritten("stage", _forgets_seen), within(redeliveries=1), "P2"),
    Mutant("claim whatever the lease", without("claim", _names(record.LEASE)), TWO, "P3"),
    Mutant("renew without the token", without("renew", TOKEN), within(stalls=1), "P3"),
    Mutant("release without the token", without("release", TOKEN), within(stalls=1), "P3"),
    Mutant("release drops the outbox", rewritten("release", _drops_outbox), within(lost=2), "P2"),
    Mutant("reply without the token", without("intend_reply", TOKEN), within(stalls=1), "P3"),
    Mutant("reply whatever the flag", without("intend_reply", FLAG), within(flags=1), "P4"),
    Mutant("reply after an opt-out", without("intend_reply", OPT_OUT), STOPPED, "P4"),
    Mutant(
        "reply over any outbox",
        without("intend_reply", _names(record.OUTBOX)),
        within(repeats=1, callbacks=1),
        "P2",
    ),
    Mutant(
        "handoff without the token",
        without("intend_handoff", TOKEN),
        within(stalls=1, flags=1),
        "P3",
    ),
    Mutant(
        "handoff over callbacks",
        without("intend_handoff", DELIVERY, always=False),
        within(lost=1, refusals=1, callbacks=1),
        "P2",
    ),
    Mutant("arm without the token", without("arm", TOKEN), within(PARTS, stalls=1), "P3"),
    Mutant("arm whatever the flag", without("arm", FLAG), within(PARTS, flags=1), "P4"),
    Mutant("arm after an opt-out", without("arm", OPT_OUT), replace(STOPPED, parts=2), "P4"),
    Mutant("commit without the token", without("commit", TOKEN), within(stalls=1), "P3"),
    Mutant("commit over callbacks", without("commit", DELIVERY), within(callbacks=1), "P2"),
    Mutant("commit settles all", rewritten("commit", _settles_all), TWO, "P2"),
    Mutant("commit settles less", rewritten("commit", _settles_less), ONE, "P2"),
    Mutant(
        "an apology after its commit",
        without("intend_reply", _names(record.LAST_TURN)),
        within(replace(ONE, max_attempts=0, apology=True), repeats=1),
        "P2",
    ),
    Mutant(
        "handoff over another message",
        without("intend_handoff", _names(record.PENDING)),
        within(ALONE, repeats=3, flags=1),
        "P2",
    ),
    Mutant("held is taken for settled", wrapped(turn, "after_claim", _too_early), TWO, "P1"),
    Mutant(
        "a refused reply taken for held",
        replaced(turn, "after_intent", _always(turn.Holds())),
        within(flags=1),
        "P3",
    ),
    Mutant(
        "a refused part taken for held",
        replaced(turn, "after_arm", _always(turn.Holds())),
        within(PARTS, flags=1),
        "P4",
    ),
    Mutant(
        "a refused handoff taken for held",
        replaced(turn, "after_handoff_intent", _always(turn.Holds())),
        within(stalls=1, refusals=1),
        "P2",
    ),
    Mutant(
        "a refused commit taken for held",
        replaced(turn, "after_commit", _always(turn.Holds())),
        within(stalls=1),
        "P1",
    ),
    Mutant(
        "an outbox is ignored",
        wrapped(effects, "next_effect", _without_outbox),
        within(crashes=1),
        "P2",
    ),
    Mutant(
        "the list shows nothing",
        replaced(recovery, "accepted_parts", _always({})),
        within(crashes=1),
        "P2",
    ),
    Mutant(
        "always sent again",
        replaced(recovery, "after_look", _always(recovery.SendAgain())),
        within(crashes=1),
        "P2",
    ),
    Mutant(
        "never sent again",
        wrapped(recovery, "after_look", _whatever_is_said),
        within(crashes=1),
        "P1",
    ),
]
