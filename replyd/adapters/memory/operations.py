"""What operators' commands use, in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from replyd.adapters.memory.store import MemoryStore
from replyd.domain.messages import ConversationKey
from replyd.errors import Temporary
from replyd.ports import DeadMessage, DeadQueue, Page, TableSize


@dataclass(slots=True)
class MemoryTable:
    """All of a MemoryStore, in pages of `page` items. `read`: how many items that were."""

    store: MemoryStore
    page: int = 2
    read: int = 0

    async def size(self) -> TableSize:
        await asyncio.sleep(0)
        return TableSize(len(self.store.items) + len(self.store.side), 0)

    async def pages(self, after: ConversationKey | None = None) -> AsyncIterator[Page]:
        side = [(_side_key(name), item) for name, item in self.store.side.items()]
        every = [*side, *self.store.items.items()]
        begin = 0 if after is None else _place_behind(after, [key for key, _ in every])
        for start in range(begin, len(every), self.page):
            await asyncio.sleep(0)
            items = tuple(every[start : start + self.page])
            self.read += len(items)
            yield Page(items, units=0.5)

    async def parts(self, name: str) -> AsyncIterator[Page]:
        await asyncio.sleep(0)
        mine = f"{name}#"
        names = sorted(n for n in self.store.side if n.startswith(mine))
        yield Page(tuple((_side_key(n), self.store.side[n]) for n in names))


def _place_behind(after: ConversationKey, keys: Sequence[ConversationKey]) -> int:
    return keys.index(after) + 1 if after in keys else len(keys)


def _side_key(name: str) -> ConversationKey:
    """The twin keeps name and part in one text, as a table without a sort key does."""
    return ConversationKey(name)


@dataclass(slots=True)
class MemoryDeadLetters:
    """Dead-letter queues by the URL of their queue. `failing`: bodies that cannot be moved."""

    dead: dict[str, list[DeadMessage]] = field(default_factory=dict)
    moved: dict[str, list[str]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)

    async def of(self, source: str) -> DeadQueue | None:
        await asyncio.sleep(0)
        if source not in self.dead:
            return None
        visible = [m for m in self.dead[source] if m.message_id not in self.away]
        in_flight = len(self.dead[source]) - len(visible)
        return DeadQueue(source, f"{source}-dlq", f"{source}-dlq", len(visible), in_flight)

    async def receive(self, queue: DeadQueue) -> Sequence[DeadMessage]:
        await asyncio.sleep(0)
        here = [m for m in self.dead[queue.source] if m.message_id not in self.away][:10]
        self.away |= {m.message_id for m in here}
        return [replace(m, receives=m.receives + 1) for m in here]

    async def give_back(self, queue: DeadQueue, messages: Sequence[DeadMessage]) -> None:
        await asyncio.sleep(0)
        assert queue.source in self.dead
        self.away -= {m.message_id for m in messages}

    async def move_back(self, queue: DeadQueue, message: DeadMessage) -> None:
        await asyncio.sleep(0)
        if message.body in self.failing:
            raise Temporary("sqs", "failed on its side")
        self.moved.setdefault(queue.source, []).append(message.body)
        kept = [m for m in self.dead[queue.source] if m.message_id != message.message_id]
        self.dead[queue.source] = kept

    async def purge(self, queue: DeadQueue) -> None:
        await asyncio.sleep(0)
        self.dead[queue.source].clear()
