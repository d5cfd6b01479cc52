"""What the vendors keep, in memory, and erasing it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from replyd.errors import DependencyError
from replyd.ports import Fate, Kept, KeptMessage, KeptMessages


@dataclass(slots=True)
class MemoryMessages:
    """`messages`: by the customer's address with its prefix. `in_progress`: SIDs that cannot be
    erased yet. `failures` are raised first, in order; None means success."""

    messages: dict[str, list[KeptMessage]] = field(default_factory=dict)
    in_progress: set[str] = field(default_factory=set)
    failures: list[DependencyError | None] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)

    async def exchanged_with(self, account_sid: str, customer: str) -> KeptMessages:
        await self._called()
        found = self.messages.get(customer, [])
        return KeptMessages(tuple(m for m in found if m.account_sid == account_sid))

    async def erase(self, account_sid: str, sid: str) -> Fate:
        await self._called()
        for kept in self.messages.values():
            for message in kept:
                if (message.account_sid, message.sid) == (account_sid, sid):
                    if sid in self.in_progress:
                        return "not_yet"
                    kept.remove(message)
                    self.erased.append(sid)
                    return "erased"
        return "gone"

    async def _called(self) -> None:
        await asyncio.sleep(0)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


@dataclass(slots=True)
class MemoryThreads:
    """`threads`: what is kept of each, in the order in which it has to be erased; `failures` as
    above. `seconds`: that each call takes."""

    threads: dict[str, list[Kept]] = field(default_factory=dict)
    failures: list[DependencyError | None] = field(default_factory=list)
    erased: list[Kept] = field(default_factory=list)
    seconds: float = 0.0
    asked: list[str] = field(default_factory=list)

    async def kept(self, thread_id: str) -> Sequence[Kept]:
        self.asked.append(thread_id)
        await self._called()
        return list(self.threads.get(thread_id, ()))

    async def erase(self, what: Kept) -> bool:
        await self._called()
        for kept in self.threads.values():
            if what in kept:
                kept.remove(what)
                self.erased.append(what)
                return True
        return False

    async def _called(self) -> None:
        await asyncio.sleep(self.seconds)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
