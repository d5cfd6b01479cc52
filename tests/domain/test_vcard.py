"""Contacts as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.vcard import MAX_CHARACTERS, contacts

CARD = """BEGIN:VCARD
VERSION:3.0
N:Baker;Ann;;;
FN:Ann Baker
ORG:Mill Lane Bakery;Cakes
item1.TEL;waid=447700900123:+44 7700 900123
TEL;TYPE=cell;VALUE=uri:tel:+44-7700-900124
EMAIL;TYPE=INTERNET:ann@example.com
PHOTO;ENCODING=b:AAAA
END:VCARD
"""


def test_a_card_shows_name_company_numbers_and_addresses() -> None:
    assert contacts(CARD.encode()) == (
        "Ann Baker, Mill Lane Bakery Cakes, +44 7700 900123, +44-7700-900124, ann@example.com"
    )


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ("FN:Ann\\, the baker", "Ann, the baker"),
        ("FN:Ann\r\n  Baker", "Ann Baker"),
        ("fn:Ann\nFN:Ann", "Ann"),
        ("FN:Ann\nEND:VCARD\nBEGIN:VCARD\nFN:Bo", "Ann, Bo"),
        ("FN:", ""),
        ("hello", ""),
        ("", ""),
    ],
)
def test_odd_cards(card: str, shown: str) -> None:
    assert contacts(card.encode()) == shown


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: f"FN:{t}".encode()))
def test_whatever_comes_is_one_short_line(data: bytes) -> None:
    shown = contacts(data)
    assert len(shown) <= MAX_CHARACTERS + 1
    assert "\n" not in shown
