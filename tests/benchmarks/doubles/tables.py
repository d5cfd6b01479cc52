"""DynamoDB for load: tables in memory, conditional updates of one item, queries by partition.

What is here answers as DynamoDB does; what no party asks for is not here.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.doubles import expressions
from tests.benchmarks.doubles.expressions import Placeholders
from tests.benchmarks.doubles.values import InvalidExpressionError, Item

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_ITEM_BYTES = 400 * 1024
MAX_EXPRESSION_BYTES = 4 * 1024
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html
WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 4096

Body = Mapping[str, Any]


class Failure(Exception):
    """An error answer. `code` as in `__type`; `more`: further members of the body."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
        self.body |= more


@dataclass(frozen=True, slots=True)
class _Stored:
    """`size`: bytes of the item, about as DynamoDB counts them."""

    item: Item
    size: int


# What a partition has that nobody has written to yet, by sort key; None for nothing.
Seed = Callable[[str], tuple[str, Item] | None]


@dataclass(slots=True)
class Table:
    """`seed`: items that are there from the beginning, each made when it is first asked for, so
    that a million of them take neither time nor memory. Such a table has no index."""

    name: str
    partition_key: str
    sort_key: str = ""
    description: dict[str, Any] = field(default_factory=dict)
    # Secondary indexes: their partition key by name, and their items' sort keys or keys by value.
    indexes: dict[str, str] = field(default_factory=dict)
    partitions: dict[str, dict[str, _Stored]] = field(default_factory=dict)
    seed: Seed = lambda _: None
    # What DynamoDB would charge on demand.
    write_units: int = 0
    read_units: float = 0.0

    def key_of(self, attributes: Item) -> tuple[str, str]:
        sort = attributes[self.sort_key]["S"] if self.sort_key else ""
        return attributes[self.partition_key]["S"], sort

    def keyed(self, key: tuple[str, str]) -> Item:
        partition, sort = key
        own = {self.partition_key: {"S": partition}}
        return own | ({self.sort_key: {"S": sort}} if self.sort_key else {})

    def partition(self, value: str) -> dict[str, _Stored]:
        """Its items by sort key."""
        found = self.partitions.get(value)
        if found is None:
            found = {}
            if (seeded := self.seed(value)) is not None:
                sort, attributes = seeded
                item = attributes | self.keyed((value, sort))
                found[sort] = _Stored(item, size_of({"M": item}))
                self.partitions[value] = found
        return found

    def find(self, key: tuple[str, str]) -> _Stored | None:
        return self.partition(key[0]).get(key[1])

    def store(self, item: Item, size: int, before: _Stored | None) -> None:
        """Charged by the larger one of the item before and after."""
        partition, sort = self.key_of(item)
        if size > MAX_ITEM_BYTES:
            raise Failure("ValidationException", "Item size has exceeded the maximum allowed size")
        self.wrote(max(size, before.size if before else 0))
        self.partitions.setdefault(partition, self.partition(partition))[sort] = _Stored(item, size)

    def wrote(self, size: int) -> None:
        self.write_units += max(1, math.ceil(size / WRITE_UNIT_BYTES))

    def read(self, sizes: Iterable[int], *, consistent: bool) -> None:
        """In one go, whatever is projected of the items."""
        units = max(1, math.ceil(sum(sizes) / READ_UNIT_BYTES))
        self.read_units += units if consistent else units / 2


class Tables:
    """The operations, by name, each from a request's body to an answer's."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.operations: dict[str, Callable[[Body], Any]] = {
            "CreateTable": self._create_table,
            "DescribeTable": self._describe_table,
            "DescribeTimeToLive": lambda _: {"TimeToLiveDescription": {}},
            "UpdateTimeToLive": lambda body: {
                "TimeToLiveSpecification": body["TimeToLiveSpecification"]
            },
            "GetItem": self._get_item,
            "BatchGetItem": self._batch_get_item,
            "PutItem": self._put_item,
            "UpdateItem": self._update_item,
            "DeleteItem": self._delete_item,
            "Query": self._query,
        }

    def answer(self, operation: str, body: Body) -> Any:
        """Raises Failure."""
        try:
            return self.operations[operation](body)
        except InvalidExpressionError as error:
            raise Failure("ValidationException", str(error)) from error

    def seed(self, name: str, seed: Seed) -> None:
        """The table anew, with what `seed` makes."""
        table = self.tables[name]
        table.partitions.clear()
        table.seed = seed

    def _table(self, body: Body) -> Table:
        try:
            return self.tables[body["TableName"]]
        except KeyError:
            raise Failure("ResourceNotFoundException", "Requested resource not found") from None

    def _create_table(self, body: Body) -> Any:
        keys = {key["KeyType"]: key["AttributeName"] for key in body["KeySchema"]}
        name = body["TableName"]
        if name in self.tables:
            raise Failure("ResourceInUseException", f"Table already exists: {name}")
        arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{name}"
        description = {k: v for k, v in body.items() if k != "BillingMode"}
        description |= {"TableStatus": "ACTIVE", "ItemCount": 0, "TableSizeBytes": 0}
        indexes = {
            index["IndexName"]: index["KeySchema"][0]["AttributeName"]
            for index in body.get("GlobalSecondaryIndexes", ())
        }
        self.tables[name] = Table(
            name, keys["HASH"], keys.get("RANGE", ""), description | {"TableArn": arn}, indexes
        )
        return {"TableDescription": self.tables[name].description}

    def _describe_table(self, body: Body) -> Any:
        return {"Table": self._table(body).description}

    def _get_item(self, body: Body) -> Any:
        table = self._table(body)
        stored = table.find(table.key_of(body["Key"]))
        consistent = body.get("ConsistentRead", False)
        table.read([stored.size if stored else 0], consistent=consistent)
        return {} if stored is None else {"Item": _projected(stored.item, body)}

    def _batch_get_item(self, body: Body) -> Any:
        found: dict[str, list[Item]] = {}
        for name, wanted in body["RequestItems"].items():
            table = self._table({"TableName": name})
            consistent = wanted.get("ConsistentRead", False)
            stored = [s for key in wanted["Keys"] if (s := table.find(table.key_of(key)))]
            for one in stored:
                table.read([one.size], consistent=consistent)
            found[name] = [_projected(one.item, wanted) for one in stored]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _put_item(self, body: Body) -> Any:
        table, item = self._table(body), body["Item"]
        before = table.find(table.key_of(item))
        self._check(table, before, body)
        table.store(item, size_of({"M": item}), before)
        return {}

    def _delete_item(self, body: Body) -> Any:
        table = self._table(body)
        partition, sort = table.key_of(body["Key"])
        before = table.find((partition, sort))
        self._check(table, before, body)
        table.wrote(before.size if before else 0)
        table.partition(partition).pop(sort, None)
        wanted = before is not None and body.get("ReturnValues") == "ALL_OLD"
        return {"Attributes": before.item} if before and wanted else {}

    def _update_item(self, body: Body) -> Any:
        table = self._table(body)
        key = table.key_of(body["Key"])
        stored = table.find(key)
        given = self._check(table, stored, body)
        before = table.keyed(key) if stored is None else stored.item
        after, touched = expressions.update(body["UpdateExpression"], before, given)
        size = size_of({"M": before}) if stored is None else stored.size
        size += _size_of(touched, after) - _size_of(touched, before)
        table.store(after, size, stored)
        match body.get("ReturnValues", "NONE"):
            case "ALL_NEW":
                return {"Attributes": after}
            case "UPDATED_NEW":
                return {"Attributes": {n: after[n] for n in touched if n in after}}
            case "ALL_OLD":
                return {"Attributes": before} if stored else {}
        return {}

    def _query(self, body: Body) -> Any:
        table, given = self._table(body), _placeholders(body)
        name, _, value = body["KeyConditionExpression"].partition(" = ")
        attribute, wanted = given.names.get(name, name), given.values[value.strip()]
        if index := body.get("IndexName"):
            if table.indexes.get(index) != attribute:
                raise Failure("ValidationException", "The table does not have the specified index")
            # By looking at every item: no party queries an index under load.
            every = (s for p in table.partitions.values() for s in p.values())
            stored = [s for s in every if s.item.get(attribute) == wanted]
        else:
            found = table.partition(wanted["S"])
            stored = [found[sort] for sort in sorted(found)]
        table.read((s.size for s in stored), consistent=body.get("ConsistentRead", False))
        return {"Items": [_projected(s.item, body) for s in stored], "Count": len(stored)}

    def _check(self, table: Table, stored: _Stored | None, body: Body) -> Placeholders:
        """Raises ConditionalCheckFailedException, with the item if it was asked for."""
        for kind in ("ConditionExpression", "UpdateExpression"):
            if len(body.get(kind, "").encode()) > MAX_EXPRESSION_BYTES:
                raise Failure("ValidationException", f"Invalid {kind}: too large")
        given = _placeholders(body)
        text = body.get("ConditionExpression")
        if text and not expressions.condition(text)(stored.item if stored else {}, given):
            table.wrote(stored.size if stored else 0)
            wanted = body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            more = {"Item": stored.item} if stored and wanted else {}
            reason = "The conditional request failed"
            raise Failure("ConditionalCheckFailedException", reason, **more)
        return given


def _placeholders(body: Body) -> Placeholders:
    return Placeholders(
        body.get("ExpressionAttributeNames", {}), body.get("ExpressionAttributeValues", {})
    )


def _projected(item: Item, body: Body) -> Item:
    text = body.get("ProjectionExpression")
    return expressions.project(text, item, _placeholders(body)) if text else item


def _size_of(names: Iterable[str], item: Item) -> int:
    return size_of({"M": {name: item[name] for name in names if name in item}})


def size_of(value: Mapping[str, Any]) -> int:
    """Bytes, about as DynamoDB counts them."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "M":
            return 3 + sum(1 + len(n.encode()) + size_of(v) for n, v in content.items())
        case "L":
            return 3 + sum(1 + size_of(v) for v in content)
        case "N":
            return 2 + len(content) // 2
        case "SS" | "NS" | "BS":
            return sum(len(v) for v in content)
    return 1
