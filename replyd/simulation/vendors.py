"""What stands outside: a model whose answers say what they answer, and a channel that counts."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from replyd.adapters.memory import MemoryChannel
from replyd.domain.catch_up import Inbox, Listed
from replyd.domain.messages import InboundMessage, OutboundPart, Params, SentMessage
from replyd.domain.tools import HAND_OVER, ToolCall
from replyd.ports import ModelReply, ModelRequest

CUSTOMER_PREFIX = "+4477009"
BUSINESS = "+447700900100"
ACCOUNT = "AC" + "0" * 32
APOLOGY = "sorry, a colleague will answer"
_FAREWELL = "goodbye, a colleague takes over"
STOP_NOTICE = "understood, you will hear no more"
# A tool with effects, and one without.
BOOK, LOOK = "book", "look"

_QUESTION = re.compile(r"\bq(\d+)\b")
_ANSWER = re.compile(r"r(\d+) part (\d+) of (\d+) to ([q\d ]*) \|")
# So long that two parts never fit into one message of the channel.
_FILLER = "more words " * 80


def sid_of(number: int) -> str:
    """The SID of the customer's message with this number; its text contains `q<number>`."""
    return f"SM{number:032x}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a part of a reply says of itself: which answer, which part, to which messages."""

    answer: int
    part: int
    parts: int
    sids: tuple[str, ...]


def said(text: str) -> Said | None:
    if (found := _ANSWER.match(text)) is None:
        return None
    numbers = tuple(sid_of(int(n)) for n in _QUESTION.findall(found[4]))
    return Said(int(found[1]), int(found[2]), int(found[3]), numbers)


def persons_answer(number: int, parts: int) -> list[str]:
    """The parts of an answer that a person writes."""
    filler = _FILLER if parts > 1 else ""
    return [f"h{number} part {n} of {parts} |{filler}".strip() for n in range(1, parts + 1)]


def is_farewell(text: str) -> bool:
    """Whether it is a word ahead of a handoff, and no answer."""
    return text in (APOLOGY, _FAREWELL)


def opt_out_words(said: str) -> list[str]:
    """The word behind the number of every message that a run may have."""
    return [f"q{n} {said}" for n in range(1, 1_000)]


class Answers:
    """The model: every answer is another text, and names the messages it answers. Now and then it
    calls tools first, or hands over."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0

    def answer(self, request: ModelRequest) -> ModelReply:
        self._count += 1
        if request.state is None and (calls := self._calls()):
            words = self._rng.choice(("", _FAREWELL)) if calls[0].name == HAND_OVER.name else ""
            return ModelReply(words, "", "simulated", 10, 5, calls=calls, state=calls)
        asked = " ".join([f"q{n}" for n in _QUESTION.findall(request.turn)])
        parts = self._rng.choice((1, 1, 1, 2, 3))
        text = "\n\n".join(
            [
                f"r{self._count} part {n} of {parts} to {asked} |" + (_FILLER if parts > 1 else "")
                for n in range(1, parts + 1)
            ]
        )
        return ModelReply(text, f"resp_{self._count}", "simulated", 10, 5)

    def _calls(self) -> tuple[ToolCall, ...]:
        luck = self._rng.random()
        if luck < 0.02:
            names = [HAND_OVER.name]
        elif luck < 0.15:
            names = self._rng.choice(([BOOK], [LOOK], [BOOK, LOOK], [BOOK, BOOK]))
        else:
            names = []
        return tuple(
            ToolCall(f"call_{self._count}_{n}", name, "{}") for n, name in enumerate(names)
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """One part that the channel took: for which conversation, turn and entry of its outbox."""

    sid: str
    who: str
    conversation: str
    turn_id: str
    query: dict[str, str]
    part: OutboundPart


# By how many seconds messages come into the list late: as many times, in turn.
_LISTED_LATE = (0, 0, 1, 3)


class Phone:
    """The channel. `accepted` is called for each part it takes; `now` is its clock, epoch ms.
    `listed`: called with each message in the list of what customers sent, and who reads it."""

    account = ACCOUNT

    def __init__(self, accepted: Callable[[Accepted], None], now: Callable[[], int]) -> None:
        self._accepted = accepted
        self._now = now
        self._count = 0
        self._sent: defaultdict[tuple[str, str], list[SentMessage]] = defaultdict(list)
        self._received: list[Listed] = []
        self._parser = MemoryChannel()
        self.listed: Callable[[str, str], None] = lambda _sid, _who: None

    def parse(self, params: Params) -> InboundMessage:
        return self._parser.parse(params)

    def conversation(self, part: OutboundPart) -> str:
        return _query(part).get("s", "")

    def accept(self, who: str, part: OutboundPart) -> str:
        self._count += 1
        sid, query = f"SMout{self._count:027d}", _query(part)
        at = self._now() // 1000 * 1000
        self._sent[part.sender, part.recipient].append(SentMessage(sid, part.text, at))
        self._accepted(Accepted(sid, who, query.get("s", ""), query.get("turn", ""), query, part))
        return sid

    def sent(self, sender: str, recipient: str, since: int) -> Sequence[SentMessage]:
        return [m for m in self._sent[sender, recipient] if m.at >= since // 1000 * 1000]

    def take(self, message: InboundMessage) -> None:
        """A customer sends; what the list has of it lacks what only webhooks tell."""
        params = {name: message.param(name) for name in ("MessageSid", "AccountSid")}
        kept = replace(message, params=params | {"ReplydCatchUp": "true"})
        self._received.append(Listed(kept, self._now() // 1000 * 1000))

    def received(self, who: str, since: int, until: int) -> Inbox:
        now = self._now()
        found = tuple(
            listed
            for place, listed in enumerate(self._received)
            if since // 1000 * 1000 <= listed.at < until
            and listed.at + 1000 * _LISTED_LATE[place % len(_LISTED_LATE)] <= now
        )
        for listed in found:
            self.listed(listed.message.sid, who)
        return Inbox(found, until)


def _query(part: OutboundPart) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(part.status_callback).query))
