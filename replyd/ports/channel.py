"""The channel to customers, and the files that come with their messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from replyd.domain.catch_up import Inbox
from replyd.domain.messages import (
    InboundMessage,
    Media,
    OutboundPart,
    Params,
    SentMessage,
)
from replyd.ports.model import File


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A webhook as it came: the target as on the wire, every parameter in order."""

    target: str
    fields: Sequence[tuple[str, str]]
    signature: str
    signature_settings: str = ""


class Channel(Protocol):
    def knows_account(self, account_sid: str) -> bool: ...

    def is_authentic(self, request: SignedRequest) -> bool:
        """Whether the account named in the parameters signed exactly this. Constant time."""
        ...

    def parse(self, params: Params) -> InboundMessage:
        """Raises ValueError, which names the field, when this is no inbound message."""
        ...

    async def send(self, part: OutboundPart) -> str:
        """The SID once the vendor has accepted the message.

        Raises Ambiguous when it may have been accepted; Temporary, Busy or DependencyDown when
        it was certainly not and may be sent again; Permanent when it never will be."""
        ...

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        """What the vendor has accepted from `sender` to `recipient`, oldest first: all of it that
        was created at `since` (epoch ms, to the second) or later, perhaps also older messages.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        """What the vendor took from customers from `since` up to `until` (epoch ms, to the
        second), as far as its list tells it.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def state_of(self, account_sid: str, sid: str) -> str:
        """How far a message of ours has come: the vendor's word for it, `queued` or `accepted`
        first, then `sending`, `sent`, `delivered`, `read`, or `undelivered`, `failed`.

        Raises Temporary, Busy or DependencyDown when it cannot be read for now, Permanent when
        it never can be. Reading changes nothing and may be repeated."""
        ...

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        """Mark a customer's message, and those before it, as read, and show that an answer is
        being written: until it comes, or for 25 seconds, WhatsApp's limit.

        Raises Temporary, Busy or DependencyDown when it could not be shown for now, Permanent when
        it never will be. Never Ambiguous: it may be repeated."""
        ...


class MediaLibrary(Protocol):
    async def fetch(self, media: Media, account_sid: str) -> File:
        """A file that a customer sent. Raises Temporary, Busy or DependencyDown when it cannot be
        had for now; Permanent when it never can: gone, too large, of a kind that is not wanted, or
        not the vendor's to give."""
        ...
