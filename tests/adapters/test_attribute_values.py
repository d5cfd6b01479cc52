"""Our attribute values against boto3's, which the stand-ins bring along."""

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from replyd.adapters.attribute_values import deserialize, serialize

numbers = st.integers(-(10**30), 10**30) | st.decimals(
    allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12
)
scalars = st.none() | st.booleans() | st.text() | numbers | st.binary()
values = st.recursive(
    scalars | st.sets(st.text(), min_size=1) | st.sets(numbers, min_size=1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def written(attribute: Any) -> Any:
    """An attribute value with its sets in order and its binaries plain."""
    ((kind, value),) = attribute.items()
    if kind == "M":
        return {kind: {name: written(v) for name, v in value.items()}}
    if kind == "L":
        return {kind: [written(v) for v in value]}
    if kind in ("SS", "NS", "BS"):
        return {kind: sorted(value)}
    return {kind: value.value if isinstance(value, Binary) else value}


def unwrapped(value: Any) -> Any:
    """What boto3 read, its binaries plain."""
    if isinstance(value, dict):
        return {name: unwrapped(v) for name, v in value.items()}
    if isinstance(value, list):
        return [unwrapped(v) for v in value]
    return value.value if isinstance(value, Binary) else value


@settings(derandomize=True, max_examples=100)
@given(values)
def test_the_same_as_boto3_writes(value: Any) -> None:
    assert written(serialize(value)) == written(TypeSerializer().serialize(value))


@settings(derandomize=True, max_examples=100)
@given(values)
def test_what_is_written_is_read_back_as_boto3_reads_it(value: Any) -> None:
    attribute = serialize(value)
    assert deserialize(attribute) == value
    assert unwrapped(TypeDeserializer().deserialize(attribute)) == value


@pytest.mark.parametrize("value", [1.5, object(), set(), {1, "a"}, {None}])
def test_what_dynamodb_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="DynamoDB has no type"):
        serialize(value)


def test_whole_numbers_are_ints() -> None:
    assert deserialize({"N": "1700000000000"}) == 1_700_000_000_000
    assert isinstance(deserialize({"N": "7.0"}), int)
    assert deserialize({"N": "7.5"}) == Decimal("7.5")
