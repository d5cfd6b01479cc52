"""The state diagram in the documents shows what the decisions can answer, all of it and no more."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from replyd.domain import effects, recovery, turn

DOCUMENT = Path(__file__).parents[2] / "docs" / "turn-protocol.md"
EDGE = re.compile(r"^    (\S+) --> (\S+): (.+)$", re.MULTILINE)
# The results of decisions are written as their types are; other labels are sentences.
RESULT = re.compile(r"([A-Z][a-z]+)+")

DECISIONS: dict[str, Callable[..., Any]] = {
    "STAGE": turn.after_stage,
    "CLAIM": turn.after_claim,
    "NEXT": effects.next_effect,
    "RUN": turn.after_renewal,
    "INTENT": turn.after_intent,
    "ARM": turn.after_arm,
    "RECOVER": recovery.after_look,
    "HANDOFF": turn.after_handoff_intent,
    "COMMIT": turn.after_commit,
}


def edges() -> list[tuple[str, str, str]]:
    text = DOCUMENT.read_text()
    start = text.index("stateDiagram-v2")
    return EDGE.findall(text[start : text.index("```", start)])


@pytest.mark.parametrize("state", DECISIONS)
def test_every_answer_of_a_decision_is_an_edge(state: str) -> None:
    drawn = [label for at, _, label in edges() if at == state and RESULT.fullmatch(label)]
    answers = get_args(get_type_hints(DECISIONS[state])["return"])
    assert sorted(drawn) == sorted(answer.__name__ for answer in answers)


def test_every_decision_is_drawn() -> None:
    decided = {at for at, _, label in edges() if RESULT.fullmatch(label)}
    assert decided == set(DECISIONS)
    for module in (turn, effects, recovery):
        for name, function in vars(module).items():
            if name.startswith("after_") and function.__module__ == module.__name__:
                assert function in DECISIONS.values(), name


def test_every_state_is_reached_and_left() -> None:
    assert {to for _, to, _ in edges()} == {at for at, _, _ in edges()}
