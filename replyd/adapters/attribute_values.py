"""DynamoDB's attribute values and Python's.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html. boto3 has
the same, but its releases follow botocore's day by day: depending on it makes pip search through
all of them for one that fits aiobotocore's.
"""

import base64
from collections.abc import Mapping
from decimal import Decimal
from sys import intern
from typing import Any

AttributeValue = dict[str, Any]


def serialize(value: Any) -> AttributeValue:
    """Raises TypeError for what DynamoDB cannot hold exactly, floats among them."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | Decimal():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case list() | tuple():
            return {"L": [serialize(v) for v in value]}
        case Mapping():
            return {"M": {str(name): serialize(v) for name, v in value.items()}}
        case set() | frozenset() if value:
            kinds = {next(iter(serialize(v))) for v in value}
            kind = kinds.pop()
            if not kinds and kind in ("S", "N", "B"):
                return {f"{kind}S": [serialize(v)[kind] for v in value]}
    raise TypeError(f"DynamoDB has no type for {type(value).__name__}")


def deserialize(attribute: AttributeValue) -> Any:
    """Whole numbers become int, others Decimal. Binary values may be in base64, as in JSON."""
    ((kind, value),) = attribute.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return _number(value)
        case "L":
            return [deserialize(v) for v in value]
        case "M":
            # The same few names in thousands of records that wait: kept once.
            return {intern(name): deserialize(v) for name, v in value.items()}
        case "NS":
            return {_number(v) for v in value}
        case "SS":
            return set(value)
        case "B":
            return _binary(value)
        case "BS":
            return {_binary(v) for v in value}
    return value


def _binary(value: bytes | str) -> bytes:
    return base64.b64decode(value) if isinstance(value, str) else value


def _number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number
