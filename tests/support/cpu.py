"""What a piece of work costs, for the tests that bound it."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CPUCLOCK_SCHED = 2


def process_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, children not included."""
    # The clock of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


@dataclass(slots=True)
class Spent:
    seconds: float = 0.0


@contextmanager
def spent(clock: Callable[[], float] = time.thread_time) -> Iterator[Spent]:
    """CPU time by `clock`: as it is, without what stand-ins do in other threads. Never with the
    collector, which would walk through all that earlier tests left behind."""
    found, collects = Spent(), gc.isenabled()
    gc.disable()
    began = clock()
    try:
        yield found
    finally:
        found.seconds = clock() - began
        if collects:
            gc.enable()
