"""Conditions and updates as DynamoDB's expressions.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html. An expression is
at most 4 KB long.
"""

from typing import Any

from replyd.adapters.attribute_values import serialize
from replyd.domain.expressions import (
    Action,
    Add,
    All,
    AnyOf,
    Append,
    Compare,
    Condition,
    DropHead,
    Exists,
    IsNull,
    ItemExists,
    Missing,
    Not,
    Path,
    Remove,
    Set,
)


class Expression:
    """Compiles conditions and actions; names and values become placeholders."""

    def __init__(self, partition_key: str) -> None:
        self._partition_key = partition_key
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def arguments(self) -> dict[str, Any]:
        """The placeholders, as arguments of a request."""
        found: dict[str, Any] = {}
        if self._names:
            found["ExpressionAttributeNames"] = {p: name for name, p in self._names.items()}
        if self._values:
            found["ExpressionAttributeValues"] = self._values
        return found

    def path(self, path: Path) -> str:
        text = ""
        for name in path:
            if isinstance(name, int):
                text += f"[{name}]"
            else:
                placeholder = self._names.setdefault(name, f"#n{len(self._names)}")
                text += f".{placeholder}" if text else placeholder
        return text

    def value(self, value: Any) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = serialize(value)
        return placeholder

    def condition(self, condition: Condition) -> str:
        match condition:
            case ItemExists():
                return f"attribute_exists({self.path((self._partition_key,))})"
            case Exists(path):
                return f"attribute_exists({self.path(path)})"
            case Missing(path):
                return f"attribute_not_exists({self.path(path)})"
            case Compare(path, op, value):
                return f"{self.path(path)} {op} {self.value(value)}"
            case IsNull(path):
                return f"attribute_type({self.path(path)}, {self.value('NULL')})"
            case All(terms):
                return "(" + " AND ".join(self.condition(t) for t in terms) + ")"
            case AnyOf(terms):
                return "(" + " OR ".join(self.condition(t) for t in terms) + ")"
            case Not(term):
                return f"(NOT {self.condition(term)})"

    def update(self, actions: tuple[Action, ...]) -> str:
        sets: list[str] = []
        adds: list[str] = []
        removes: list[str] = []
        for action in actions:
            target = self.path(action.path)
            match action:
                case Set(_, value):
                    sets.append(f"{target} = {self.value(value)}")
                case Append(_, values):
                    old = f"if_not_exists({target}, {self.value([])})"
                    sets.append(f"{target} = list_append({old}, {self.value(list(values))})")
                case Add(_, amount):
                    adds.append(f"{target} {self.value(amount)}")
                case Remove():
                    removes.append(target)
                case DropHead(_, count):
                    # Highest index first: the same on stores that apply them one by one.
                    removes += [f"{target}[{i}]" for i in reversed(range(count))]
        clauses = (("SET", sets), ("ADD", adds), ("REMOVE", removes))
        return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses if parts)
