"""How long a run has taken, and about how much longer it will."""

import time
from collections.abc import Callable, Mapping


class Progress:
    """`expected`: seconds that each part will take, in their order."""

    def __init__(
        self, expected: Mapping[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._left = dict(expected)
        self._now = now
        self._began = self._part_began = now()
        self._part = 0.0

    def begin(self, part: str) -> None:
        self._part, self._part_began = self._left.pop(part), self._now()

    def elapsed(self) -> float:
        return self._now() - self._began

    def remaining(self) -> float:
        """A part that takes longer than expected counts as all but over."""
        of_part = max(0.0, self._part - (self._now() - self._part_began))
        return of_part + sum(self._left.values())

    def line(self) -> str:
        minutes, seconds = divmod(round(self.elapsed()), 60)
        return f"{minutes:2d}:{seconds:02d}, {self.remaining() / 60:2.0f} min left"
