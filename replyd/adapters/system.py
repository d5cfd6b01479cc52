"""Time and chance from the operating system."""

import random
import time
import uuid


class SystemClock:
    """`elapsed` uses CLOCK_BOOTTIME where there is one: CLOCK_MONOTONIC sleeps with the machine,
    and a lease does not."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SystemIds:
    def fresh(self) -> str:
        return uuid.uuid4().hex

    def jitter(self) -> float:
        return random.random()  # noqa: S311 - spreads retries, guards nothing
