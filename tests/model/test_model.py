"""The turn protocol's decisions in every interleaving within bounds. `python -m tests.model` goes
further."""

from dataclasses import replace

import pytest

from tests.model.bounds import Bounds, Budget
from tests.model.explore import explore
from tests.model.mutants import MUTANTS, Mutant

BOUNDS = {
    "three messages": Bounds(messages=3),
    "a worker ends, another stands still, people come": Bounds(
        messages=1, parts=2, budget=Budget(crashes=1, stalls=1, flags=1)
    ),
    "a worker ends over two messages": Bounds(messages=2, budget=Budget(crashes=1)),
    "a worker ends, an answer is lost": Bounds(
        messages=1, parts=2, budget=Budget(crashes=1, lost=1)
    ),
    "a webhook comes again, people come": Bounds(
        messages=2, budget=Budget(redeliveries=1, flags=1)
    ),
    "a worker stands still over two messages": Bounds(messages=2, budget=Budget(stalls=1)),
    "a write arrives late or twice": Bounds(
        messages=1, parts=2, budget=Budget(lost=1, callbacks=1, ghosts=1, repeats=1)
    ),
    "STOP, a window, a drain": Bounds(
        messages=2, parts=2, stop=True, window=True, budget=Budget(drains=1)
    ),
    "the channel refuses or does not answer": Bounds(
        messages=1, parts=2, budget=Budget(lost=1, refusals=1, callbacks=1)
    ),
    "an unclear send is sent again": Bounds(
        messages=1, parts=2, on_ambiguous="resend", budget=Budget(lost=2)
    ),
    "the customer is told": Bounds(
        messages=1, max_attempts=1, apology=True, budget=Budget(refusals=1, stalls=1, repeats=1)
    ),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=list(BOUNDS))
def test_every_promise_holds_in_every_state(
    bounds: Bounds, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    report = explore(bounds)
    with capsys.disabled():
        print(f"\n{report}  {request.node.callspec.id}")  # noqa: T201 - the counts are the proof
    assert not report.violation
    assert report.complete
    assert report.settled


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_no_rule_can_be_left_out(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.put(monkeypatch)
    report = explore(replace(mutant.bounds, max_states=100_000))
    assert report.violation.startswith(mutant.promise), str(report)
