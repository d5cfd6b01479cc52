"""DynamoDB's items and values in their wire form: what paths lead to, what is compared and added.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.Attributes.html
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]
Path = tuple[str | int, ...]


class InvalidExpressionError(ValueError):
    """DynamoDB's ValidationException."""


def get(item: Item, path: Path) -> Value | None:
    value = item.get(str(path[0]))
    for part in path[1:]:
        if value is None:
            return None
        if isinstance(part, int):
            entries = value.get("L", ())
            value = entries[part] if part < len(entries) else None
        else:
            value = value.get("M", {}).get(part)
    return value


def _owned(item: Item, path: Path) -> Any:
    """What holds the last part of the path, copied on the way down, so that the item before the
    update stays as it was."""
    holder: Any = item
    for part in path[:-1]:
        try:
            value = holder[part]
            kind = "L" if "L" in value else "M"
            copied = value[kind].copy()
        except (KeyError, IndexError, TypeError):
            reason = "The document path provided in the update expression is invalid for update"
            raise InvalidExpressionError(reason) from None
        holder[part] = {kind: copied}
        holder = copied
    return holder


def put(item: Item, path: Path, value: Value) -> None:
    holder, last = _owned(item, path), path[-1]
    if isinstance(holder, list):
        assert isinstance(last, int)
        if last >= len(holder):
            holder.append(value)
            return
    holder[last] = value


def remove(item: Item, path: Path) -> None:
    if len(path) > 1 and get(item, path) is None:
        if get(item, path[:-1]) is None:
            _owned(item, path)
        return
    holder, last = _owned(item, path), path[-1]
    if isinstance(holder, list):
        assert isinstance(last, int)
        del holder[last]
    else:
        holder.pop(last, None)


def is_of(value: Value | None, kind: Value | None) -> bool:
    return value is not None and kind is not None and kind["S"] in value


def equal(left: Value | None, right: Value | None) -> bool:
    if left is None or right is None:
        return False
    if "N" in left and "N" in right:
        return Decimal(left["N"]) == Decimal(right["N"])
    return left == right


def ordered(left: Value | None, right: Value | None, compare: Callable[[Any, Any], bool]) -> bool:
    """Between values of one type; what is missing compares as false."""
    if left is None or right is None:
        return False
    ((kind, a),), ((other, b),) = left.items(), right.items()
    if kind != other or kind not in ("N", "S"):
        return False
    return compare(Decimal(a), Decimal(b)) if kind == "N" else compare(a, b)


def joined(first: Value | None, second: Value | None) -> Value | None:
    if first is None or second is None:
        return None
    if "L" not in first or "L" not in second:
        raise InvalidExpressionError("An operand in the update expression has an incorrect type")
    return {"L": [*first["L"], *second["L"]]}


def added(left: Value | None, right: Value | None, sign: int) -> Value | None:
    if left is None or right is None:
        return None
    if "N" not in left or "N" not in right:
        raise InvalidExpressionError("An operand in the update expression has an incorrect type")
    return {"N": str(Decimal(left["N"]) + sign * Decimal(right["N"]))}


def size(value: Value | None) -> Value | None:
    if value is None:
        return None
    ((_, content),) = value.items()
    return {"N": str(len(content))}
