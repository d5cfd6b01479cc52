"""What a worker waits for, what it gets, and what it knows meanwhile. All values are hashable:
items, outboxes and other structures are canonical JSON."""

import json
from dataclasses import dataclass
from typing import Any

from replyd.domain import record as r
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Outbox, Pending

Json = str
KEY = ConversationKey("customer", "conversation")
Sids = tuple[tuple[int, str], ...]


def frozen(value: Any) -> Json:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def conversation(item: Json) -> Conversation:
    return r.conversation_from(json.loads(item), KEY)


def frozen_outbox(outbox: Outbox) -> Json:
    """Without the words for people, which decide nothing."""
    attribute = outbox.as_attribute()
    return frozen(attribute | {"detail": "", "summary": ""})


def outbox_from(attribute: Json) -> Outbox:
    outbox = r.conversation_from({r.OUTBOX: json.loads(attribute)}, KEY).outbox
    assert outbox is not None
    return outbox


# --- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apply:
    """A step of the protocol: its builder in `steps`, and what the builder needs."""

    step: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class AskModel:
    """Meanwhile the lease may be renewed, and show that the answer is not wanted any more."""


@dataclass(frozen=True)
class WaitWindow:
    """For the sender of newer messages to finish; with renewals, too."""


@dataclass(frozen=True)
class Write:
    """Start to send a part, if enough of the lease is left."""

    text: str
    turn_id: str
    entry: int


@dataclass(frozen=True)
class Await:
    """The channel's answer to a part."""

    part: Write


@dataclass(frozen=True)
class Grace:
    """Until every send has arrived or never will."""


@dataclass(frozen=True)
class ListSent:
    """What the channel has accepted."""


@dataclass(frozen=True)
class GiveToPeople:
    """`told`: people see the draft and what became of it."""

    sids: tuple[str, ...]
    reason: str
    told: bool


@dataclass(frozen=True)
class Fresh:
    """The id of a new turn."""


Request = Apply | AskModel | WaitWindow | Write | Await | Grace | ListSent | GiveToPeople | Fresh


# --- answers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Of a step of the worker that has `token`. `late`: it was asked for before the worker stood
    still."""

    applied: bool
    item: Json
    token: str
    late: bool = False


@dataclass(frozen=True)
class Failed:
    """Temporary: nobody knows whether it happened, and it is safe to repeat."""

    give_back: bool = False


@dataclass(frozen=True)
class Never:
    """Permanent."""


@dataclass(frozen=True)
class Unclear:
    """Ambiguous."""


@dataclass(frozen=True)
class Done:
    """With a value, where one was asked for."""

    value: str = ""


Reaction = Answer | Failed | Never | Unclear | Done


# --- a worker between two of them --------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A turn, as `flows.workbench.Turn`. `token` is empty until a CLAIM is tried. `live`: enough
    of the lease is left to send. `kept`: the messages and parts of an answer that could not be
    sent yet; it outlives the turn."""

    token: str
    seq: int
    item: Json = "{}"
    taken: tuple[Pending, ...] = ()
    restarts: int = 0
    reconciled: int = 0
    intended: str = ""
    may_have_sent: bool = False
    unsent: Json = ""
    live: bool = True
    kept: tuple[tuple[str, ...], ...] = ()

    @property
    def conversation(self) -> Conversation:
        return conversation(self.item)

    @property
    def head(self) -> str:
        return self.taken[0].sid if self.taken else ""

    @property
    def sids(self) -> tuple[str, ...]:
        return tuple(p.sid for p in self.taken)


@dataclass(frozen=True)
class At:
    """Where a worker waits: `then` names what it does with the answer. `late`: it has stood still
    since it asked."""

    request: Request
    then: str
    held: Held
    context: tuple[Any, ...] = ()
    late: bool = False


@dataclass(frozen=True)
class Settled:
    seq: int


@dataclass(frozen=True)
class Again:
    """LookAgain and Retry: the wake-up is kept."""


@dataclass(frozen=True)
class PassOn:
    """Another worker has the conversation."""


@dataclass(frozen=True)
class Ended:
    outcome: Settled | Again | PassOn
    kept: tuple[tuple[str, ...], ...] = ()
