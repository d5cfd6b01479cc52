"""What events say of the span that they happen in."""

from replyd.domain.address import tells
from replyd.domain.events import (
    DeliveryReported,
    DependencyFailed,
    Event,
    MessageAccepted,
    MessageDropped,
    ModelInterrupted,
    SendReconciled,
    ToolRan,
    TurnClaimed,
    TurnEnded,
)
from replyd.ports import Attributes, Tracing
from replyd.telemetry import labels

_GOOD_ENDS = frozenset({"replied", "handed_over", "withheld", "nothing_to_do"})


class SpanSink:
    """Implements `ports.Telemetry`: events as attributes of the current span. Free text, such as
    the `detail` of a turn, is left to the log."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def emit(self, event: Event) -> None:
        if attributes := _attributes(event):
            self._tracing.current().set(attributes)
        if isinstance(event, TurnEnded) and _is_failure(event):
            self._tracing.current().failed(event.outcome)


def _is_failure(ended: TurnEnded) -> bool:
    """A drain is none: another process goes on."""
    return ended.outcome not in _GOOD_ENDS and ended.reason != "drain"


def _attributes(event: Event) -> Attributes:
    match event:
        case MessageAccepted():
            return {
                "replyd.conversation_id": _shown(event.conversation_id, event.customer),
                "replyd.message_sid": event.sid,
                "replyd.seq": event.seq,
                "replyd.again": event.again,
            }
        case MessageDropped():
            return {"replyd.message_sid": event.sid, "replyd.dropped": event.reason}
        case TurnClaimed():
            return {"replyd.attempt": event.attempt, "replyd.message_sids": event.sids}
        case TurnEnded():
            return _of_turn(event)
        case ModelInterrupted():
            return {"replyd.interrupted": event.reason}
        case ToolRan(outcome="refused" | "repeated"):
            # The others have spans of their own.
            return {"replyd.tool_not_run": event.tool}
        case SendReconciled():
            return {"replyd.reconciled": event.outcome}
        case DeliveryReported():
            return {
                "messaging.message.id": event.sid,
                "replyd.delivery": _known(event.status, labels.DELIVERIES),
                "replyd.error_code": event.error_code,
            }
        case DependencyFailed():
            return {"replyd.failure": f"{event.dependency} {event.operation}"}
        case _:
            return {}


def _of_turn(event: TurnEnded) -> Attributes:
    return {
        "replyd.conversation_id": _shown(event.conversation_id, event.customer),
        "replyd.turn_id": event.turn_id,
        "replyd.outcome": event.outcome,
        "replyd.reason": _known(event.reason, labels.REASONS),
        "replyd.message_sids": event.sids,
        "replyd.reply_sids": event.reply_sids,
        "replyd.attempt": event.attempt,
        "replyd.restarts": event.restarts,
        "replyd.window_wait_ms": event.window_wait_ms,
        "replyd.input_tokens": event.input_tokens,
        "replyd.output_tokens": event.output_tokens,
        "replyd.cost_usd": event.microdollars / 1_000_000,
        "replyd.tool_calls": event.tool_calls,
        "replyd.profile": event.profile,
    }


def _shown(conversation_id: str, customer: str) -> str:
    """Nothing where it would tell the number: tables without a sort key have no other id."""
    return "" if tells(conversation_id, customer) else conversation_id


def _known(value: str, known: frozenset[str]) -> str:
    return value if not value or value in known else labels.OTHER
