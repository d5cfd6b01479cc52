"""The ports as one instance sees them: the shared table, queues and vendors behind its wires."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replyd.domain import record as r
from replyd.domain.catch_up import Inbox
from replyd.domain.expressions import Condition, Step, StepResult
from replyd.domain.messages import (
    ConversationKey,
    InboundMessage,
    OutboundPart,
    Params,
    SentMessage,
)
from replyd.domain.record import Candidate
from replyd.ports import (
    NOT_TRACED,
    ModelReply,
    ModelRequest,
    Received,
    SignedRequest,
    ToolContext,
    TraceContext,
)
from replyd.simulation.queue import Poll, Queue
from replyd.simulation.table import Table, at_once
from replyd.simulation.vendors import BOOK, LOOK, Answers, Phone
from replyd.simulation.weather import error
from replyd.simulation.wires import Wires


class WiredStore:
    """Implements `ports.ConversationStore`."""

    def __init__(self, wires: Wires, table: Table) -> None:
        self._wires = wires
        self._table = table

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        return await self._wires.call(
            "store", lambda: at_once(self._table.lookup(customer, sid)), "lookup"
        )

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        wires, fate = self._wires, "?"
        if step.name == "commit" and any(a.path == (r.MESSAGES,) for a in step.actions):
            refused = wires.weather.fate("texts", wires.rng, wires.loop.time(), wires.name)
            fate = "permanent" if refused else fate
        return await wires.call(
            "store",
            lambda: self._table.apply_now(wires.name, key, step),
            step.name.upper(),
            key.sort,
            fate,
        )

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        return await self._wires.call(
            "store", lambda: at_once(self._table.read(key)), "read", key.sort
        )

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        return await self._wires.call(
            "store", lambda: at_once(self._table.create(key, attributes)), "create", key.sort
        )

    async def erase(
        self,
        key: ConversationKey,
        condition: Condition,
        *,
        leaving: Mapping[str, Any] | None = None,
    ) -> StepResult:
        return await self._wires.call(
            "store",
            lambda: at_once(self._table.erase(key, condition, leaving=leaving)),
            "erase",
            key.sort,
        )

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        await self._wires.call(
            "store",
            lambda: at_once(self._table.put_side(name, attributes, expires_at, part=part)),
            f"put {name}",
        )

    async def get_side(self, name: str) -> dict[str, Any] | None:
        return await self._wires.call(
            "store", lambda: at_once(self._table.get_side(name)), f"get {name}"
        )

    async def delete_side(self, name: str, *, part: str = "") -> bool:
        return await self._wires.call(
            "store", lambda: at_once(self._table.delete_side(name, part=part)), f"delete {name}"
        )

    async def once_per(self, name: str, now: int, period: int) -> bool:
        return await self._wires.call(
            "store", lambda: at_once(self._table.once_per(name, now, period)), f"once {name}"
        )


class WiredQueue:
    """Implements `ports.WakeupQueue`."""

    def __init__(self, wires: Wires, queue: Queue) -> None:
        self._wires = wires
        self._queue = queue

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        wires = self._wires
        fate = wires.weather.fate("queue", wires.rng, wires.loop.time(), wires.name)
        delay = delay_seconds + (20 * wires.rng.random() if fate == "delayed" else 0)

        def effect() -> None:
            self._queue.send(body, delay, trace)
            if fate == "duplicate":
                self._queue.send(body, delay + 10 * wires.rng.random(), trace)

        await wires.call(
            "queue", effect, f"send wake-up in {delay_seconds} s", _conversation(body), fate
        )

    async def receive(self) -> Sequence[Received]:
        wires, queue = self._wires, self._queue
        fate = wires.weather.fate("queue", wires.rng, wires.loop.time(), wires.name)
        if wires.is_cut or fate in ("fail", "outage"):
            await wires.call("queue", lambda: None, "receive", fate=fate)
        answer: asyncio.Future[Sequence[Received]] = wires.loop.create_future()

        def received(messages: list[Received]) -> None:
            wires.polls.remove(poll)
            for message in messages:
                wires.trace.note(
                    wires.name,
                    _conversation(message.body),
                    f"received {message.message_id}, receive {message.receives}"
                    + (" (lost)" if wires.is_cut or fate == "lost" else ""),
                )
                if fate == "duplicate":
                    wires.loop.call_later(wires.rng.random(), queue.show_again, message.message_id)
            if wires.is_cut:
                wires.hang(answer)
            elif fate == "lost":
                answer.set_exception(error("queue", fate, wires.rng))
            else:
                answer.set_result(messages)

        poll = Poll(received)
        wires.polls.append(poll)
        queue.poll(poll)
        return await answer

    async def delete(self, messages: Sequence[Received]) -> None:
        batch = list(messages)
        await self._wires.call(
            "queue", lambda: self._queue.delete(batch), f"delete {_ids(batch)}", _of(batch)
        )

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        batch = list(messages)
        await self._wires.call(
            "queue",
            lambda: self._queue.hide(batch, seconds),
            f"hide {_ids(batch)} for {seconds} s",
            _of(batch),
        )


def _ids(messages: Sequence[Received]) -> str:
    return " ".join([m.message_id for m in messages])


def _of(messages: Sequence[Received]) -> str:
    """The conversation, if all messages are of one."""
    every = {_conversation(m.body) for m in messages}
    return every.pop() if len(every) == 1 else ""


def _conversation(body: str) -> str:
    """Read with a knife: parsing each body would cost more than the queue itself."""
    _, _, rest = body.partition('"conversation_id":"')
    return rest.partition('"')[0]


class WiredHandoffs:
    """Implements `ports.HandoffQueue`. `deliver` gets the instance's name, the bodies, and whether
    the instance had given up by then."""

    def __init__(self, wires: Wires, deliver: Callable[[str, Sequence[str], bool], None]) -> None:
        self._wires = wires
        self._deliver = deliver

    async def send(self, bodies: Sequence[str], _trace: TraceContext = NOT_TRACED) -> None:
        batch, late = list(bodies), False
        try:
            await self._wires.call(
                "handoffs",
                lambda: self._deliver(self._wires.name, batch, late),
                f"give {len(batch)} to people",
                _conversation(batch[0]) if batch else "",
            )
        except asyncio.CancelledError:
            late = True
            raise


class WiredModel:
    """Implements `ports.ReplyModel`."""

    def __init__(self, wires: Wires, answers: Answers) -> None:
        self._wires = wires
        self._answers = answers

    async def respond(self, request: ModelRequest) -> ModelReply:
        return await self._wires.call(
            "model", lambda: self._answers.answer(request), "model", request.conversation_id
        )


class WiredToolbox:
    """Implements `ports.Toolbox`. `ran` gets the instance's name, the tool, and the call, when one
    with effects is carried out."""

    def __init__(self, wires: Wires, ran: Callable[[str, str, ToolContext], None]) -> None:
        self._wires = wires
        self._ran = ran

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        assert (name, arguments) in ((BOOK, "{}"), (LOOK, "{}"))
        return {}

    async def run(self, name: str, _arguments: Mapping[str, Any], call: ToolContext) -> str:
        def effect() -> str:
            if name == BOOK:
                self._ran(self._wires.name, name, call)
            return f"{name}: done"

        return await self._wires.call("tools", effect, f"tool {name}", call.conversation_id)


class WiredChannel:
    """Implements `ports.Channel`."""

    def __init__(self, wires: Wires, phone: Phone) -> None:
        self._wires = wires
        self._phone = phone

    def knows_account(self, account_sid: str) -> bool:
        return account_sid == self._phone.account

    def is_authentic(self, request: SignedRequest) -> bool:
        return request.signature == "genuine"

    def parse(self, params: Params) -> InboundMessage:
        return self._phone.parse(params)

    async def send(self, part: OutboundPart) -> str:
        return await self._wires.call(
            "channel",
            lambda: self._phone.accept(self._wires.name, part),
            f"send {part.text.partition(' |')[0]!r}",
            self._phone.conversation(part),
        )

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        assert account_sid == self._phone.account
        wires = self._wires
        fate = wires.weather.fate("channel", wires.rng, wires.loop.time(), wires.name)
        if fate.startswith("ambiguous"):
            # There is no harm in not knowing whether something was read.
            fate = "temporary"
        return await wires.call(
            "channel", lambda: self._phone.sent(sender, recipient, since), "list", "", fate
        )

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        assert account_sid == self._phone.account
        wires = self._wires
        fate = wires.weather.fate("channel", wires.rng, wires.loop.time(), wires.name)
        if fate.startswith("ambiguous"):
            fate = "temporary"
        return await wires.call(
            "channel",
            lambda: self._phone.received(wires.name, since, until),
            "list what customers sent",
            "",
            fate,
        )

    async def state_of(self, _account_sid: str, _sid: str) -> str:
        return "sent"

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        pass
