import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.address import bare, is_address, masked


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("whatsapp:+447700900001", "+447700900001"),
        ("+447700900001", "+447700900001"),
        ("whatsapp:US.ABC123", "US.ABC123"),
        ("whatsapp:", ""),
        ("", ""),
        # One prefix, not each: what is left is no address, and says so.
        ("whatsapp:whatsapp:+1", "whatsapp:+1"),
    ],
)
def test_bare(text: str, plain: str) -> None:
    assert bare(text) == plain


@pytest.mark.parametrize(
    "text",
    ["+447700900001", "whatsapp:+447700900001", "US.ABC123", "whatsapp:GB." + "a1" * 64, "12345"],
)
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whatsapp:",
        "archive#c-1",
        "alias#US.1",
        "+44 7700",
        "+1\n",
        "\n+1",
        "sms:+1",
        "٣٤",
        "é",
        "whatsapp:whatsapp:+1",
        "a" * 161,
        "+1\ud800",
        "a/b",
        "a?b",
    ],
)
def test_no_addresses(text: str) -> None:
    assert not is_address(text)


@given(st.text() | st.from_regex(r"(whatsapp:)?\+[0-9]{1,15}", fullmatch=True))
def test_a_masked_address_shows_five_characters_at_most_and_hides_three(text: str) -> None:
    shown, plain = masked(text), bare(text)
    assert shown.count("…") >= 1
    assert len(shown) <= 6
    start, _, end = shown.partition("…")
    hidden = len(plain) - len(start) - len(end)
    assert not plain or hidden >= min(3, len(plain))


def test_a_masked_number_can_be_recognised_by_its_owner() -> None:
    assert masked("whatsapp:+447700900001") == "+44…01"
    assert masked("US.ABC123") == "US.…23"
    assert masked("+447700") == "…"
