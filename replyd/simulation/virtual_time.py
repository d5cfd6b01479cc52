"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        if timeout is None:
            if ready := super().select(0):
                return ready
            raise RuntimeError("every task waits, and nothing is scheduled that could wake one")
        # The operating system is not asked: there is no real I/O, and it would cost more than all
        # else here. Never by nothing: a step below a float's precision would stand still for ever.
        if timeout > 0:
            self.now += max(timeout, 1e-6)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code without real I/O: `asyncio.sleep(3600)` takes no time and moves `time()` on."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now
