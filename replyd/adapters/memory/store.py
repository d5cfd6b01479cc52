"""The conversation table in memory, with DynamoDB's semantics as far as the flows see them:
conditional updates are atomic and a refusal shows the old item."""

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replyd.domain import record
from replyd.domain.expressions import (
    Action,
    Add,
    All,
    AnyOf,
    Append,
    Applied,
    Compare,
    Condition,
    DropHead,
    Exists,
    IsNull,
    ItemExists,
    Missing,
    Not,
    Path,
    Refused,
    Remove,
    Set,
    Step,
    StepResult,
)
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Candidate
from replyd.errors import Permanent

# DynamoDB's, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_ITEM_BYTES = 400 * 1024

_ABSENT: Any = object()


def _get(item: Any, path: Path) -> Any:
    value = item
    for name in path:
        if isinstance(name, int):
            if not isinstance(value, list) or name >= len(value):
                return _ABSENT
        elif not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _compare(have: Any, op: str, value: Any) -> bool:
    # True == 1 in Python, while DynamoDB compares types first.
    same_type = isinstance(have, bool) == isinstance(value, bool)
    if have is _ABSENT or not same_type:
        return False
    if op == "=":
        return bool(have == value)
    if not isinstance(have, int | str) or isinstance(have, int) != isinstance(value, int):
        return False
    return bool(have <= value) if op == "<=" else bool(have >= value)


def holds(condition: Condition, item: Mapping[str, Any] | None) -> bool:
    """Evaluate a condition as DynamoDB would."""
    match condition:
        case ItemExists():
            return item is not None
        case Exists(path):
            return _get(item, path) is not _ABSENT
        case Missing(path):
            return _get(item, path) is _ABSENT
        case Compare(path, op, value):
            return _compare(_get(item, path), op, value)
        case IsNull(path):
            return _get(item, path) is None
        case All(terms):
            return all(holds(t, item) for t in terms)
        case AnyOf(terms):
            return any(holds(t, item) for t in terms)
        case Not(term):
            return not holds(term, item)


def _parent(item: dict[str, Any], path: Path) -> Any:
    parent = _get(item, path[:-1])
    if parent is _ABSENT:
        raise Permanent("dynamodb", "the update names a path whose parent is missing")
    return parent


def perform(
    actions: Sequence[Action],
    item: dict[str, Any],
    *,
    copied: Callable[[Any], Any] = copy.deepcopy,
) -> set[str]:
    """Apply the actions in place; returns the top-level attributes they touched. `copied`: what
    is stored of a value."""
    for action in actions:
        path = action.path
        parent, name = _parent(item, path), path[-1]
        match action:
            case Set(_, value):
                parent[name] = copied(value)
            case Append(_, values):
                have = parent.get(name, [])
                if not isinstance(have, list):
                    raise Permanent("dynamodb", "list_append needs a list")
                parent[name] = have + copied(list(values))
            case Add(_, amount):
                parent[name] = parent.get(name, 0) + amount
            case Remove():
                parent.pop(name, None)
            case DropHead(_, count):
                if name in parent:
                    del parent[name][:count]
    return {str(a.path[0]) for a in actions}


def size_of(value: Any) -> int:
    """Bytes, about as DynamoDB counts them."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return 3 + sum(1 + size_of(name) + size_of(entry) for name, entry in value.items())
    if isinstance(value, list | tuple | set):
        return 3 + sum(1 + size_of(entry) for entry in value)
    return 1 if value is None or isinstance(value, bool) else 2 + len(str(value)) // 2


class MemoryStore:
    """A table. Each call yields to the loop once, so that others interleave as they would."""

    def __init__(
        self,
        *,
        partition_key: str = record.RECIPIENT_TEL,
        sort_key: str = record.CONVERSATION_ID,
        address_attribute: str = record.RECIPIENT_TEL,
    ) -> None:
        self._names = (partition_key, sort_key)
        self._address = address_attribute
        self.items: dict[ConversationKey, dict[str, Any]] = {}
        self.side: dict[str, dict[str, Any]] = {}
        self.applied: list[str] = []
        self.lookups = 0

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        self.lookups += 1
        await asyncio.sleep(0)
        return [
            record.candidate_from(item, key, sid)
            for key, item in self.items.items()
            if item.get(self._address) == customer
        ]

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        await asyncio.sleep(0)
        item = self.items.get(key)
        if not holds(step.condition, item):
            return Refused(copy.deepcopy(item))
        fresh = self._keyed(key) if item is None else copy.deepcopy(item)
        touched = perform(step.actions, fresh)
        if size_of(fresh) > MAX_ITEM_BYTES:
            raise Permanent("dynamodb", "the item would be larger than 400 KB")
        self.items[key] = fresh
        self.applied.append(step.name)
        if step.returns == "item":
            return Applied(copy.deepcopy(fresh))
        if step.returns == "touched":
            return Applied(copy.deepcopy({k: fresh[k] for k in touched if k in fresh}))
        return Applied({})

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.items.get(key))

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        await asyncio.sleep(0)
        if key in self.items:
            return False
        self.items[key] = self._keyed(key) | copy.deepcopy(dict(attributes))
        return True

    async def erase(
        self,
        key: ConversationKey,
        condition: Condition,
        *,
        leaving: Mapping[str, Any] | None = None,
    ) -> StepResult:
        await asyncio.sleep(0)
        item = self.items.get(key)
        if not holds(condition, item):
            return Refused(copy.deepcopy(item))
        if leaving is None:
            self.items.pop(key, None)
        else:
            self.items[key] = copy.deepcopy(dict(leaving)) | self._keyed(key)
        return Applied({})

    def _keyed(self, key: ConversationKey) -> dict[str, Any]:
        partition, sort = self._names
        return {partition: key.partition} | ({sort: key.sort} if sort else {})

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        await asyncio.sleep(0)
        expiry = {} if expires_at is None else {"expires_at": expires_at}
        key = f"{name}#{part}" if part else name
        kept = {n: v for n, v in attributes.items() if n not in self._names}
        self.side[key] = copy.deepcopy(kept) | expiry

    async def get_side(self, name: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.side.get(name))

    async def delete_side(self, name: str, *, part: str = "") -> bool:
        await asyncio.sleep(0)
        return self.side.pop(f"{name}#{part}" if part else name, None) is not None

    async def once_per(self, name: str, now: int, period: int) -> bool:
        await asyncio.sleep(0)
        if now < self.side.get(name, {}).get("expires_at", 0):
            return False
        self.side[name] = {"expires_at": now + period}
        return True
