"""What the runtime has for traces where they are off."""

from contextlib import AbstractContextManager, nullcontext

from replyd.ports import NOT_TRACED, Attributes, Span, TraceContext


class _NoSpan:
    def set(self, attributes: Attributes) -> None:
        """Nobody looks."""

    def link(self, context: TraceContext) -> None:
        """Nobody looks."""

    def failed(self, kind: str) -> None:
        """Nobody looks."""


_NO_SPAN = _NoSpan()
# It has no state: all blocks share it.
_NOTHING: AbstractContextManager[Span] = nullcontext(_NO_SPAN)


class NoTracing:
    """Implements `ports.Tracing`."""

    def begin(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        return _NOTHING

    def within(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        return _NOTHING

    def current(self) -> Span:
        return _NO_SPAN

    def context(self) -> TraceContext:
        return NOT_TRACED
