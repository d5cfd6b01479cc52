"""`replyd init`: the table, both queues and their dead-letter queues, where they are missing."""

import asyncio
import json
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table
from rich.text import Text

from replyd.adapters.provisioning import QueueFacts, TableFacts, TableSpec
from replyd.provision.requirements import MIN_RECEIVES, about_queue, about_table
from replyd.settings import Conversations

_DAY = 24 * 60 * 60
# SQS counts a message's age from its first queue also in the dead-letter queue: that one must keep
# messages longer, or they would arrive there only to vanish. 14 days is SQS's limit.
RETENTION_SECONDS = 4 * _DAY
DEAD_LETTER_RETENTION_SECONDS = 14 * _DAY
TTL_ATTRIBUTE = "expires_at"

CREATED, EXISTED, DIFFERS = "created", "existed", "differs"


class Provisioner(Protocol):
    """`adapters.provisioning.Provisioning`, as far as `init` needs it."""

    async def ensure_queue(
        self,
        name: str,
        *,
        retention_seconds: int,
        dead_letter_arn: str = "",
        max_receives: int = 0,
    ) -> tuple[QueueFacts, bool]: ...

    async def ensure_table(self, spec: TableSpec) -> tuple[TableFacts, bool]: ...

    async def ttl_attribute(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Names:
    """What things are called in AWS."""

    table: str = "replyd-conversations"
    replies: str = "replyd-replies"
    replies_dlq: str = "replyd-replies-dlq"
    handoff: str = "replyd-handoff"
    handoff_dlq: str = "replyd-handoff-dlq"

    @classmethod
    def with_prefix(cls, prefix: str, table: str | None = None) -> "Names":
        """`table` is for a table that has a name of its own."""
        return cls(
            table=table or f"{prefix}-conversations",
            replies=f"{prefix}-replies",
            replies_dlq=f"{prefix}-replies-dlq",
            handoff=f"{prefix}-handoff",
            handoff_dlq=f"{prefix}-handoff-dlq",
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one thing. `state`: created, existed, or differs: it existed, is not as replyd
    needs it, and was left alone; `notes` say what to do."""

    kind: str
    name: str
    state: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """`toml` is what to paste into the configuration file."""

    outcomes: tuple[Outcome, ...]
    toml: str

    @property
    def differs(self) -> bool:
        return any(outcome.state == DIFFERS for outcome in self.outcomes)


async def init(aws: Provisioner, conversations: Conversations, names: Names) -> Report:
    """Make what is missing, alter nothing; safe to repeat, also by two at once.

    `conversations` says which keys the table gets. Raises ReplydError when AWS does not answer or
    refuses; what was made until then stays and is found by the next run."""
    table, replies, handoff = await asyncio.gather(
        _table(aws, conversations, names.table),
        _queue(aws, names.replies, names.replies_dlq),
        _queue(aws, names.handoff, names.handoff_dlq),
    )
    (facts, about), (replies_url, *queues), (handoff_url, *others) = table, replies, handoff
    return Report((about, *queues, *others), _toml(facts, conversations, replies_url, handoff_url))


async def _table(aws: Provisioner, wanted: Conversations, name: str) -> tuple[TableFacts, Outcome]:
    facts, created = await aws.ensure_table(
        TableSpec(
            name=name,
            partition_key=wanted.partition_key,
            sort_key=wanted.sort_key,
            ttl_attribute=TTL_ATTRIBUTE,
            index=wanted.lookup_index,
            index_key=wanted.address_attribute if wanted.lookup_index else "",
        )
    )
    notes = list(about_table(facts, wanted))
    if not created and await aws.ttl_attribute(name) != TTL_ATTRIBUTE:
        notes.append(
            f'has no time to live on "{TTL_ATTRIBUTE}": enable it, or side items stay for ever'
        )
    return facts, _outcome("table", name, created, notes)


async def _queue(
    aws: Provisioner, name: str, dead_letter_name: str
) -> tuple[str, Outcome, Outcome]:
    dead, dead_created = await aws.ensure_queue(
        dead_letter_name, retention_seconds=DEAD_LETTER_RETENTION_SECONDS
    )
    facts, created = await aws.ensure_queue(
        name,
        retention_seconds=RETENTION_SECONDS,
        dead_letter_arn=dead.arn,
        max_receives=MIN_RECEIVES,
    )
    notes = list(about_queue(facts))
    if facts.dead_letter_arn and facts.dead_letter_arn != dead.arn:
        notes.append(f'uses another dead-letter queue, "{facts.dead_letter_arn}": watch that one')
    dead_notes = []
    if dead.retention_seconds < DEAD_LETTER_RETENTION_SECONDS:
        dead_notes.append(
            f"keeps messages for {dead.retention_seconds / _DAY:g} days: set its retention to 14, "
            "counted from when a message was first sent"
        )
    return (
        facts.url,
        _outcome("queue", name, created, notes),
        _outcome("dead-letter queue", dead_letter_name, dead_created, dead_notes),
    )


def _outcome(kind: str, name: str, created: bool, notes: list[str]) -> Outcome:
    state = DIFFERS if notes else CREATED if created else EXISTED
    return Outcome(kind, name, state, tuple(notes))


def _toml(facts: TableFacts, wanted: Conversations, replies_url: str, handoff_url: str) -> str:
    """With the keys that the table has, which need not be the ones that were asked for."""
    table = {"table": facts.name}
    defaults = Conversations()
    if facts.partition_key != defaults.partition_key:
        table["partition_key"] = facts.partition_key
    if facts.sort_key != defaults.sort_key:
        table["sort_key"] = facts.sort_key
    if wanted.lookup_index:
        table["lookup_index"] = wanted.lookup_index
        table["lookup_key"] = wanted.address_attribute
    sections = {
        "queues": {"replies_url": replies_url, "handoff_url": handoff_url},
        "conversations": table,
    }
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(v)}\n" for key, v in values.items())
        for section, values in sections.items()
    )


def render_report(report: Report) -> Table:
    table = Table("", "name", "", "to do", box=None, pad_edge=False)
    styles = {CREATED: "green", EXISTED: "dim", DIFFERS: "yellow"}
    for outcome in report.outcomes:
        table.add_row(
            outcome.kind,
            Text(outcome.name),
            Text(outcome.state, styles[outcome.state]),
            Text("; ".join(outcome.notes)),
        )
    return table
