"""Whether services get on with their work, or hang."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# More than any one request to AWS takes with its repetitions.
REQUEST_SECONDS = 60.0


class Progress:
    """Services say how long their next step may take; one that takes longer is stuck.

    Limits are far above what a slow dependency costs: slowness is not mended by a restart, a step
    that never ends is. `elapsed`: seconds on a clock that only goes forward."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._deadlines: dict[object, tuple[str, float]] = {}

    @contextmanager
    def within(self, step: str, seconds: float = REQUEST_SECONDS) -> Iterator[None]:
        """Around a step that ends, well or badly, within so many seconds."""
        token = object()
        self._deadlines[token] = step, self._elapsed() + seconds
        try:
            yield
        finally:
            del self._deadlines[token]

    def stuck(self) -> list[str]:
        """The steps that should have ended by now."""
        now = self._elapsed()
        return sorted({step for step, deadline in self._deadlines.values() if deadline < now})
