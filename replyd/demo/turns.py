"""A turn of the demo page's journeys, and the steps that its events make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from replyd.domain.events import (
    MessageDropped,
    ModelAnswered,
    ModelAsked,
    PartSent,
    ToolRan,
    TurnClaimed,
    TurnEnded,
)
from replyd.domain.messages import ConversationKey

# Later ones replace earlier ones; callbacks may arrive in any order.
_DELIVERY = ("", "queued", "accepted", "sent", "delivered", "read", "undelivered", "failed")
_NAMES = ("accepted", "window", "claimed", "model", "sent", "recorded")
FINAL = ("replied", "handed_over", "partly_sent", "withheld")


@dataclass(slots=True)
class Message:
    """`accepted` is false until the event that says so has been seen."""

    sid: str
    at: int
    seq: int = 0
    staged_ms: int = 0
    repeats: int = 0
    accepted: bool = True


@dataclass(slots=True)
class Turn:
    """The newest event of each kind about some messages of one conversation."""

    number: int
    key: ConversationKey | None
    conversation_id: str
    customer: str
    sids: list[str] = field(default_factory=list)
    last_at: int = 0
    closes_at: int = 0
    claimed: TurnClaimed | None = None
    asked: ModelAsked | None = None
    answered: ModelAnswered | None = None
    # Before the newest question: the model called tools, and was told what they said.
    rounds: list[ModelAnswered] = field(default_factory=list)
    tools: list[ToolRan] = field(default_factory=list)
    parts: dict[int, PartSent] = field(default_factory=dict)
    delivery: dict[str, str] = field(default_factory=dict)
    ended: TurnEnded | None = None
    dropped: MessageDropped | None = None
    restarts: int = 0

    @property
    def over(self) -> bool:
        """Nothing more will happen to it, deliveries apart."""
        ended = self.ended is not None and self.ended.outcome in FINAL
        return ended or self.dropped is not None

    @property
    def waiting(self) -> bool:
        """Its window is open: the next message joins it."""
        return not self.over and self.claimed is None and self.ended is None


def rank(status: str) -> int:
    """Delivery states in their order; what is not known comes first."""
    return _DELIVERY.index(status) if status in _DELIVERY else 0


def state_of(turn: Turn) -> str:
    """The turn in one word: waiting, working, retry, replied, handed_over, withheld,
    failed, dropped."""
    if turn.dropped is not None:
        return "dropped"
    if turn.ended is None:
        return "working" if turn.claimed is not None else "waiting"
    outcome = turn.ended.outcome
    if outcome in ("retry", "lease_lost"):
        return "retry"
    return outcome if outcome in ("replied", "handed_over", "withheld") else "failed"


def steps_of(turn: Turn, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What happened so far and, while all goes well, what comes next; `messages` is not empty."""
    if turn.dropped is not None:
        at, reason = turn.dropped.at, turn.dropped.reason
        return [{"name": "dropped", "state": "failed", "at": at, "reason": reason}]
    accepted = {
        "name": "accepted",
        "state": "done",
        "at": messages[0].at,
        "duration_ms": messages[-1].staged_ms,
        "count": len(messages),
    }
    if turn.claimed is None:
        window: dict[str, Any] = {"name": "window", "state": "active", "last_at": turn.last_at}
        window["closes_at"] = turn.closes_at
        if turn.ended is not None:
            return [accepted, {**window, "state": "done"}, *_last_steps(turn.ended)]
        return [accepted, window, *_todo(*_NAMES[2:])]
    claimed = turn.claimed
    steps = [
        accepted,
        {"name": "window", "state": "done", "duration_ms": claimed.window_wait_ms},
        {"name": "claimed", "state": "done", "at": claimed.at, "attempt": claimed.attempt},
    ]
    if turn.closes_at and claimed.attempt <= 1:
        # How late after the window's end; of a later attempt it would say nothing.
        steps[-1]["duration_ms"] = max(0, claimed.at - turn.closes_at)
    if turn.asked is not None:
        steps.append(_model_step(turn, turn.asked))
    if turn.parts:
        steps.append(_sent_step(turn))
    if turn.ended is not None:
        return [*steps, *_last_steps(turn.ended)]
    if turn.answered is not None and not turn.parts:
        steps.append({"name": "sent", "state": "active", "at": turn.answered.at})
    reached = _NAMES.index(str(steps[-1]["name"]))
    return [*steps, *_todo(*_NAMES[reached + 1 :])]


def _todo(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "state": "todo"} for name in names]


def _model_step(turn: Turn, asked: ModelAsked) -> dict[str, Any]:
    step: dict[str, Any] = {"name": "model", "at": asked.at}
    if turn.tools:
        step["tools"] = [{"name": ran.tool, "outcome": ran.outcome} for ran in turn.tools]
    if turn.answered is None:
        return {**step, "state": "active" if turn.ended is None else "failed"}
    calls = [*turn.rounds, turn.answered]
    return {
        **step,
        "state": "done",
        "duration_ms": sum(call.duration_ms for call in calls),
        "model": turn.answered.model,
        "input_tokens": sum(call.input_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
    }


def _sent_step(turn: Turn) -> dict[str, Any]:
    parts = [turn.parts[n] for n in sorted(turn.parts)]
    missing = parts[-1].parts - len(parts)
    return {
        "name": "sent",
        "state": "done" if not missing else ("active" if turn.ended is None else "failed"),
        "at": parts[-1].at,
        "duration_ms": sum(p.duration_ms for p in parts),
        "parts": parts[-1].parts,
        "sent": [
            {"part": p.part, "sid": p.part_sid, "delivery": turn.delivery.get(p.part_sid, "")}
            for p in parts
        ],
    }


def _last_steps(ended: TurnEnded) -> list[dict[str, Any]]:
    step: dict[str, Any] = {"at": ended.at, "reason": ended.reason, "detail": ended.detail}
    match ended.outcome:
        case "replied":
            return [{"name": "recorded", "state": "done", "at": ended.at}]
        case "handed_over":
            return [{"name": "handed_over", "state": "done", **step}]
        case "withheld":
            return [{"name": "withheld", "state": "done", **step}]
        case "retry":
            # Without a pause it is the queue, or the next process, that knows when.
            until = {"until": ended.at + ended.retry_in_ms} if ended.retry_in_ms > 0 else {}
            return [{"name": "retry", "state": "active", **step, **until}]
        case "lease_lost":
            return [{"name": "retry", "state": "active", **step, "reason": "lease_lost"}]
        case _:
            return [{"name": "failed", "state": "failed", **step}]
