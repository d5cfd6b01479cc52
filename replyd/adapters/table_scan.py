"""Reading the whole table, for operators: what no key or index can find."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import partial
from typing import Any

from replyd.adapters import aws
from replyd.adapters.attribute_values import deserialize
from replyd.adapters.dynamodb import TableLayout
from replyd.domain.messages import ConversationKey
from replyd.errors import DependencyDown, NotAllowed
from replyd.ports import Page, TableSize

Item = dict[str, Any]

_DENIED = {"AccessDenied", "AccessDeniedException"}
_ALLOW = (
    "the credentials may not read the whole table: allow them dynamodb:Scan on it, which the "
    "CloudFormation template does for the instances with OperatorApi=true"
)


class TableScan:
    """Implements `ports.WholeTable`; `client` is an aiobotocore DynamoDB client. Pages are of up to
    1 MB. Raises NotAllowed where the credentials may not read the table."""

    def __init__(self, client: Any, layout: TableLayout) -> None:
        self._client = client
        self._layout = layout

    async def size(self) -> TableSize:
        """DynamoDB counts every six hours or so."""
        answer = await aws.call(
            "dynamodb", lambda: self._client.describe_table(TableName=self._layout.table)
        )
        table = answer["Table"]
        return TableSize(int(table.get("ItemCount", 0)), int(table.get("TableSizeBytes", 0)))

    def pages(self, after: ConversationKey | None = None) -> AsyncIterator[Page]:
        """Eventually consistent, which costs half."""
        if after is None:
            return self._all(self._client.scan, {})
        start = {self._layout.partition_key: {"S": after.partition}}
        if self._layout.sort_key:
            start[self._layout.sort_key] = {"S": after.sort}
        return self._all(self._client.scan, {"ExclusiveStartKey": start})

    def parts(self, name: str) -> AsyncIterator[Page]:
        """A table without a sort key has to be scanned for them, and shows them in no order."""
        partition = self._layout.partition_key
        wanted: dict[str, Any] = {
            "ExpressionAttributeNames": {"#p": partition},
            "ExpressionAttributeValues": {":p": {"S": name}},
        }
        if self._layout.sort_key:
            wanted["KeyConditionExpression"] = "#p = :p"
            return self._all(self._client.query, wanted)
        wanted["ExpressionAttributeValues"][":p"]["S"] += "#"
        wanted["FilterExpression"] = "begins_with(#p, :p)"
        return self._all(self._client.scan, wanted)

    async def _all(self, operation: Any, arguments: Mapping[str, Any]) -> AsyncIterator[Page]:
        request = {
            "TableName": self._layout.table,
            "ReturnConsumedCapacity": "TOTAL",
            **arguments,
        }
        while True:
            answer = await _allowed(aws.call("dynamodb", partial(operation, **request)))
            capacity = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0)
            plain = [{n: deserialize(v) for n, v in i.items()} for i in answer["Items"]]
            yield Page(tuple((self._key_of(item), item) for item in plain), float(capacity))
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _key_of(self, item: Item) -> ConversationKey:
        sort = str(item[self._layout.sort_key]) if self._layout.sort_key else ""
        return ConversationKey(str(item[self._layout.partition_key]), sort)


async def _allowed(answer: Awaitable[Item]) -> Item:
    try:
        return await answer
    except DependencyDown as error:
        if error.code not in _DENIED:
            raise
        raise NotAllowed("dynamodb", _ALLOW, code=error.code) from error
