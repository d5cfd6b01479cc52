"""Conditions and updates on one item, as values.

The steps of the turn protocol are built from these once; DynamoDB compiles them to expressions
and the in-memory store evaluates them, so the two cannot drift apart.

Semantics are DynamoDB's: a comparison with a missing attribute is false, and a list index in a
removal refers to the list before the update.
"""

from dataclasses import dataclass
from typing import Any, Literal

# Names, and indexes into lists.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ItemExists:
    """The item is there. The store knows the name of its partition key."""


@dataclass(frozen=True, slots=True)
class Exists:
    path: Path


@dataclass(frozen=True, slots=True)
class Missing:
    path: Path


@dataclass(frozen=True, slots=True)
class Compare:
    """`attribute <op> value`, between values of one type."""

    path: Path
    op: Literal["=", "<=", ">="]
    value: Any


@dataclass(frozen=True, slots=True)
class IsNull:
    path: Path


@dataclass(frozen=True, slots=True)
class All:
    terms: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    terms: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: "Condition"


Condition = ItemExists | Exists | Missing | Compare | IsNull | All | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Set:
    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Append:
    """Append `values` to the list at `path`, which is created when it is missing."""

    path: Path
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """Add `amount` to the number at `path`, which counts as 0 when it is missing."""

    path: Path
    amount: int


@dataclass(frozen=True, slots=True)
class Remove:
    path: Path


@dataclass(frozen=True, slots=True)
class DropHead:
    """Remove the first `count` entries of the list at `path`."""

    path: Path
    count: int


Action = Set | Append | Add | Remove | DropHead


@dataclass(frozen=True, slots=True)
class Step:
    """One conditional update of one item: all of it happens, or nothing.

    `returns`: what a success brings back: the attributes touched, the whole item, or nothing.
    """

    name: str
    condition: Condition
    actions: tuple[Action, ...]
    returns: Literal["touched", "item", "nothing"] = "nothing"


@dataclass(frozen=True, slots=True)
class Applied:
    """The step happened. `item` is what `Step.returns` asked for."""

    item: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition did not hold. `item` is the item as it was then; None when there is none."""

    item: dict[str, Any] | None


StepResult = Applied | Refused
