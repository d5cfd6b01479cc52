"""Messages as the rest of replyd knows them, whatever channel or queue brought them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replyd.domain import address

Params = Mapping[str, str | list[str]]


# DynamoDB refuses an attribute without a name. Twilio's are below 40 bytes.
_NAME_BYTES = 255


def texts(raw: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Parameters as they should be: texts, or lists of texts. Null is empty, never "None". Those
    whose name no record can hold are left out, so that the message is none the worse for them."""
    return {
        str(name): [_text(v) for v in value] if isinstance(value, list) else _text(value)
        for name, value in raw.items()
        if 0 < len(str(name).encode("utf-8", "surrogatepass")) <= _NAME_BYTES
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)


def first_value(params: Params, name: str) -> str:
    """The parameter's value, the first one if it is repeated, or empty."""
    value: object = params.get(name)
    if isinstance(value, list):
        value = value[0] if value else None
    return _text(value)


def media_type(content_type: str) -> str:
    """A content type in lower case, without parameters such as `codecs=opus`."""
    return content_type.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """The exact key of a conversation's item. `sort` is empty where the table has no sort key."""

    partition: str
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """A file that came with a message; the contents stay at `url` until somebody fetches them."""

    url: str
    content_type: str


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One message from a customer. `sender` and `recipient` carry the channel prefix."""

    sid: str
    sender: str
    recipient: str
    body: str = ""
    profile_name: str = ""
    account_sid: str = ""
    media: tuple[Media, ...] = ()
    params: Params = field(default_factory=dict)

    @property
    def customer(self) -> str:
        return address.bare(self.sender)

    @property
    def business(self) -> str:
        return address.bare(self.recipient)

    @property
    def channel(self) -> address.Channel:
        return address.channel(self.sender)

    def param(self, name: str) -> str:
        """The parameter's value as Twilio sent it, the first one if repeated, or empty."""
        value: object = self.params.get(name, "")
        if isinstance(value, list):
            value = value[0] if value else ""
        return value if isinstance(value, str) else ""

    def as_dict(self) -> dict[str, Any]:
        """The `message` object of a queue body."""
        return {
            "sid": self.sid,
            "from": self.sender,
            "to": self.recipient,
            "body": self.body,
            "profile_name": self.profile_name,
            "media": [{"url": m.url, "content_type": m.content_type} for m in self.media],
            "params": dict(self.params),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "InboundMessage":
        """The inverse of `as_dict`.

        Raises KeyError, TypeError, ValueError or AttributeError on another shape."""
        sid, sender, recipient = data["sid"], data["from"], data["to"]
        # `str(None)` would make all messages without a SID one and the same message.
        if not all(isinstance(v, str) and v for v in (sid, sender, recipient)):
            raise ValueError("a message needs sid, from and to")
        params = texts(data.get("params") or {})
        account = params.get("AccountSid", "")
        return cls(
            sid=sid,
            sender=sender,
            recipient=recipient,
            body=str(data.get("body") or ""),
            profile_name=str(data.get("profile_name") or ""),
            account_sid=account if isinstance(account, str) else "",
            media=tuple(
                Media(str(m["url"]), str(m.get("content_type") or ""))
                for m in data.get("media") or ()
            ),
            params=params,
        )


@dataclass(frozen=True, slots=True)
class OutboundPart:
    """One message to a customer. `sender` and `recipient` carry the channel prefix. `content_sid`:
    of a template that goes out instead of `text`, with these values of its variables."""

    account_sid: str
    sender: str
    recipient: str
    text: str
    status_callback: str = ""
    content_sid: str = ""
    content_variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the vendor has accepted from us, whatever became of it. `at`: its creation
    by the vendor's clock, epoch ms, in whole seconds."""

    sid: str
    text: str
    at: int
