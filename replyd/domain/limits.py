"""When the AI has had enough of a conversation: budgets, and two bots that talk to each other.

Functions of the conversation and the time, epoch milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from replyd.domain.record import Conversation, Entry, Pending, iso
from replyd.domain.text import normalised
from replyd.domain.usage import Spent, Usage


@dataclass(frozen=True, slots=True)
class Cap:
    """None is no limit."""

    turns: int | None = None
    tokens: int | None = None
    microdollars: int | None = None

    def left_out(self, spent: Spent, reserve: Spent) -> str:
        """Of what there is too little left for one more call; empty when there is enough."""
        for name, limit in (
            ("turns", self.turns),
            ("tokens", self.tokens),
            ("microdollars", self.microdollars),
        ):
            if limit is not None and getattr(spent, name) + getattr(reserve, name) > limit:
                return "money" if name == "microdollars" else name
        return ""


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """`reserve`: what one call counts as before its answer tells. `loop_turns` answers within
    `loop_ms`, or the same text `loop_repeats` times in a row, are taken for a loop."""

    day: Cap = field(default_factory=Cap)
    conversation: Cap = field(default_factory=Cap)
    reserve: Spent = field(default_factory=lambda: Spent(1, 2000, 0))
    at_limit: Literal["handoff", "text", "silence"] = "handoff"
    text: str = ""
    loop_turns: int | None = None
    loop_ms: int = 300_000
    loop_repeats: int | None = None


def over_budget(usage: Usage, policy: LimitPolicy) -> str:
    """Which budget one more call would exceed, in words; empty for none."""
    for cap, spent, what in (
        (policy.day, usage.today, "today's"),
        (policy.conversation, usage.total, "the conversation's"),
    ):
        if name := cap.left_out(spent, policy.reserve):
            return f"{what} budget of {name} is used up"
    return ""


def loops(
    conversation: Conversation, taken: Sequence[Pending], *, now: int, policy: LimitPolicy
) -> str:
    """What looks like two bots talking to each other, in words; empty for nothing."""
    history = conversation.messages
    if policy.loop_turns is not None:
        since = iso(now - policy.loop_ms)
        answers = {e.get("turn_id") for e in history if _is_answer(e) and _after(e, since)}
        if len(answers) >= policy.loop_turns:
            return f"{len(answers)} answers within {policy.loop_ms // 1000} s"
    if policy.loop_repeats is not None:
        said = [str(e.get("content", "")) for e in history if e.get("role") == "user"]
        said += [p.message.body for p in taken if p.message is not None]
        last = {normalised(text) for text in said[-policy.loop_repeats :]}
        if len(said) >= policy.loop_repeats and len(last) == 1 and last != {""}:
            return f"the customer sent the same text {policy.loop_repeats} times in a row"
    return ""


def _is_answer(entry: Entry) -> bool:
    return entry.get("role") == "assistant" and bool(entry.get("turn_id"))


def _after(entry: Entry, since: str) -> bool:
    # ISO 8601 of one form: the order of texts is that of times.
    return str(entry.get("timestamp", "")) >= since
