"""What is put onto the queues is as `docs/handoff-message.schema.json` tells people's tools."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import turn
from replyd.domain.messages import ConversationKey, InboundMessage, Media
from replyd.domain.wakeup import BodyCodec

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "handoff-message.schema.json").read_text()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# The values of the names under `Why people get a conversation`.
REASONS = {v for name, v in vars(turn).items() if name.isupper() and isinstance(v, str)}
MESSAGE = InboundMessage("SM1", "whatsapp:+447700900001", "whatsapp:+447700900100", "hello")


def body(codec: BodyCodec = BodyCodec(), **changes: Any) -> dict[str, Any]:  # noqa: B008 - frozen
    values: dict[str, Any] = {
        "key": ConversationKey("+447700900001", "c-1"),
        "seq": 1,
        "received_at": 1_700_000_000_123,
        "message": MESSAGE,
        "conversation_id": "c-1",
    }
    made: dict[str, Any] = json.loads(codec.encode(**(values | changes)))
    return made


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_reason_is_in_it() -> None:
    assert set(SCHEMA["properties"]["handoff_reason"]["enum"]) == REASONS


@pytest.mark.parametrize("reason", ["", *sorted(REASONS)])
@pytest.mark.parametrize("codec", [BodyCodec(), BodyCodec("conversation_id", "")])
def test_bodies_of_every_reason(codec: BodyCodec, reason: str) -> None:
    VALIDATOR.validate(body(codec, handoff_reason=reason))


PARAMS = st.dictionaries(
    st.text(max_size=8), st.text(max_size=8) | st.lists(st.text(max_size=8), max_size=3), max_size=4
)
MESSAGES = st.builds(
    InboundMessage,
    sid=st.text(min_size=1),
    sender=st.text(min_size=1),
    recipient=st.text(min_size=1),
    body=st.text(),
    profile_name=st.text(),
    media=st.lists(st.builds(Media, st.text(), st.text()), max_size=2).map(tuple),
    params=PARAMS,
)


@given(
    message=MESSAGES,
    seq=st.integers(min_value=0),
    received_at=st.integers(-(10**15), 10**15),
    thread_id=st.text(),
    detail=st.text(),
    summary=st.text(),
)
def test_bodies_whatever_is_in_them(
    message: InboundMessage,
    seq: int,
    received_at: int,
    thread_id: str,
    detail: str,
    summary: str,
) -> None:
    made = body(
        message=message,
        seq=seq,
        received_at=received_at,
        thread_id=thread_id,
        handoff_reason=turn.FAILED,
        handoff_detail=detail,
        handoff_summary=summary,
    )
    VALIDATOR.validate(made)


@pytest.mark.parametrize(
    "changes",
    [{"version": 2}, {"seq": -1}, {"handoff_reason": "boredom"}, {"key": {}}, {"message": {}}],
)
def test_other_bodies_are_told_from_ours(changes: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(body() | changes)


def test_a_summary_without_a_reason_is_not_ours() -> None:
    assert not VALIDATOR.is_valid(body() | {"handoff_summary": "x"})
