"""What a person asks to be sent, and what they are told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from replyd.domain import person_steps
from replyd.domain.delivery import ACCEPTED, NOT_DELIVERED, NOT_SENT, UNKNOWN
from replyd.domain.record import Entry
from replyd.domain.text import split_reply

Reason = Literal[
    "no_conversation",
    "busy",
    "opted_out",
    "no_business_number",
    "unknown_account",
    "key_used",
    "not_sent",
    "try_again",
    "window_closed",
]


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing was done; `text` says why, and what to do. `code`: the vendor's."""

    reason: Reason
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One message of an answer. `delivery`: `unknown` where it may have been sent, `not_sent`, or
    the last state known; `error`: why it was not delivered."""

    sid: str
    text: str
    delivery: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a person's answer. `again`: an earlier request with the same key sent it.
    `why`: what stopped it, if anything did."""

    turn_id: str
    parts: tuple[Part, ...]
    again: bool = False
    why: str = ""

    @property
    def delivery(self) -> str:
        """Of all parts: `accepted`, `partly_sent`, `not_delivered`, or `unknown` when it cannot be
        told of one whether it was sent."""
        states = {part.delivery for part in self.parts}
        if UNKNOWN in states:
            return UNKNOWN
        if NOT_SENT in states:
            return "partly_sent"
        return "not_delivered" if states & NOT_DELIVERED else ACCEPTED


@dataclass(frozen=True, slots=True)
class Request:
    """`key`: whoever asks gives the same one when they ask again. `account_sid`: of Twilio, where
    the conversation does not tell."""

    text: str
    author: str
    key: str
    account_sid: str = ""

    @property
    def turn_id(self) -> str:
        return person_steps.turn_of(self.key)

    @property
    def parts(self) -> tuple[str, ...]:
        return split_reply(self.text)


KEY_USED = Declined("key_used", "this Idempotency-Key has sent another text: use a new one")
NO_CONVERSATION = Declined("no_conversation", "no such conversation")
BUSY = Declined("busy", "the AI is at work on it: try again in a few seconds")
OPTED_OUT = Declined(
    "opted_out", "the customer has opted out: nobody may write to them until they say START"
)


def as_recorded(said: Sequence[Entry], texts: Sequence[str]) -> tuple[Part, ...]:
    """What became of each text; where the record could not take any, nobody knows."""
    left, parts = list(said), []
    for text in texts:
        found = next((e for e in left if e.get("content") == text), None)
        if found is not None:
            left.remove(found)
        missing = {"content": text, "delivery": NOT_SENT if said else UNKNOWN}
        parts.append(part_of(found or missing))
    return tuple(parts)


def part_of(entry: Mapping[str, Any]) -> Part:
    """As its entry in the history tells it."""
    return Part(
        sid=str(entry.get("message_id") or ""),
        text=str(entry.get("content") or ""),
        delivery=str(entry.get("delivery") or UNKNOWN),
        error=str(entry.get("delivery_error") or ""),
    )
