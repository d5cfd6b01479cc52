"""Tracebacks that may go to a log.

Frames and types say where a bug is. The text of an exception can quote what it met (a message, a
number, a key), so it is shown only for types whose texts the interpreter or replyd itself writes.
"""

import traceback
from collections.abc import Iterator

from structlog.typing import ExcInfo

from replyd.errors import ReplydError

_SHOWN = (
    ReplydError,
    ArithmeticError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RuntimeError,
    TimeoutError,
    TypeError,
)
_DEEPEST = 10


def without_texts(exc_info: ExcInfo) -> str:
    """For structlog's ExceptionRenderer: plain, no local variables."""
    return "\n".join(_lines(exc_info[1], with_texts=False))


def with_texts(exc_info: ExcInfo) -> str:
    """The same with every exception's text."""
    return "\n".join(_lines(exc_info[1], with_texts=True))


def _lines(error: BaseException, *, with_texts: bool, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        yield "…"
        return
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from _lines(earlier, with_texts=with_texts, depth=depth + 1)
        yield "which led to:"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    shown = with_texts or isinstance(error, _SHOWN)
    name = type(error).__qualname__
    yield f"{name}: {error}" if shown else f"{name} (its text is not shown)"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield "which holds:"
            yield from _lines(inner, with_texts=with_texts, depth=depth + 1)
