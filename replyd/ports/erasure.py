"""What is needed of the vendors to erase a customer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message that the vendor keeps. `inbound`: from the customer. `files`: how many it has."""

    account_sid: str
    sid: str
    inbound: bool
    files: int = 0


@dataclass(frozen=True, slots=True)
class KeptMessages:
    """`whole`: whether there are no others."""

    messages: tuple[KeptMessage, ...]
    whole: bool = True


# What has become of it: erased now, not there any more, or not to be erased yet.
Fate = Literal["erased", "gone", "not_yet"]


class MessageEraser(Protocol):
    """Every method raises Temporary, Busy or DependencyDown when it cannot be done for now, and
    Permanent when it never can. All may be repeated."""

    async def exchanged_with(self, account_sid: str, customer: str) -> KeptMessages:
        """What an account keeps of the messages from and to a customer, whatever its number was.
        `customer`: with the channel's prefix."""
        ...

    async def erase(self, account_sid: str, sid: str) -> Fate:
        """The message with its text, its addresses and its files."""
        ...


Kind = Literal["response", "item", "conversation", "file", "thread"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that the model's vendor keeps. `within`: the id of what it is a part of."""

    kind: Kind
    id: str
    within: str = ""


class ThreadEraser(Protocol):
    """Raises as a MessageEraser does."""

    async def kept(self, thread_id: str) -> Sequence[Kept]:
        """All that can be found of a thread, none when nobody knows it, in the order in which it
        has to be erased: what is left then can be found once more by the same id."""
        ...

    async def erase(self, what: Kept) -> bool:
        """False when it was gone already."""
        ...
