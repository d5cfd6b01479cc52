"""Traces, by the settings."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from types import ModuleType

from replyd import __version__
from replyd.bootstrap.parts import Parts
from replyd.errors import ConfigError
from replyd.ports import Telemetry, Tracing
from replyd.settings import Settings
from replyd.telemetry import Fanout
from replyd.telemetry.span_sink import SpanSink
from replyd.telemetry.traced import (
    TracedChannel,
    TracedHandoffs,
    TracedModel,
    TracedStore,
    TracedToolbox,
    TracedWakeups,
)


def require_traces(settings: Settings) -> None:
    """Raises ConfigError where traces are on and what they need is not installed."""
    if settings.traces.enabled:
        _traces()


def tracing(
    settings: Settings, instance: str, lost: Callable[[], None]
) -> AbstractAsyncContextManager[Tracing | None]:
    """None where traces are off. `instance`: this process among others; `lost`: called for each
    batch of spans that did not get out. Raises ConfigError."""
    if not settings.traces.enabled:
        return nullcontext()
    opened: AbstractAsyncContextManager[Tracing] = _traces().opened(
        endpoint=settings.traces.endpoint,
        sample_ratio=settings.traces.sample_ratio,
        version=__version__,
        instance=instance,
        lost=lost,
    )
    return opened


def _traces() -> ModuleType:
    try:
        # Only here: to import it takes time, and few have it installed.
        from replyd.telemetry import traces  # noqa: PLC0415 - as said above
    except ImportError as error:
        missing = f"traces.enabled is true and {error.name} is not installed"
        raise ConfigError([f"{missing}: pip install 'replyd[otel]'"]) from None
    return traces


def traced(
    settings: Settings, parts: Parts, telemetry: Telemetry, tracing: Tracing
) -> tuple[Parts, Telemetry]:
    """The same, and a trace shows what they do."""
    queues = settings.queues
    around = replace(
        parts,
        store=TracedStore(parts.store, tracing),
        wakeups=TracedWakeups(parts.wakeups, tracing, _name(queues.replies_url)),
        handoffs=TracedHandoffs(parts.handoffs, tracing, _name(queues.handoff_url)),
        model=TracedModel(parts.model, tracing, lambda name: _model(settings, name)),
        channel=TracedChannel(parts.channel, tracing),
        toolbox=TracedToolbox(parts.toolbox, tracing),
    )
    return around, Fanout([telemetry, SpanSink(tracing)])


def _name(queue_url: str) -> str:
    return queue_url.rpartition("/")[2]


def _model(settings: Settings, name: str) -> str:
    """An assistant has its own, unless its profile names another."""
    profile = settings.ai.profile(name)
    own = profile.backend == "assistants" and "model" not in profile.model_fields_set
    return "" if own else profile.model
