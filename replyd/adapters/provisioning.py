"""Making and inspecting the table and the queues. Nothing here changes what exists."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from replyd.adapters import aws
from replyd.errors import DependencyDown

# A new table is there within seconds, as a rule.
TABLE_SECONDS = 180.0
# SQS may take a second to know a queue that it has just made.
QUEUE_SECONDS = 10.0
_POLL_SECONDS = 0.5

_NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_QUEUE_EXISTS = {"QueueAlreadyExists", "QueueNameExists"}


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue as it is. `dead_letter_arn` is empty and `max_receives` 0 without a redrive policy;
    times in seconds."""

    url: str
    arn: str
    fifo: bool = False
    visibility_seconds: int = 30
    retention_seconds: int = 0
    dead_letter_arn: str = ""
    max_receives: int = 0


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as it is. `types` holds the DynamoDB type of each key attribute, `indexes` the
    partition key of each secondary index."""

    name: str
    status: str
    partition_key: str
    sort_key: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table to make: string keys, on-demand billing, times to live in `ttl_attribute`."""

    name: str
    partition_key: str
    sort_key: str
    ttl_attribute: str
    index: str = ""
    index_key: str = ""


class Provisioning:
    """Every method raises Temporary, Busy, DependencyDown or Permanent."""

    def __init__(self, sqs: Any, dynamodb: Any) -> None:
        self._sqs = sqs
        self._dynamodb = dynamodb

    # --- queues --------------------------------------------------------------------------------

    async def queue(self, url: str) -> QueueFacts:
        """The queue behind a URL; DependencyDown when there is none."""
        answer = await aws.call(
            "sqs", lambda: self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        )
        return _queue_facts(url, answer.get("Attributes", {}))

    async def ensure_queue(
        self,
        name: str,
        *,
        retention_seconds: int,
        dead_letter_arn: str = "",
        max_receives: int = 0,
    ) -> tuple[QueueFacts, bool]:
        """The queue of this name, and whether it had to be made."""
        attributes = {"MessageRetentionPeriod": str(retention_seconds)}
        if dead_letter_arn:
            policy = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": max_receives}
            attributes["RedrivePolicy"] = json.dumps(policy)
        url = await aws.call("sqs", lambda: self._queue_url(name))
        created = False
        if not url:
            url = await aws.call("sqs", lambda: self._create_queue(name, attributes))
            created = bool(url)
        if not url:
            # Somebody made it between our two questions, with other attributes.
            url = await aws.call("sqs", lambda: self._queue_url(name))
        return await self._known_queue(url), created

    async def _queue_url(self, name: str) -> str:
        try:
            return str((await self._sqs.get_queue_url(QueueName=name))["QueueUrl"])
        except ClientError as error:
            if _code(error) in _NO_QUEUE:
                return ""
            raise

    async def _create_queue(self, name: str, attributes: Mapping[str, str]) -> str:
        try:
            answer = await self._sqs.create_queue(QueueName=name, Attributes=attributes)
        except ClientError as error:
            if _code(error) in _QUEUE_EXISTS:
                return ""
            raise
        return str(answer["QueueUrl"])

    async def _known_queue(self, url: str) -> QueueFacts:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + QUEUE_SECONDS
        while True:
            try:
                return await self.queue(url)
            except DependencyDown as error:
                if error.code not in _NO_QUEUE or loop.time() >= deadline:
                    raise
            await asyncio.sleep(_POLL_SECONDS)

    # --- the table -----------------------------------------------------------------------------

    async def table(self, name: str) -> TableFacts | None:
        """The table of this name or ARN, or None."""
        return await aws.call("dynamodb", lambda: self._describe(name))

    async def ttl_attribute(self, name: str) -> str:
        """The attribute with the items' time to live, or nothing."""
        answer = await aws.call(
            "dynamodb", lambda: self._dynamodb.describe_time_to_live(TableName=name)
        )
        found = answer.get("TimeToLiveDescription", {})
        enabled = found.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        return str(found.get("AttributeName", "")) if enabled else ""

    async def ensure_table(self, spec: TableSpec) -> tuple[TableFacts, bool]:
        """The table of this name, ready for use, and whether it had to be made."""
        created = False
        if await self.table(spec.name) is None:
            created = await aws.call("dynamodb", lambda: self._create_table(spec))
        facts = await self._active_table(spec.name)
        if created:
            await aws.call("dynamodb", lambda: self._enable_ttl(spec))
        return facts, created

    async def _describe(self, name: str) -> TableFacts | None:
        try:
            answer = await self._dynamodb.describe_table(TableName=name)
        except ClientError as error:
            if _code(error) == "ResourceNotFoundException":
                return None
            raise
        return _table_facts(answer["Table"])

    async def _create_table(self, spec: TableSpec) -> bool:
        """False when somebody else is making it."""
        keys = [name for name in (spec.partition_key, spec.sort_key) if name]
        request: dict[str, Any] = {
            "TableName": spec.name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": _schema(*keys),
        }
        if spec.index:
            keys.append(spec.index_key)
            request["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": spec.index,
                    "KeySchema": _schema(spec.index_key),
                    "Projection": {"ProjectionType": "ALL"},
                }
            ]
        request["AttributeDefinitions"] = [
            {"AttributeName": name, "AttributeType": "S"} for name in dict.fromkeys(keys)
        ]
        try:
            await self._dynamodb.create_table(**request)
        except ClientError as error:
            if _code(error) == "ResourceInUseException":
                return False
            raise
        return True

    async def _active_table(self, name: str) -> TableFacts:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TABLE_SECONDS
        while True:
            facts = await self.table(name)
            if facts is not None and facts.status in {"ACTIVE", "UPDATING"}:
                return facts
            if loop.time() >= deadline:
                status = facts.status.lower() if facts else "missing"
                raise DependencyDown(
                    "dynamodb", f"the table is still {status} after {TABLE_SECONDS:.0f} s"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _enable_ttl(self, spec: TableSpec) -> None:
        wanted = {"Enabled": True, "AttributeName": spec.ttl_attribute}
        try:
            await self._dynamodb.update_time_to_live(
                TableName=spec.name, TimeToLiveSpecification=wanted
            )
        except ClientError as error:
            # A retry whose first try held is refused: "already enabled".
            if _code(error) != "ValidationException":
                raise


@asynccontextmanager
async def open_provisioning(region: str | None = None) -> AsyncIterator[Provisioning]:
    """`region`: None leaves it to AWS's configuration."""
    async with (
        aws.create_client("sqs", region=region) as sqs,
        aws.create_client("dynamodb", region=region) as dynamodb,
    ):
        yield Provisioning(sqs, dynamodb)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _schema(partition_key: str, sort_key: str = "") -> list[dict[str, str]]:
    keys = [{"AttributeName": partition_key, "KeyType": "HASH"}]
    return keys + ([{"AttributeName": sort_key, "KeyType": "RANGE"}] if sort_key else [])


def _queue_facts(url: str, attributes: Mapping[str, str]) -> QueueFacts:
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return QueueFacts(
        url=url,
        arn=attributes.get("QueueArn", ""),
        fifo=attributes.get("FifoQueue") == "true",
        visibility_seconds=int(attributes.get("VisibilityTimeout", 30)),
        retention_seconds=int(attributes.get("MessageRetentionPeriod", 0)),
        dead_letter_arn=str(policy.get("deadLetterTargetArn", "")),
        # A string in what some tools wrote, a number in what others did.
        max_receives=int(policy.get("maxReceiveCount", 0)),
    )


def _table_facts(table: Mapping[str, Any]) -> TableFacts:
    indexes = [
        *table.get("GlobalSecondaryIndexes", []),
        *table.get("LocalSecondaryIndexes", []),
    ]
    return TableFacts(
        name=str(table["TableName"]),
        status=str(table["TableStatus"]),
        partition_key=_key(table, "HASH"),
        sort_key=_key(table, "RANGE"),
        types={d["AttributeName"]: d["AttributeType"] for d in table["AttributeDefinitions"]},
        indexes={index["IndexName"]: _key(index, "HASH") for index in indexes},
    )


def _key(schema: Mapping[str, Any], kind: str) -> str:
    keys = [k["AttributeName"] for k in schema["KeySchema"] if k["KeyType"] == kind]
    return str(keys[0]) if keys else ""
