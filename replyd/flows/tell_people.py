"""What people get when a part of a reply was not delivered: the message that it answered."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from replyd.domain import turn
from replyd.domain.callback import Found, Part
from replyd.domain.messages import InboundMessage, Params, first_value
from replyd.domain.record import Conversation, Item, Pending, conversation_from
from replyd.domain.wakeup import BodyCodec
from replyd.flows.workbench import NO_LONGER_STORED, stored_message
from replyd.ports import ConversationStore, HandoffQueue


class TellPeople:
    """Puts one body with the reason `undelivered` onto people's queue. Raises as the store and the
    queue do."""

    def __init__(
        self,
        *,
        store: ConversationStore,
        handoffs: HandoffQueue,
        codec: BodyCodec,
        address_attribute: str,
        explain: Callable[[str], str],
    ) -> None:
        """`explain`: what the vendor's error code means, or empty."""
        self._store = store
        self._handoffs = handoffs
        self._codec = codec
        self._address_attribute = address_attribute
        self._explain = explain

    async def __call__(self, part: Part, found: Found, item: Item, params: Params) -> None:
        """`item` is the record that has the failure, `params` the callback's fields."""
        conversation = conversation_from(item, part.key, address_attribute=self._address_attribute)
        pending = _pending(conversation, part.turn_id)
        message = await stored_message(self._store, pending) if pending else None
        entry = _answered(conversation, part.turn_id)
        if message is None:
            message = _from_history(entry, conversation, params)
        # From the record, so that a repeated body has the same words.
        code = found.entry.get("delivery_error") or first_value(params, "ErrorCode")
        reason = self._explain(str(code))
        body = self._codec.encode(
            key=part.key,
            seq=pending.seq if pending else _settled_seq(conversation, part.turn_id),
            received_at=pending.received_at if pending else _ms(entry.get("timestamp")),
            message=message,
            conversation_id=conversation.conversation_id,
            thread_id=conversation.thread_id,
            company_tel=conversation.company_tel,
            handoff_reason=turn.UNDELIVERED,
            handoff_detail=f"reply {part.sid} was not delivered" + (reason and f": {reason}"),
            handoff_summary=str(found.entry.get("content", "")),
        )
        await self._handoffs.send([body])


def _pending(conversation: Conversation, turn_id: str) -> Pending | None:
    """The newest message of the turn, while the turn is in the outbox."""
    outbox = conversation.outbox
    if outbox is None or outbox.turn_id != turn_id or not outbox.seqs:
        return None
    newest = max(outbox.seqs)
    return next((p for p in conversation.pending if p.seq == newest), None)


def _answered(conversation: Conversation, turn_id: str) -> Mapping[str, Any]:
    """The entry of the newest message of the turn; of the conversation, where the turn answers
    none or has left the record for the archive."""
    outbox = conversation.outbox
    entries = [*conversation.messages, *(outbox.entries if outbox else ())]
    users = [e for e in entries if e.get("role") == "user"]
    ours = [e for e in users if e.get("turn_id") == turn_id]
    return (ours or users or [{}])[-1]


def _from_history(
    entry: Mapping[str, Any], conversation: Conversation, params: Params
) -> InboundMessage:
    return InboundMessage(
        sid=str(entry.get("message_id") or "unknown"),
        # The callback's are as the customer's message had them, the other way round.
        sender=first_value(params, "To") or conversation.customer,
        recipient=first_value(params, "From") or conversation.company_tel,
        body=str(entry.get("content") or NO_LONGER_STORED),
    )


def _settled_seq(conversation: Conversation, turn_id: str) -> int:
    """The record knows it of its last turn alone; 0 of others."""
    return conversation.settled if conversation.last_turn == turn_id else 0


def _ms(timestamp: object) -> int:
    """Epoch ms of an entry's time; 0 when it has none that can be read."""
    try:
        stamp = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return 0
    return round((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp() * 1000)
