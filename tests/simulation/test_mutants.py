"""The simulation finds bugs: each mutant of the protocol breaks a promise within some seeds."""

import sys
from collections.abc import Callable

import pytest

from replyd.domain import consent, person_steps, steps, tool_steps
from replyd.domain.record import Outbox
from replyd.domain.window import WindowPolicy
from replyd.simulation.world import run
from tests.simulation.caught import BY, MOST, seeds
from tests.simulation.mutants import ELSEWHERE, MUTANTS, TERMS, Mutant, kind_of, terms_of

OUTBOX = Outbox("t-1", "reply", (1,), (), 0, delivery={})
SHIPPED = [
    steps.stage("SM1", {}, 0, first=True),
    steps.stage("SM1", {}, 0, first=False),
    steps.claim("t", "o", 0, lease_ms=1, skew_ms=1, window=WindowPolicy(1, 1, 1)),
    steps.renew("t", 0),
    steps.release("t", give_back_attempt=True),
    steps.intend_reply("t", OUTBOX, 0, head="SM1", seq=1),
    steps.intend_reply("t", OUTBOX, 0, head="SM1", seq=1, over=OUTBOX),
    steps.intend_handoff("t", OUTBOX, 0, head="SM1", over=OUTBOX),
    steps.arm("t", "t-1", 1, 0),
    steps.commit("t", OUTBOX, (), 0, status=""),
    steps.commit_apology("t", OUTBOX, (), 0),
    steps.roll_over("t", [{}]),
    tool_steps.arm_tool("t", "book", {}, 0, head="SM1", first=True),
    tool_steps.arm_tool("t", "book", {}, 0, head="SM1", first=False),
    tool_steps.note_tool("t", "book", {}),
    consent.intend_notice("t", OUTBOX, 0, head="SM1"),
    person_steps.take("t", "o", 0, lease_ms=1, skew_ms=1),
    person_steps.intend_person("t", OUTBOX, 0, 0, known=0),
    person_steps.arm_person("t", "t-1", 1, 0),
    person_steps.commit_person("t", OUTBOX, (), 0),
    person_steps.take_over("Ann", "", 0),
    person_steps.give_back(0),
    consent.intend_notice("t", OUTBOX, 0, head="SM1", over=OUTBOX),
]


def test_every_term_of_the_protocol_is_missed_somewhere() -> None:
    """One that somebody adds needs a mutant, or the reason why there is none."""
    shipped = {(step.name, kind_of(term)) for step in SHIPPED for term in terms_of(step)}
    assert shipped == TERMS.keys() | ELSEWHERE.keys()
    assert not TERMS.keys() & ELSEWHERE.keys()


def test_the_known_seeds_are_of_these_mutants() -> None:
    assert BY.keys() <= {mutant.name for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name.replace(" ", "-"))
def test_is_caught(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    for number, seed in enumerate(seeds(mutant), start=1):
        report = run(seed, alter=mutant.alter, settings=mutant.settings)
        # An exception would break every mutant's promises.
        assert not [v for v in report.violations if v.promise == "bug"]
        if violations := report.violations:
            record_property("seeds", number)
            found = f"{mutant.name}: caught within {number} seeds, {violations[0]}\n"
            sys.stdout.write(found)
            return
    pytest.fail(f"{MOST} seeds did not catch: {mutant.name}")
