"""When a burst is over."""

from dataclasses import dataclass

# SQS: DelaySeconds is 0 to 900.
MAX_DELAY_SECONDS = 900
# To send a wake-up and receive it takes less, unless something is wrong.
EARLY_MS = 500


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How long to wait for the rest of a burst. Times in milliseconds."""

    quiet_ms: int = 5_000
    max_wait_ms: int = 30_000
    max_messages: int = 20

    def closes_at(self, *, last_at: int, first_received_at: int, pending: int) -> int:
        """When the window of this burst closes, in epoch ms; 0 when it is full already."""
        if pending >= self.max_messages:
            return 0
        return min(last_at + self.quiet_ms, first_received_at + self.max_wait_ms)


def delay_seconds(at: int, now: int) -> int:
    """SQS DelaySeconds, 0 to 900, that brings a wake-up at `at` or less than a second later; epoch
    ms."""
    return max(0, min(-((now - at) // 1000), MAX_DELAY_SECONDS))


def early_delay_seconds(closes_at: int, now: int) -> int:
    """As `delay_seconds`, but that the wake-up is there before the window closes. Whoever gets it
    waits for the rest, so that STAGE, the send and SQS's own time are no part of the customer's
    wait."""
    return max(0, min((closes_at - now - EARLY_MS) // 1000, MAX_DELAY_SECONDS))
