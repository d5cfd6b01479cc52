"""Who may call next, and when: rate limits as values of time, and a fair order of tenants.

Times are seconds on a clock that never goes back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

# So much of a minute's limit may be used at once. The rest of it comes in evenly, so that no
# sixty seconds, whenever they begin, see more than the limit.
BURST_SHARE = 0.1
# Times are sums of floats: what is missing by less than this is there.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: `level` tokens at the time `at`, below zero for a debt. In any stretch of
    time it gives out at most `capacity` and what has come in meanwhile."""

    capacity: float
    per_second: float
    level: float
    at: float = 0.0

    @classmethod
    def of(cls, per_minute: int) -> "Bucket":
        """Full. Gives out at most `per_minute` within any sixty seconds, unless a single amount
        is larger than `capacity`, a tenth of it."""
        capacity = max(1.0, per_minute * BURST_SHARE)
        # The last whole token of sixty seconds comes in only when they are over.
        return cls(capacity, (per_minute - capacity + 1) / 60, capacity)

    def level_at(self, now: float) -> float:
        come_in = max(0.0, now - self.at) * self.per_second
        return min(self.capacity, self.level + come_in)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 for now. More than the bucket holds may be taken
        when it is full: it could never be otherwise."""
        return self._until(min(amount, self.capacity), now)

    def backlog(self, amount: float, now: float) -> float:
        """Seconds until `amount` has been given out, one after the other."""
        return self._until(amount, now)

    def _until(self, level: float, now: float) -> float:
        missing = level - self.level_at(now)
        return missing / self.per_second if missing > _NOTHING else 0.0

    def take(self, amount: float, now: float) -> "Bucket":
        """`amount` below zero gives back what was not used."""
        level = min(self.capacity, self.level_at(now) - amount)
        return replace(self, level=level, at=max(self.at, now))


@dataclass(frozen=True, slots=True)
class Rates:
    """What one API key may do: requests and tokens a minute, None for no limit, and nothing at
    all until `paused_until`."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    paused_until: float = 0.0

    @classmethod
    def of(cls, requests_per_minute: int | None, tokens_per_minute: int | None) -> "Rates":
        return cls(
            Bucket.of(requests_per_minute) if requests_per_minute else None,
            Bucket.of(tokens_per_minute) if tokens_per_minute else None,
        )

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a call of so many tokens may be made; 0 for now."""
        return max(
            self.paused_until - now,
            self.requests.wait(1, now) if self.requests else 0.0,
            self.tokens.wait(tokens, now) if self.tokens else 0.0,
            0.0,
        )

    def backlog(self, requests: int, tokens: float, now: float) -> float:
        """Seconds until all of these calls could have been made."""
        return max(
            self.paused_until - now,
            self.requests.backlog(requests, now) if self.requests else 0.0,
            self.tokens.backlog(tokens, now) if self.tokens else 0.0,
            0.0,
        )

    def take(self, tokens: float, now: float) -> "Rates":
        """One call."""
        requests = self.requests.take(1, now) if self.requests else None
        return replace(self, requests=requests).book(tokens, now)

    def book(self, tokens: float, now: float) -> "Rates":
        """A call used so many more tokens than was thought; fewer, below zero."""
        return replace(self, tokens=self.tokens.take(tokens, now) if self.tokens else None)

    def pause(self, until: float) -> "Rates":
        return replace(self, paused_until=max(self.paused_until, until))


class FairOrder(Generic[T]):
    """Those who wait, in rounds: each tenant has one turn in a round, first come first served
    within a tenant. A tenant that starts to wait takes part in the round under way if it has had
    no turn in it, so nobody waits for more than one turn of each other tenant."""

    def __init__(self) -> None:
        # Each tenant's own, oldest first: a dict, so that leaving costs the same anywhere.
        self._waiting: dict[str, dict[T, None]] = {}
        # Those that have had their turn in the round under way.
        self._served: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[T]:
        for items in self._waiting.values():
            yield from items

    def push(self, tenant: str, item: T) -> None:
        """Items are hashable and differ from one another."""
        self._waiting.setdefault(tenant, {})[item] = None

    def drop(self, tenant: str, item: T) -> None:
        """Its owner waits no more."""
        items = self._waiting[tenant]
        del items[item]
        if not items:
            del self._waiting[tenant]

    def head(self, may: Callable[[str], bool]) -> tuple[str, T] | None:
        """Whose turn it is among the tenants that may have one."""
        # Of several in the same round the first is whoever has waited longest for it.
        tenant = min(filter(may, self._waiting), key=self._served.__contains__, default=None)
        return None if tenant is None else (tenant, next(iter(self._waiting[tenant])))

    def serve(self, tenant: str) -> T:
        """The tenant has its turn."""
        items = self._waiting.pop(tenant)
        item = next(iter(items))
        del items[item]
        if items:
            self._waiting[tenant] = items
        if tenant in self._served:
            # The next round.
            self._served.clear()
        self._served.add(tenant)
        return item
