"""Values as other writers, or other software, might leave them."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("1E+125"), Decimal("0.5")])
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.binary(max_size=3)
NAMES = ("sid", "from", "to", "body", "params", "media", "url", "message", "entries", "expires_at")
KEYS = st.sampled_from(NAMES) | st.text(max_size=3)


def _nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)


ANYTHING: st.SearchStrategy[Any] = st.recursive(SCALARS, _nest, max_leaves=8)
