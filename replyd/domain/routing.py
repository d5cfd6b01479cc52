"""Which record a message belongs to, and what an unknown sender gets."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from replyd.domain import address, record, text
from replyd.domain.messages import InboundMessage
from replyd.domain.record import Candidate

NOTICE_PERIOD_SECONDS = 24 * 60 * 60
# Larger messages lie in an item of their own, so that a burst of them cannot fill the record.
MAX_INLINE_BYTES = 8 * 1024

_NAMESPACE = uuid.UUID("6f1c1a70-5f0b-4f8e-9a65-1c1f6f3a2b11")


@dataclass(frozen=True, slots=True)
class UnknownSenderPolicy:
    """`notice` is the text of the policy `notify`, sent at most once a day for each sender."""

    policy: Literal["discard", "create", "notify"] = "discard"
    notice: str = ""


@dataclass(frozen=True, slots=True)
class OptOutWords:
    """What Twilio says of a message (`OptOutType`) goes before these words, STOP before START: a
    message is never both."""

    stop: tuple[str, ...] = ("STOP",)
    start: tuple[str, ...] = ("START",)

    def is_stop(self, message: InboundMessage) -> bool:
        said = _opt_out_type(message)
        return said == "STOP" if said else text.is_word(message.body, self.stop)

    def is_start(self, message: InboundMessage) -> bool:
        said = _opt_out_type(message)
        if said:
            return said == "START"
        return text.is_word(message.body, self.start) and not self.is_stop(message)


def _opt_out_type(message: InboundMessage) -> str:
    said = message.param("OptOutType").upper()
    return said if said in ("STOP", "START") else ""


@dataclass(frozen=True, slots=True)
class Route:
    """`target` takes the message; `siblings` are the customer's other records with the business."""

    target: Candidate
    siblings: tuple[Candidate, ...]

    @property
    def opted_out(self) -> bool:
        return any(c.opted_out for c in (self.target, *self.siblings))


def choose(candidates: Iterable[Candidate], business: str) -> Route | None:
    """The record that accepted this SID before, else the newest with this business number.

    Records that name no business number at all serve when none names this one."""
    every = list(candidates)
    ours = [c for c in every if address.bare(c.company_tel) == business]
    ours = ours or [c for c in every if not c.company_tel]
    # Whatever has become of its `company_tel` since, or of the other records.
    accepted = [c for c in every if c.seen]
    if not (accepted or ours):
        return None
    target = max(accepted or ours, key=lambda c: (c.created_at, c.conversation_id))
    return Route(target, tuple(c for c in ours if c.key != target.key))


def new_conversation_id(customer: str, business: str) -> str:
    """The same for every instance, so that two webhooks at once create one record."""
    return f"c-{uuid.uuid5(_NAMESPACE, f'{customer}/{business}').hex[:20]}"


def new_conversation(message: InboundMessage, conversation_id: str, now: int) -> dict[str, Any]:
    """The attributes of a record for a customer who wrote first."""
    return {
        record.RECIPIENT_TEL: message.customer,
        record.CONVERSATION_ID: conversation_id,
        record.COMPANY_TEL: message.business,
        record.THREAD_ID: "",
        record.HANDOFF: False,
        record.STATUS: record.USER_REPLY_RECEIVED,
        record.MESSAGES: [],
        record.CREATED_AT: record.iso(now),
        record.UPDATED_AT: record.iso(now),
    }


def user_entries(taken: Sequence[tuple[str, int, str]], turn_id: str) -> list[record.Entry]:
    """History entries for messages given as (SID, arrival, readable text)."""
    return [
        {
            "message_id": sid,
            "role": "user",
            "content": content,
            "timestamp": record.iso(received_at),
            "turn_id": turn_id,
        }
        for sid, received_at, content in taken
    ]
