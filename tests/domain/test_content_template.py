"""What a template's variables say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.content_template import (
    MAX_NAME,
    MAX_VALUES,
    ContentTemplate,
    Filled,
    filled_of,
)
from replyd.domain.text import units

SID = "HX" + "a" * 32
TEMPLATE = ContentTemplate(SID, {"1": "{name}", "2": "Our answer: {text}"})


def values(text: str, name: str = "Lee", template: ContentTemplate = TEMPLATE) -> Any:
    return template.attribute(text, name)["variables"]


def test_each_place_is_filled_once() -> None:
    assert TEMPLATE.attribute("yes", "Lee") == {
        "sid": SID,
        "variables": {"1": "Lee", "2": "Our answer: yes"},
    }
    assert values("{name}", "{text}") == {"1": "{text}", "2": "Our answer: {name}"}


def test_a_value_without_words_is_left_to_the_templates_default() -> None:
    assert values("yes", "  ") == {"2": "Our answer: yes"}


def test_a_value_is_one_line() -> None:
    assert values("a\n\n- b\t      c ", "Lee\nAnn") == {"1": "Lee Ann", "2": "Our answer: a - b c"}


def test_what_fits_is_counted_with_the_other_values() -> None:
    room = TEMPLATE.room("Lee")
    assert room == MAX_VALUES - len("Lee") - len("Our answer:")
    assert TEMPLATE.fits("x" * room, "Lee")
    assert not TEMPLATE.fits("x" * (room + 1), "Lee")
    assert TEMPLATE.room("n" * 10_000) == TEMPLATE.room("n" * MAX_NAME)


def test_an_answer_that_is_too_long_is_cut_at_a_word() -> None:
    short = TEMPLATE.shortened("word " * 400, "Lee")
    assert short.endswith("word…")
    assert MAX_VALUES - 30 < units(short) <= TEMPLATE.room("Lee")
    assert TEMPLATE.shortened("just  this", "Lee") == "just this"


@given(st.text(max_size=3_000), st.text(max_size=300))
def test_what_goes_out_is_never_refused_for_its_form(text: str, name: str) -> None:
    filled = values(TEMPLATE.shortened(text, name), name)
    # Beside the answer there may be a space that the empty value has not.
    assert sum(units(value) for value in filled.values()) <= MAX_VALUES + 1
    assert all(
        v.strip() and not set(v) & set("\n\t\r") and " " * 5 not in v for v in filled.values()
    )


def test_what_an_entry_sends() -> None:
    entry = {"content": "yes", "template": TEMPLATE.attribute("yes", "")}
    assert filled_of(entry) == Filled(SID, {"2": "Our answer: yes"})


@pytest.mark.parametrize("odd", [None, "HX1", {}, {"sid": ""}])
def test_an_entry_without_a_template_sends_its_text(odd: object) -> None:
    assert filled_of({"content": "yes", "template": odd}) == Filled()
    assert filled_of({"content": "yes"}) == Filled()
