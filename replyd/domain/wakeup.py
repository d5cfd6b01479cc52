"""The bodies of queue messages, on both queues: JSON, versioned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.record import iso
from replyd.errors import PoisonMessage

VERSION = 1


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Look at this conversation: message `seq` is, or was, pending there."""

    key: ConversationKey
    seq: int
    sid: str = ""


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
            "handoff_reason": handoff_reason,
            "handoff_detail": handoff_detail,
            "handoff_summary": handoff_summary,
        }
        body |= {name: value for name, value in extras.items() if value}
        return json.dumps(body, separators=(",", ":"))

    def decode(self, body: str) -> Wakeup | Foreign:
        """Raises PoisonMessage, without any of the body's content, when it cannot be read."""
        try:
            data = json.loads(body)
        except ValueError as error:
            raise PoisonMessage("the body is not JSON") from error
        if not isinstance(data, dict):
            raise PoisonMessage("the body is not a JSON object")
        if data.get("version", VERSION) != VERSION:
            raise PoisonMessage(f"the body's version is not {VERSION}")
        if "seq" in data:
            return self._wakeup(data)
        if isinstance(data.get("twilio_message"), dict):
            return Foreign(_texts(data["twilio_message"]))
        if isinstance(data.get("message"), dict):
            try:
                message = InboundMessage.from_dict(_texts_within(data["message"]))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise PoisonMessage("`message` is not in the documented shape") from error
            return Foreign(message.params, message)
        raise PoisonMessage("the body has neither `seq`, `message` nor `twilio_message`")

    def _wakeup(self, data: Mapping[str, Any]) -> Wakeup:
        key, seq = data.get("key"), data["seq"]
        if not isinstance(key, dict) or not isinstance(seq, int):
            raise PoisonMessage("`key` or `seq` is missing or of the wrong type")
        partition, sort = key.get(self.partition_key), key.get(self.sort_key, "")
        if not isinstance(partition, str) or not isinstance(sort, str) or not partition:
            raise PoisonMessage(
                f"`key` has no {self.partition_key}"
                + (f" and {self.sort_key}" if self.sort_key else "")
            )
        message = data.get("message")
        sid = message.get("sid", "") if isinstance(message, dict) else ""
        return Wakeup(ConversationKey(partition, sort), seq, str(sid))


def _texts(params: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Parameters as texts that DynamoDB can store: lone surrogates become `?`."""
    return {
        _clean(name): [_clean(v) for v in value] if isinstance(value, list) else _clean(value)
        for name, value in params.items()
    }


def _texts_within(value: Any) -> Any:
    if isinstance(value, dict):
        return {_clean(k): _texts_within(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_texts_within(v) for v in value]
    return _clean(value) if isinstance(value, str) else value


def _clean(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")
