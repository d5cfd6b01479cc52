"""What there is of a customer, what was erased of it, and what is left."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Where = Literal["table", "twilio", "openai"]
# What is counted, in the order in which a receipt shows it.
WHATS: tuple[tuple[Where, str], ...] = (
    ("table", "conversations"),
    ("table", "archive items"),
    ("table", "texts and words kept apart"),
    ("table", "notices"),
    ("table", "aliases"),
    ("twilio", "messages"),
    ("openai", "responses"),
    ("openai", "conversation items"),
    ("openai", "conversations"),
    ("openai", "files"),
    ("openai", "threads"),
)


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is still there, and why."""

    where: Where
    what: str
    why: str
    count: int = 1


@dataclass(slots=True)
class Receipt:
    """`found`, `erased` and `gone` (before it was their turn): how many, by where and what. `kept`:
    records of which nothing stays but that the customer has said STOP. `waiting`: messages that
    wait for an answer. `refused`: why nothing was touched; empty when it was."""

    customer: str
    names: tuple[str, ...] = ()
    found: dict[tuple[Where, str], int] = field(default_factory=dict)
    erased: dict[tuple[Where, str], int] = field(default_factory=dict)
    gone: dict[tuple[Where, str], int] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    kept: int = 0
    waiting: int = 0
    refused: str = ""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing of the customer, as far as everybody has answered."""
        return not any(self.found.values()) and not self.left

    @property
    def holds_back(self) -> bool:
        """Whether something is left that only the records lead to."""
        return any(left.what != NOT_COMPLETE for left in self.left)

    def find(self, where: Where, what: str, count: int) -> None:
        self.found[where, what] = self.found.get((where, what), 0) + count

    def erase(self, where: Where, what: str, *, gone: bool = False) -> None:
        counts = self.gone if gone else self.erased
        counts[where, what] = counts.get((where, what), 0) + 1

    def leave(self, where: Where, what: str, why: str) -> None:
        """Alike ones are counted."""
        for place, left in enumerate(self.left):
            if (left.where, left.what, left.why) == (where, what, why):
                self.left[place] = Left(where, what, why, left.count + 1)
                return
        self.left.append(Left(where, what, why))

    def rows(self) -> Iterable[tuple[Where, str, int, int, int]]:
        """Where, what, found, erased and gone, for what there was any of."""
        for where, what in WHATS:
            key = where, what
            found, erased, gone = (n.get(key, 0) for n in (self.found, self.erased, self.gone))
            if found or erased or gone:
                yield where, what, found, erased, gone


# Messages of ours that Twilio is not done with: its own list leads to them again.
NOT_COMPLETE = "messages on their way"
