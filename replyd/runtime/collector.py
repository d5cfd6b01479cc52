"""Python's garbage collector of cycles: it walks through objects while all else stands still."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# So many more objects than at the last look until the new ones are looked at, and so many looks
# until those are that came through the one before. Python's 700, 10 and 10 are for less: with a
# thousand turns under way the loop stood still again and again, for a quarter of a second at most.
_AFTER = (2_000, 10, 20)


@contextmanager
def resting() -> Iterator[None]:
    """It does nothing until `keep_what_is_loaded`: hardly anything that is loaded is garbage."""
    before = gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.enable()


def keep_what_is_loaded() -> None:
    """It need not walk through what stays anyway, above all not at the end, where that takes half a
    second that the next process waits for."""
    gc.freeze()
    gc.set_threshold(*_AFTER)
    gc.enable()
