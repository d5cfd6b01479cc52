"""When a burst is over."""

from dataclasses import dataclass

# SQS: DelaySeconds is 0 to 900.
MAX_DELAY_SECONDS = 900


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


def delay_seconds(closes_at: int, now: int) -> int:
    """SQS DelaySeconds that brings a wake-up when the window closes: rounded up, 0 to 900."""
    return max(0, min(-((now - closes_at) // 1000), MAX_DELAY_SECONDS))
