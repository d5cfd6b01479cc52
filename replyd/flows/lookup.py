"""The lookup of a customer's records, which may serve a whole burst."""

from dataclasses import replace

from replyd.domain.messages import ConversationKey
from replyd.domain.record import Candidate
from replyd.ports import Clock, ConversationStore

# Far above what one process sees within the few seconds that an answer lives.
_MAX_ENTRIES = 10_000


class CachedLookup:
    """One consistent query per customer and few seconds, for customers with one record. A stale
    answer costs nothing then: every step has its own condition, flag and opt-out of the answer
    only choose a delay. Which of several records has seen a SID only a query can tell."""

    def __init__(self, store: ConversationStore, clock: Clock, seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._cache: dict[str, tuple[float, list[Candidate]]] = {}

    async def __call__(self, customer: str, sid: str) -> list[Candidate]:
        now = self._clock.elapsed()
        cached = self._cache.get(customer)
        if cached is not None and now < cached[0]:
            # What it knows of another SID says nothing about this one; STAGE's condition does.
            return [replace(c, seen=False) for c in cached[1]]
        found = await self._store.lookup(customer, sid)
        self.forget(customer)
        if len(found) == 1 and self._seconds:
            if len(self._cache) >= _MAX_ENTRIES:
                self._cache.clear()
            self._cache[customer] = (now + self._seconds, found)
        return found

    def staged(self, customer: str, key: ConversationKey) -> None:
        """This record has accepted a message, so the next one takes STAGE's usual form."""
        if cached := self._cache.get(customer):
            until, found = cached
            found = [replace(c, staged_before=True) if c.key == key else c for c in found]
            self._cache[customer] = (until, found)

    def forget(self, customer: str) -> None:
        self._cache.pop(customer, None)
