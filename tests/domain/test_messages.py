import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.messages import InboundMessage, Media, texts
from tests.domain.garbage import ANYTHING
from tests.support.world import message

TEXT = st.text(max_size=8)
PARAMS = st.dictionaries(TEXT.filter(bool), TEXT | st.lists(TEXT, max_size=3), max_size=4)
MESSAGES = st.builds(
    InboundMessage,
    sid=TEXT.filter(bool),
    sender=TEXT.filter(bool),
    recipient=TEXT.filter(bool),
    body=TEXT,
    profile_name=TEXT,
    media=st.lists(st.builds(Media, TEXT, TEXT), max_size=3).map(tuple),
    params=PARAMS.filter(lambda p: "AccountSid" not in p),
)


@given(MESSAGES)
def test_a_message_survives_the_queue(original: InboundMessage) -> None:
    data = json.loads(json.dumps(original.as_dict()))
    assert InboundMessage.from_dict(data) == original


def test_the_account_is_among_the_params() -> None:
    assert InboundMessage.from_dict(message(1).as_dict()) == message(1)


@given(st.fixed_dictionaries({"sid": TEXT, "from": TEXT, "to": TEXT, "params": ANYTHING}))
def test_params_are_texts_or_the_message_is_refused(data: dict[str, Any]) -> None:
    try:
        found = InboundMessage.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    for name, value in found.params.items():
        assert isinstance(name, str)
        assert all(isinstance(v, str) for v in (value if isinstance(value, list) else [value]))
        assert isinstance(found.param(name), str)


@pytest.mark.parametrize("name", ["sid", "from", "to"])
@pytest.mark.parametrize("value", [None, "", 7, ["SM1"]])
def test_a_message_needs_its_names(name: str, value: Any) -> None:
    """Two messages without a SID must not be taken for one message."""
    with pytest.raises(ValueError, match="needs"):
        InboundMessage.from_dict(message(1).as_dict() | {name: value})


def test_null_is_empty_and_numbers_are_texts() -> None:
    raw = {"Body": None, "NumMedia": 0, "X": [None, 1, "a"], "Y": [], "Z": True}
    assert texts(raw) == {"Body": "", "NumMedia": "0", "X": ["", "1", "a"], "Y": [], "Z": "True"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (["a", "b"], "a"), ([], ""), ("", ""), (None, ""), (5, ""), ([5], ""), ({}, "")],
)
def test_a_parameters_value(value: Any, expected: str) -> None:
    assert message(1, params={"X": value}).param("X") == expected


def test_addresses_without_their_prefix() -> None:
    found = message(1, sender="whatsapp:US.ABC1", recipient="+2")
    assert (found.customer, found.business) == ("US.ABC1", "+2")
