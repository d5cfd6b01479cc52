"""The model and the channel in memory."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from replyd.adapters.memory.process import LoopClock
from replyd.domain.catch_up import Inbox, Listed
from replyd.domain.messages import InboundMessage, OutboundPart, Params, SentMessage
from replyd.errors import Ambiguous, DependencyError, Permanent
from replyd.ports import Clock, ModelReply, ModelRequest, SignedRequest


@dataclass(slots=True)
class MemoryModel:
    """Answers with `answer(request)` after `seconds`; `failures` are raised first, in order.

    An answer that is text comes with a thread and a cost; one that calls tools with a state, so
    that the request which brings their results is checked as a vendor would."""

    answer: Callable[[ModelRequest], str | ModelReply] = lambda request: f"You said: {request.turn}"
    seconds: float = 1.0
    failures: list[DependencyError] = field(default_factory=list)
    requests: list[ModelRequest] = field(default_factory=list)

    async def respond(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        number = len(self.requests)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if set(request.state or ()) != {result.id for result in request.results}:
            raise Permanent("memory", "the results are not those of the calls")
        answer = self.answer(request)
        if isinstance(answer, ModelReply):
            return replace(answer, state=tuple(call.id for call in answer.calls) or None)
        return ModelReply(answer, f"resp_{number}", "memory", 10, 5)


@dataclass(slots=True)
class MemoryChannel:
    """Accepts every part after `seconds`. `failures` of sends and `list_failures` of reads come
    first, in order; None means success.

    `arrivals`: when the part of each Ambiguous failure is accepted, in order: seconds after the
    error, or None for never. Without an entry it is accepted right before the error."""

    seconds: float = 0.1
    failures: list[DependencyError | None] = field(default_factory=list)
    arrivals: list[float | None] = field(default_factory=list)
    list_failures: list[DependencyError | None] = field(default_factory=list)
    accepted: list[OutboundPart] = field(default_factory=list)
    # The messages that typing was shown for, and what is raised first instead, in order.
    typing: list[str] = field(default_factory=list)
    typing_failures: list[DependencyError] = field(default_factory=list)
    # What customers sent, oldest first; `inbox_from` cuts the list off before this time.
    inbox: list[Listed] = field(default_factory=list)
    inbox_from: int = 0
    accounts: tuple[str, ...] = ("AC" + "0" * 32,)
    # What becomes of a message, each time that somebody asks; "sent" when there is no more.
    states: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=LoopClock)
    _times: list[int] = field(default_factory=list)

    def knows_account(self, account_sid: str) -> bool:
        return account_sid in self.accounts

    def is_authentic(self, request: SignedRequest) -> bool:
        account = dict(request.fields).get("AccountSid", "")
        return self.knows_account(account) and request.signature == "genuine"

    def parse(self, params: Params) -> InboundMessage:
        plain = {k: v if isinstance(v, str) else v[0] for k, v in params.items()}
        for name in ("MessageSid", "From", "To"):
            if not plain.get(name):
                raise ValueError(f"{name} is missing")
        return InboundMessage(
            sid=plain["MessageSid"],
            sender=plain["From"],
            recipient=plain["To"],
            body=plain.get("Body", ""),
            account_sid=plain.get("AccountSid", ""),
            params=params,
        )

    async def send(self, part: OutboundPart) -> str:
        await asyncio.sleep(self.seconds)
        failure = self.failures.pop(0) if self.failures else None
        if failure is None:
            return self._accept(part)
        if isinstance(failure, Ambiguous):
            after = self.arrivals.pop(0) if self.arrivals else 0
            if after == 0:
                self._accept(part)
            elif after is not None:
                asyncio.get_running_loop().call_later(after, self._accept, part)
        raise failure

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        await asyncio.sleep(self.seconds)
        failure = self.list_failures.pop(0) if self.list_failures else None
        if failure is not None:
            raise failure
        wanted = (account_sid, sender, recipient)
        return [
            SentMessage(_sid(number), _shown(part), at)
            for number, (part, at) in enumerate(
                zip(self.accepted, self._times, strict=True), start=1
            )
            if (part.account_sid, part.sender, part.recipient) == wanted and at >= _seconds(since)
        ]

    async def state_of(self, account_sid: str, sid: str) -> str:
        await asyncio.sleep(self.seconds)
        failure = self.list_failures.pop(0) if self.list_failures else None
        if failure is not None:
            raise failure
        known = [
            _sid(n) for n, part in enumerate(self.accepted, 1) if part.account_sid == account_sid
        ]
        if sid not in known:
            raise Permanent("memory", "there is no such message")
        return self.states.pop(0) if self.states else "sent"

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        await asyncio.sleep(self.seconds)
        if self.typing_failures:
            raise self.typing_failures.pop(0)
        if not self.knows_account(account_sid):
            raise Permanent("memory", "there is no such account")
        self.typing.append(message_sid)

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        await asyncio.sleep(self.seconds)
        failure = self.list_failures.pop(0) if self.list_failures else None
        if failure is not None:
            raise failure
        begin = max(_seconds(since), self.inbox_from)
        found = tuple(
            listed
            for listed in self.inbox
            if listed.message.account_sid == account_sid and begin <= listed.at < until
        )
        return Inbox(found, until if begin == _seconds(since) else since)

    def receive(self, message: InboundMessage, at: int | None = None) -> None:
        """A customer writes, and no webhook brings it. `at`: epoch ms, now by default."""
        at = _seconds(self.clock.now() if at is None else at)
        self.inbox.append(Listed(message, at))
        self.inbox.sort(key=lambda listed: listed.at)

    def _accept(self, part: OutboundPart) -> str:
        self.accepted.append(part)
        self._times.append(_seconds(self.clock.now()))
        return _sid(len(self.accepted))


def _sid(number: int) -> str:
    return f"SM{number:032d}"


def _shown(part: OutboundPart) -> str:
    """What the vendor's list has: a template's own words are not ours."""
    if not part.content_sid:
        return part.text
    return " ".join(["A template says:", *part.content_variables.values()])


def _seconds(ms: int) -> int:
    """Epoch ms in whole seconds, as the real vendor tells the time."""
    return ms - ms % 1000
