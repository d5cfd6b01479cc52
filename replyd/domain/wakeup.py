"""The bodies of queue messages, on both queues: JSON, versioned."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from replyd.domain.address import bare, is_address
from replyd.domain.messages import ConversationKey, InboundMessage, texts
from replyd.domain.record import epoch_ms, iso
from replyd.errors import PoisonMessage

VERSION = 1

# Looser than Twilio's, as other handlers may name their messages otherwise, yet a name that the
# record can keep.
_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Look at this conversation: message `seq` is, or was, pending there. `business`: the
    company's number without the channel prefix, empty where the body does not tell. `closes_at`:
    when its window closes, epoch ms, unless more has come; 0 where the body does not tell."""

    key: ConversationKey
    seq: int
    sid: str = ""
    business: str = ""
    closes_at: int = 0


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message that another webhook handler put on the queue: nothing is staged yet."""

    params: Mapping[str, str | list[str]]
    message: InboundMessage | None = None


@dataclass(frozen=True, slots=True)
class BodyCodec:
    """Writes and reads bodies for a table whose key attributes have these names."""

    partition_key: str = "recipient_tel"
    sort_key: str = "conversation_id"

    def encode(
        self,
        *,
        key: ConversationKey,
        seq: int,
        received_at: int,
        message: InboundMessage,
        conversation_id: str,
        thread_id: str = "",
        company_tel: str = "",
        closes_at: int = 0,
        handoff_reason: str = "",
        handoff_detail: str = "",
        handoff_summary: str = "",
    ) -> str:
        """ASCII JSON: SQS refuses some control characters, and escaping leaves none."""
        item_key = {self.partition_key: key.partition}
        if self.sort_key:
            item_key[self.sort_key] = key.sort
        body: dict[str, Any] = {
            "version": VERSION,
            "seq": seq,
            "received_at": iso(received_at),
            "key": item_key,
            "message": message.as_dict(),
            "conversation": {
                "conversation_id": conversation_id,
                "thread_id": thread_id,
                "company_tel": company_tel,
            },
        }
        extras = {
            "closes_at": iso(closes_at) if closes_at else "",
            "handoff_reason": handoff_reason,
            "handoff_detail": handoff_detail,
            "handoff_summary": handoff_summary,
        }
        body |= {name: value for name, value in extras.items() if value}
        return json.dumps(body, separators=(",", ":"))

    def decode(self, body: str) -> Wakeup | Foreign:
        """Raises PoisonMessage, without any of the body's content, when it cannot be read."""
        # `from None`: an error of the parser carries the body, and may be logged.
        try:
            return self._decode(json.loads(body))
        except ValueError:
            raise PoisonMessage("the body is not JSON") from None
        except RecursionError:
            raise PoisonMessage("the body is nested too deeply") from None

    def _decode(self, data: Any) -> Wakeup | Foreign:
        if not isinstance(data, dict):
            raise PoisonMessage("the body is not a JSON object")
        if data.get("version", VERSION) != VERSION:
            raise PoisonMessage(f"the body's version is not {VERSION}")
        if "seq" in data:
            return self._wakeup(data)
        if isinstance(data.get("twilio_message"), dict):
            return Foreign(_cleaned(texts(data["twilio_message"])))
        if isinstance(data.get("message"), dict):
            message = _message(_cleaned(data["message"]))
            return Foreign(message.params, message)
        raise PoisonMessage("the body has neither `seq`, `message` nor `twilio_message`")

    def _wakeup(self, data: Mapping[str, Any]) -> Wakeup:
        key, seq = data.get("key"), data["seq"]
        # `true` is an int in Python.
        if not isinstance(key, dict) or not isinstance(seq, int) or isinstance(seq, bool):
            raise PoisonMessage("`key` or `seq` is missing or of the wrong type")
        if seq < 1:
            raise PoisonMessage("`seq` is not positive")
        partition = key.get(self.partition_key)
        if not _is_key(partition):
            raise PoisonMessage(f"`key` has no {self.partition_key}")
        sort = key.get(self.sort_key) if self.sort_key else None
        if self.sort_key and not _is_key(sort):
            raise PoisonMessage(f"`key` has no {self.sort_key}")
        item_key = ConversationKey(partition, sort if _is_key(sort) else "")
        # The conversation's own number; a record without one takes messages to any.
        business = _text(data, "conversation", "company_tel") or _text(data, "message", "to")
        sid = _text(data, "message", "sid")
        return Wakeup(item_key, seq, sid, bare(business), _time(data.get("closes_at")))


def _time(value: object) -> int:
    """Epoch ms; 0 for what is no time, as one may do without."""
    try:
        return epoch_ms(str(value))
    except (ValueError, OverflowError):
        return 0


def _text(data: Mapping[str, Any], part: str, name: str) -> str:
    """What one may do without: empty if it is not there or no text."""
    inner = data.get(part)
    value = inner.get(name) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _is_key(value: object) -> TypeGuard[str]:
    """Whether the table can have it as a key: a text, not empty, without lone surrogates."""
    return isinstance(value, str) and value != "" and _clean(value) == value


def _message(data: Mapping[str, Any]) -> InboundMessage:
    try:
        message = InboundMessage.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PoisonMessage("`message` is not in the documented shape") from None
    if not (is_address(message.sender) and is_address(message.recipient)):
        raise PoisonMessage("`message` has a `from` or `to` that is no address")
    if _SID.fullmatch(message.sid) is None:
        raise PoisonMessage("`message` has a `sid` that is none")
    return message


def _cleaned(value: Any) -> Any:
    """With texts that DynamoDB can store: lone surrogates become `?`."""
    if isinstance(value, dict):
        return {_clean(k): _cleaned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_cleaned(v) for v in value]
    return _clean(value) if isinstance(value, str) else value


def _clean(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")
