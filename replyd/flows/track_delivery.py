"""STATUS CALLBACK: what became of a message that replyd sent."""

from collections.abc import Callable
from typing import Any

from replyd.domain import delivery
from replyd.domain.callback import Found, Part, find, part_of
from replyd.domain.events import DeliveryReported, DependencyFailed
from replyd.domain.expressions import Applied
from replyd.domain.messages import Params, first_value
from replyd.domain.record import Item
from replyd.errors import Busy, DependencyError
from replyd.flows.tell_people import TellPeople
from replyd.ports import Clock, ConversationStore, Telemetry

# Each refusal means that somebody else has changed the same entry, or moved it.
_TRIES = 3


class TrackDelivery:
    """Counts every report; writes the states in `recorded` into the record; tells people of a part
    that was not delivered.

    The order is: the state into the record, the body onto people's queue, the mark `people_told`
    into the record. A report that raises in between is not lost: when it comes again, the record
    shows a failure without the mark. Nobody holds a lease here, so people can be told twice, when
    an instance ends between queue and mark or when two get the same report at once, and never not
    at all, as they could be if the mark came first or if only a new state told them.

    Raises as the store and the queue do."""

    def __init__(
        self,
        store: ConversationStore,
        tell: TellPeople,
        clock: Clock,
        telemetry: Telemetry,
        recorded: frozenset[str],
        throttled: Callable[[str, str, str], None],
    ) -> None:
        """`throttled`: told the account, the sender and the error code of each failure."""
        self._store = store
        self._tell = tell
        self._clock = clock
        self._telemetry = telemetry
        self._recorded = recorded
        self._throttled = throttled

    async def __call__(self, params: Params, query: Params) -> None:
        """`params`: the signed fields; `query`: what `domain.callback` put into the URL."""
        sid = first_value(params, "MessageSid") or first_value(params, "SmsSid")
        status = first_value(params, "MessageStatus") or first_value(params, "SmsStatus")
        error_code = first_value(params, "ErrorCode")
        if error_code:
            sender = first_value(params, "From")
            self._throttled(first_value(params, "AccountSid"), sender, error_code)
        part = part_of(sid, query)
        written = told = False
        if part is not None and status in self._recorded:
            written, item = await self._record(part, status, error_code)
            try:
                if status in delivery.NOT_DELIVERED:
                    told = await self._tell_once(part, item, params)
            except DependencyError as error:
                self._failed(error)
                self._report(sid, status, error_code, written, told=False)
                raise
        self._report(sid, status, error_code, written, told=told)

    def _report(self, sid: str, status: str, code: str, written: bool, *, told: bool) -> None:
        now = self._clock.now()
        self._telemetry.emit(DeliveryReported(sid, status, code, written, now, told))

    def _failed(self, error: DependencyError) -> None:
        self._telemetry.emit(DependencyFailed.of(error, "report"))

    async def _record(self, part: Part, status: str, error_code: str) -> tuple[bool, Item]:
        """Whether the state is new, and, of a failure, the item that has it."""
        report: dict[str, Any] = {"message_id": part.sid, "delivery": status}
        if error_code:
            report["delivery_error"] = error_code
        step = delivery.report_in_outbox(part.turn_id, part.entry, report)
        for _ in range(_TRIES):
            result = await self._store.apply(part.key, step)
            if isinstance(result, Applied):
                return True, result.item
            item = result.item or {}
            found = find(item, part)
            if found is None or found.index is None or not delivery.replaces(status, found.entry):
                return False, item
            step = delivery.report_in_history(found.index, part.sid, report, turn_id=part.turn_id)
        raise Busy("dynamodb", "the record kept changing under a delivery report")

    async def _tell_once(self, part: Part, item: Item, params: Params) -> bool:
        if not item:
            return False
        # A part that the record does not have has left it for the archive, or its COMMIT could not
        # take texts. The callback is signed, and its URL is ours: people learn of it all the same.
        found = find(item, part) or Found({})
        if found.entry.get(delivery.PEOPLE_TOLD):
            return False
        await self._tell(part, found, item, params)
        if not found.entry:
            return True
        try:
            await self._mark(part, found)
        except DependencyError as error:
            # People know: to have the report again would only tell them again.
            self._failed(error)
        return True

    async def _mark(self, part: Part, found: Found) -> None:
        place: Found | None = found
        for _ in range(_TRIES):
            if place is None:
                return
            if place.index is None:
                step = delivery.people_told_in_outbox(part.turn_id, part.entry, part.sid)
            else:
                step = delivery.people_told_in_history(place.index, part.sid)
            result = await self._store.apply(part.key, step)
            if isinstance(result, Applied):
                return
            place = find(result.item or {}, part)
