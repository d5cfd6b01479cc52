from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import record as r
from replyd.domain.callback import STATUS_PATH, Found, Part, find, part_of, status_callback
from replyd.domain.messages import ConversationKey

NAMES = st.text(st.characters(exclude_categories=["Cs"]))


@given(NAMES, NAMES, NAMES, st.integers(0, 99))
def test_the_url_names_conversation_turn_and_part(
    partition: str, sort: str, turn_id: str, entry: int
) -> None:
    url = status_callback("https://h.example", ConversationKey(partition, sort), turn_id, entry)
    assert url.isascii()
    parts = urlsplit(url)
    assert (parts.netloc, parts.path, parts.fragment) == ("h.example", STATUS_PATH, "")
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    assert query == {"p": [partition], "s": [sort], "turn": [turn_id], "entry": [str(entry)]}


def test_the_plus_of_a_number_survives() -> None:
    url = status_callback("https://h", ConversationKey("+447700900001", "c-1"), "t", 2)
    assert url == "https://h/webhooks/twilio/status?p=%2B447700900001&s=c-1&turn=t&entry=2"


@given(NAMES.filter(bool), NAMES, NAMES, st.integers(0, 99))
def test_the_query_comes_back_as_the_part(
    partition: str, sort: str, turn_id: str, entry: int
) -> None:
    part = Part(ConversationKey(partition, sort), turn_id, entry, "SM9")
    query = parse_qs(urlsplit(status_callback("https://h", part.key, turn_id, entry)).query)
    assert part_of("SM9", query) == part


@pytest.mark.parametrize(
    "query",
    [{}, {"p": "+44"}, {"entry": "1"}, {"p": "+44", "entry": "-1"}, {"p": "", "entry": "1"}],
)
def test_a_query_that_names_no_part(query: dict[str, str]) -> None:
    assert part_of("SM9", query) is None


PART = Part(ConversationKey("+447700900001", "c-1"), "t-1", 1, "SM9")
ASKED = {"role": "user", "message_id": "SM1", "turn_id": "t-1"}
REPLY = {"role": "assistant", "content": "Until six.", "turn_id": "t-1"}
REPORT = {"message_id": "SM9", "delivery": "failed"}


def test_a_part_in_the_outbox_comes_with_its_report() -> None:
    outbox = {"turn_id": "t-1", "entries": [ASKED, REPLY], "delivery": {"1": REPORT}}
    assert find({r.OUTBOX: outbox}, PART) == Found(REPLY | REPORT)
    others: list[dict[str, Any]] = [
        {"turn_id": "t-2"},
        {"delivery": {}},
        {"delivery": {"1": {"message_id": "SM8"}}},
    ]
    for other in others:
        assert find({r.OUTBOX: outbox | other}, PART) is None


def test_a_part_in_the_history_is_known_by_its_sid_or_else_by_its_place() -> None:
    sent = REPLY | REPORT
    assert find({r.MESSAGES: [ASKED, sent, "odd", {}]}, PART) == Found(sent, 1)
    assert find({r.MESSAGES: [{}, ASKED, REPLY]}, PART) == Found(REPLY, 2)
    assert find({r.MESSAGES: [ASKED, REPLY | {"message_id": "SM8"}]}, PART) is None
    assert find({r.MESSAGES: [ASKED]}, PART) is None
    assert find({}, PART) is None
