"""What the AI costs in a conversation: turns, tokens and money, a day and in all.

`reply_usage` in the record. A claim whose end nobody saw, its worker died, counts as much as is
reserved for a call. Money is counted in millionths of a dollar.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from typing import Any


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, which is millionths of a dollar for one."""

    input: float
    cached_input: float
    output: float

    def of(self, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        """Millionths of a dollar, rounded up. `input_tokens` include the cached ones."""
        cached = min(cached_tokens, input_tokens)
        fresh = input_tokens - cached
        return ceil(
            fresh * self.input + cached * self.cached_input + output_tokens * self.output - 1e-9
        )


FREE = Price(0, 0, 0)


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """The model's price, or that of the longest name that it begins with: vendors answer with a
    dated name. Free where none is known."""
    known = [name for name in prices if model.startswith(name)]
    return prices[max(known, key=len)] if known else FREE


@dataclass(frozen=True, slots=True)
class Spent:
    turns: int = 0
    tokens: int = 0
    microdollars: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.turns + other.turns,
            self.tokens + other.tokens,
            self.microdollars + other.microdollars,
        )

    def __mul__(self, times: int) -> "Spent":
        return Spent(self.turns * times, self.tokens * times, self.microdollars * times)

    def as_attribute(self) -> dict[str, int]:
        return {"turns": self.turns, "tokens": self.tokens, "microdollars": self.microdollars}


@dataclass(frozen=True, slots=True)
class Usage:
    """`day`: the UTC date of `today`. `counted`: how many of the record's attempts are in the
    sums. `told`: the day on which the customer was told of the limit, if ever."""

    day: str = ""
    today: Spent = field(default_factory=Spent)
    total: Spent = field(default_factory=Spent)
    counted: int = 0
    told: str = ""

    def plus(self, spent: Spent) -> "Usage":
        return replace(self, today=self.today + spent, total=self.total + spent)

    def as_attribute(self) -> dict[str, Any]:
        return {
            "day": self.day,
            "today": self.today.as_attribute(),
            "total": self.total.as_attribute(),
            "counted": self.counted,
            "told": self.told,
        }


def usage_from(raw: object) -> Usage:
    """The attribute as it is read; what is odd counts as nothing."""
    item = raw if isinstance(raw, Mapping) else {}
    return Usage(
        day=_text(item.get("day")),
        today=_spent(item.get("today")),
        total=_spent(item.get("total")),
        counted=_number(item.get("counted")),
        told=_text(item.get("told")),
    )


def as_of(usage: Usage, *, attempts: int, now: int, reserve: Spent) -> Usage:
    """What is spent when a claim begins, which is the last of `attempts`: on a new day nothing
    yet, and for each earlier claim that left no account the reserve."""
    day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
    if usage.day != day:
        usage = replace(usage, day=day, today=Spent())
    lost = max(0, attempts - 1 - usage.counted)
    return replace(usage.plus(replace(reserve, turns=0) * lost), counted=usage.counted + lost)


def _spent(raw: object) -> Spent:
    item = raw if isinstance(raw, Mapping) else {}
    return Spent(*(_number(item.get(name)) for name in ("turns", "tokens", "microdollars")))


def _number(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
