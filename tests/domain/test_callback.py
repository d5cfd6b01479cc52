from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.callback import STATUS_PATH, status_callback
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
