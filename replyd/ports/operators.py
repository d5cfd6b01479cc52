"""What operators' commands look at."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from replyd.domain.messages import (
    ConversationKey,
)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a table's items; `units`: the read capacity that it has cost."""

    items: tuple[tuple[ConversationKey, dict[str, Any]], ...]
    units: float = 0.0


def part_of(key: ConversationKey, name: str) -> str:
    """Which part of `name` the key of a side item stands for, in a table with a sort key or
    without."""
    return key.sort or key.partition.removeprefix(f"{name}#")


@dataclass(frozen=True, slots=True)
class TableSize:
    """An estimate, hours old."""

    items: int
    size_bytes: int


class WholeTable(Protocol):
    """What no key can find. Every method raises Temporary, DependencyDown or Permanent."""

    async def size(self) -> TableSize: ...

    def pages(self, after: ConversationKey | None = None) -> AsyncIterator[Page]:
        """Every item, replyd's own among them, perhaps some seconds old. In no order, but the same
        one each time: what comes behind the key `after` can be read later."""
        ...

    def parts(self, name: str) -> AsyncIterator[Page]:
        """The side items of this name that have a part, such as `archive#<conversation_id>`, in
        the order of their parts; `part_of` tells which one an item is."""
        ...


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """The dead-letter queue of the queue `source`, both URLs; the counts are estimates."""

    source: str
    url: str
    name: str
    visible: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """`sent_at`: when it came to its first queue, epoch ms; `receives`: how often it was
    received; `attributes`: what its sender put beside the body."""

    message_id: str
    receipt: str
    body: str
    sent_at: int = 0
    receives: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


class DeadLetterQueues(Protocol):
    """Every method raises Temporary, DependencyDown or Permanent."""

    async def of(self, source: str) -> DeadQueue | None:
        """None where the queue has no redrive policy."""
        ...

    async def receive(self, queue: DeadQueue) -> Sequence[DeadMessage]:
        """Up to ten, kept from others for a minute; none when the queue seems empty."""
        ...

    async def give_back(self, queue: DeadQueue, messages: Sequence[DeadMessage]) -> None:
        """Others may have them at once."""
        ...

    async def move_back(self, queue: DeadQueue, message: DeadMessage) -> None:
        """To the queue it came from: sent, then deleted, so that it is never in none."""
        ...

    async def purge(self, queue: DeadQueue) -> None: ...
