"""The account of one turn: what it did, how long that took, what it cost."""

from dataclasses import dataclass, field

from replyd.domain import usage
from replyd.domain.record import Entry, Outbox
from replyd.ports import ModelReply


@dataclass(slots=True)
class Account:
    """What is known of a turn so far; becomes its one log line. `calls_open`: of the model, whose
    answer never came; `tools`: as they stand in the history."""

    claimed_at: int
    window_wait_ms: int = 0
    restarts: int = 0
    reconciled: int = 0
    model_ms: int = 0
    send_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    microdollars: int = 0
    calls_open: int = 0
    model: str = ""
    answer: str = ""
    turn_id: str = ""
    reply_sids: list[str] = field(default_factory=list)
    tools: list[Entry] = field(default_factory=list)

    def answered(self, reply: ModelReply, microdollars: int) -> None:
        """Count an answer of the model."""
        self.model = reply.model
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.cached_tokens += reply.cached_tokens
        self.microdollars += microdollars

    def recovered(self, outbox: Outbox) -> None:
        """Count what a reply has cost that another worker, or an earlier attempt, wrote."""
        for _, part in outbox.parts[:1]:
            self.model = str(part.get("model", ""))
            for name in ("input_tokens", "output_tokens", "cached_tokens", "microdollars"):
                setattr(self, name, int(part.get(name) or 0))

    def spent(self, reserve: usage.Spent) -> usage.Spent:
        """What the turn has cost so far."""
        tokens = self.input_tokens + self.output_tokens
        sure = usage.Spent(0, tokens, self.microdollars)
        return sure + usage.Spent(0, reserve.tokens, reserve.microdollars) * self.calls_open
