"""STATUS CALLBACK: what became of a message that replyd sent."""

from collections.abc import Mapping
from typing import Any

from replyd.domain import record, steps
from replyd.domain.events import DeliveryReported
from replyd.domain.expressions import Applied, Refused
from replyd.domain.messages import ConversationKey, Params, first_value
from replyd.ports import Clock, ConversationStore, Telemetry


class TrackDelivery:
    """Counts every report; writes the states in `recorded` into the record.

    Raises as the store does. Twilio does not repeat callbacks: a lost one is a gap in the record
    and nothing else."""

    def __init__(
        self,
        store: ConversationStore,
        clock: Clock,
        telemetry: Telemetry,
        recorded: frozenset[str],
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._recorded = recorded

    async def __call__(self, params: Params, query: Params) -> None:
        """`params`: the signed fields; `query`: what `domain.callback` put into the URL."""
        sid = first_value(params, "MessageSid") or first_value(params, "SmsSid")
        status = first_value(params, "MessageStatus") or first_value(params, "SmsStatus")
        error_code = first_value(params, "ErrorCode")
        written = status in self._recorded and await self._record(sid, status, error_code, query)
        self._telemetry.emit(DeliveryReported(sid, status, error_code, written, self._clock.now()))

    async def _record(self, sid: str, status: str, error_code: str, query: Params) -> bool:
        key = ConversationKey(first_value(query, "p"), first_value(query, "s"))
        entry = first_value(query, "entry")
        if not key.partition or not entry.isdecimal():
            return False
        report: dict[str, Any] = {"message_id": sid, "delivery": status}
        if error_code:
            report["delivery_error"] = error_code
        turn_id = first_value(query, "turn")
        result = await self._store.apply(key, steps.report_in_outbox(turn_id, int(entry), report))
        for _ in range(3):
            if isinstance(result, Applied):
                return True
            index = _place(result, sid, turn_id, int(entry))
            if index is None:
                return False
            step = steps.report_in_history(index, sid, report, turn_id=turn_id)
            result = await self._store.apply(key, step)
        return False


def _place(result: Refused, sid: str, turn_id: str, entry: int) -> int | None:
    """Where the history has this message: by its SID, else, when an answer with the SID was lost,
    by its place in the turn."""
    history = (result.item or {}).get(record.MESSAGES) or []
    entries = [(i, e) for i, e in enumerate(history) if isinstance(e, Mapping)]
    for index, found in reversed(entries):
        if found.get("message_id") == sid:
            return index
    turn = [(i, e) for i, e in entries if turn_id and e.get("turn_id") == turn_id]
    if entry < len(turn) and not turn[entry][1].get("message_id"):
        return turn[entry][0]
    return None
