"""The conversation table on DynamoDB."""

from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from botocore.exceptions import ClientError

from replyd.adapters import aws
from replyd.adapters.attribute_values import deserialize, serialize
from replyd.adapters.dynamodb_expressions import Expression
from replyd.domain import record
from replyd.domain.expressions import (
    AnyOf,
    Applied,
    Compare,
    Condition,
    Missing,
    Refused,
    Set,
    Step,
    StepResult,
)
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Candidate
from replyd.errors import Temporary

# The sort key of replyd's own items, where the table has one.
_SIDE_SORT = "replyd"
_EXPIRES_AT = "expires_at"
_RETURNS = {"touched": "UPDATED_NEW", "item": "ALL_NEW", "nothing": "NONE"}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {intern(name): deserialize(value) for name, value in attributes.items()}


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Names in the table. `lookup_index`: a secondary index whose partition key `lookup_key` holds
    the customer's address; empty when that is the table's own partition key."""

    table: str
    partition_key: str = record.RECIPIENT_TEL
    sort_key: str = record.CONVERSATION_ID
    lookup_index: str = ""
    lookup_key: str = ""

    @property
    def address_attribute(self) -> str:
        return (
            (self.lookup_key or record.RECIPIENT_TEL) if self.lookup_index else self.partition_key
        )


class DynamoStore:
    """Implements `ports.ConversationStore`; `client` is an aiobotocore DynamoDB client."""

    def __init__(self, client: Any, layout: TableLayout) -> None:
        self._client = client
        self._layout = layout

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        expression = Expression(self._layout.partition_key)
        request = {
            "TableName": self._layout.table,
            "Key": self._key(key),
            "ConditionExpression": expression.condition(step.condition),
            "UpdateExpression": expression.update(step.actions),
            "ReturnValues": _RETURNS[step.returns],
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            **expression.arguments(),
        }

        async def update() -> StepResult:
            try:
                answer = await self._client.update_item(**request)
            except ClientError as error:
                if not _is_refusal(error):
                    raise
                return Refused(_plain(error.response.get("Item", {})) or None)
            return Applied(_plain(answer.get("Attributes", {})))

        return await aws.call("dynamodb", update)

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        return await self._get(self._key(key))

    async def _get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        answer = await aws.call(
            "dynamodb",
            lambda: self._client.get_item(
                TableName=self._layout.table, Key=key, ConsistentRead=True
            ),
        )
        return _plain(answer["Item"]) if "Item" in answer else None

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        expression = Expression(self._layout.partition_key)
        wanted = [
            expression.path((name,))
            for name in dict.fromkeys(
                (
                    *self._key_names(),
                    record.CONVERSATION_ID,
                    record.COMPANY_TEL,
                    record.CREATED_AT,
                    record.THREAD_ID,
                    record.HANDOFF,
                    record.OPTED_OUT,
                    record.SEQ,
                )
            )
        ]
        projection = ", ".join([*wanted, expression.path((record.SEEN, sid))])
        if self._layout.lookup_index:
            items = await self._by_index(customer, projection, expression)
        else:
            items = await self._query(
                customer,
                self._layout.partition_key,
                {"ConsistentRead": True, "ProjectionExpression": projection},
                expression,
            )
        return [record.candidate_from(item, self._key_of(item), sid) for item in items]

    async def _by_index(
        self, customer: str, projection: str, expression: Expression
    ) -> list[dict[str, Any]]:
        """A secondary index is never consistent and may lack attributes: it names the keys, and
        the items are read from the table."""
        keys = Expression(self._layout.partition_key)
        key_projection = ", ".join(keys.path((name,)) for name in self._key_names())
        found = await self._query(
            customer,
            self._layout.address_attribute,
            {"IndexName": self._layout.lookup_index, "ProjectionExpression": key_projection},
            keys,
        )
        # BatchGetItem takes up to 100 keys: no customer has that many conversations.
        todo = [self._key(self._key_of(item)) for item in found[:100]]
        names = expression.arguments()
        items: list[dict[str, Any]] = []
        for _ in range(aws.TRIES):
            if not todo:
                return items
            wanted = {
                "Keys": todo,
                "ConsistentRead": True,
                "ProjectionExpression": projection,
                **names,
            }
            answer = await self._batch_get({self._layout.table: wanted})
            items += [_plain(i) for i in answer["Responses"].get(self._layout.table, [])]
            todo = answer.get("UnprocessedKeys", {}).get(self._layout.table, {}).get("Keys", [])
        raise Temporary("dynamodb", "left keys of a batch unread", code="UnprocessedKeys")

    async def _batch_get(self, wanted: dict[str, Any]) -> Any:
        return await aws.call("dynamodb", lambda: self._client.batch_get_item(RequestItems=wanted))

    async def _query(
        self, customer: str, attribute: str, extra: dict[str, Any], expression: Expression
    ) -> list[dict[str, Any]]:
        condition = f"{expression.path((attribute,))} = {expression.value(customer)}"
        request = {
            "TableName": self._layout.table,
            "KeyConditionExpression": condition,
            **extra,
            **expression.arguments(),
        }
        items: list[dict[str, Any]] = []
        while True:
            page = await self._query_page(request)
            items += [_plain(item) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return items
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _query_page(self, request: dict[str, Any]) -> Any:
        return await aws.call("dynamodb", lambda: self._client.query(**request))

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        item = {n: serialize(v) for n, v in attributes.items()} | self._key(key)
        expression = Expression(self._layout.partition_key)
        condition = expression.condition(Missing((self._layout.partition_key,)))

        async def put() -> bool:
            try:
                await self._client.put_item(
                    TableName=self._layout.table,
                    Item=item,
                    ConditionExpression=condition,
                    **expression.arguments(),
                )
            except ClientError as error:
                if not _is_refusal(error):
                    raise
                return False
            return True

        return await aws.call("dynamodb", put)

    async def erase(
        self,
        key: ConversationKey,
        condition: Condition,
        *,
        leaving: Mapping[str, Any] | None = None,
    ) -> StepResult:
        expression = Expression(self._layout.partition_key)
        request = {
            "TableName": self._layout.table,
            "ConditionExpression": expression.condition(condition),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            **expression.arguments(),
        }
        item = {n: serialize(v) for n, v in (leaving or {}).items()} | self._key(key)

        async def erase() -> StepResult:
            try:
                if leaving is None:
                    await self._client.delete_item(Key=self._key(key), **request)
                else:
                    await self._client.put_item(Item=item, **request)
            except ClientError as error:
                if not _is_refusal(error):
                    raise
                return Refused(_plain(error.response.get("Item", {})) or None)
            return Applied({})

        return await aws.call("dynamodb", erase)

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        expiry = {} if expires_at is None else {_EXPIRES_AT: expires_at}
        values = {**attributes, **expiry}
        item = {n: serialize(v) for n, v in values.items()} | self._side_key(name, part)
        await aws.call(
            "dynamodb", lambda: self._client.put_item(TableName=self._layout.table, Item=item)
        )

    async def get_side(self, name: str) -> dict[str, Any] | None:
        return await self._get(self._side_key(name))

    async def delete_side(self, name: str, *, part: str = "") -> bool:
        request = {
            "TableName": self._layout.table,
            "Key": self._side_key(name, part),
            "ReturnValues": "ALL_OLD",
        }
        answer = await aws.call("dynamodb", lambda: self._client.delete_item(**request))
        return "Attributes" in answer

    async def once_per(self, name: str, now: int, period: int) -> bool:
        due = AnyOf((Missing((_EXPIRES_AT,)), Compare((_EXPIRES_AT,), "<=", now)))
        step = Step("once_per", due, (Set((_EXPIRES_AT,), now + period),))
        sort = _SIDE_SORT if self._layout.sort_key else ""
        return isinstance(await self.apply(ConversationKey(name, sort), step), Applied)

    def _key_names(self) -> tuple[str, ...]:
        return tuple(n for n in (self._layout.partition_key, self._layout.sort_key) if n)

    def _key(self, key: ConversationKey) -> dict[str, Any]:
        values = (key.partition, key.sort)
        return {n: {"S": v} for n, v in zip(self._key_names(), values, strict=False)}

    def _side_key(self, name: str, part: str = "") -> dict[str, Any]:
        if part and not self._layout.sort_key:
            return self._key(ConversationKey(f"{name}#{part}"))
        return self._key(ConversationKey(name, part or _SIDE_SORT))

    def _key_of(self, item: Mapping[str, Any]) -> ConversationKey:
        sort = str(item[self._layout.sort_key]) if self._layout.sort_key else ""
        return ConversationKey(str(item[self._layout.partition_key]), sort)


def _is_refusal(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ConditionalCheckFailedException")
