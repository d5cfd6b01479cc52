"""What the buffer does next with a conversation's wake-up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settled:
    """Wake-ups up to `seq` may be deleted."""

    seq: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Hold the wake-up until `at`, epoch ms."""

    at: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Not for now: come back after a growing pause, at least `delay_ms`."""

    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class PassOn:
    """Another worker has it: send a fresh wake-up for `at`, epoch ms, and delete this one."""

    at: int


Outcome = Settled | LookAgain | Retry | PassOn
