"""How far the explorer looks: the sizes, the faults that a run may contain, and the settings."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from replyd.domain.turn import TurnPolicy
from replyd.domain.window import WindowPolicy

# The model has one instant: what time does is written into the item (see `item.aged`).
NOW = 1_000_000_000
LEASE_MS = 60_000
SKEW_MS = 2_000
# The clock before the only jump that matters: a lease from then has run out.
BEFORE = NOW - LEASE_MS - SKEW_MS - 1


class Budget(NamedTuple):
    """What may still go wrong. A run without a budget is fair weather."""

    # A worker or a webhook's process ends.
    crashes: int = 0
    # A worker stands still for longer than its lease.
    stalls: int = 0
    # An answer does not come: of the table, a queue, or the channel.
    lost: int = 0
    # The model, the channel or its list refuse, for now or for good.
    refusals: int = 0
    # People take the conversation, or give it back.
    flags: int = 0
    # A webhook comes again after its 200 or while it is under way; a held wake-up becomes visible.
    redeliveries: int = 0
    # Status callbacks of accepted parts.
    callbacks: int = 0
    # A worker is told to stop.
    drains: int = 0
    # Writes that arrive after their sender gave them up, or ended.
    ghosts: int = 0
    # Writes that arrive once more, after they were answered.
    repeats: int = 0


FAIR = Budget()


@dataclass(frozen=True)
class Bounds:
    """`stop`: the last message is STOP. `window`: bursts have a quiet time to wait for."""

    workers: int = 2
    messages: int = 2
    parts: int = 1
    budget: Budget = FAIR
    max_attempts: int = 2
    max_restarts: int = 1
    apology: bool = False
    stop: bool = False
    window: bool = False
    on_ambiguous: Literal["resend", "handoff"] = "handoff"
    max_states: int = 0

    @property
    def policy(self) -> TurnPolicy:
        return TurnPolicy(
            lease_ms=LEASE_MS,
            skew_ms=SKEW_MS,
            max_attempts=self.max_attempts,
            max_restarts=self.max_restarts,
            on_ambiguous=self.on_ambiguous,
            apology=self.apology,
        )

    @property
    def quiet(self) -> WindowPolicy:
        """Without a window it has closed long ago, also by the clock before the jump."""
        quiet_ms = 5_000 if self.window else -10 * LEASE_MS
        return WindowPolicy(quiet_ms=quiet_ms, max_wait_ms=abs(quiet_ms), max_messages=20)
