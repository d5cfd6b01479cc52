"""The ports that a trace shows, each around another implementation of it. Flows know nothing of
them, and where nothing is traced they are not there.

Names and attributes are OpenTelemetry's semantic conventions where it has some, else `replyd.…`.
None of them is an address, a text, or what a tool was given and answered.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replyd.domain import address
from replyd.domain.catch_up import Inbox
from replyd.domain.expressions import Applied, Condition, Step, StepResult
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
    Attributes,
    Channel,
    ConversationStore,
    HandoffQueue,
    ModelReply,
    ModelRequest,
    Received,
    ReplyModel,
    SignedRequest,
    Toolbox,
    ToolContext,
    TraceContext,
    Tracing,
    WakeupQueue,
)

_SENDS = {"messaging.operation.type": "send", "messaging.operation.name": "send"}
_COMMITS = frozenset({"commit", "commit_apology", "commit_person"})


class TracedWakeups:
    """Implements `ports.WakeupQueue`. `name`: the queue's."""

    def __init__(self, wakeups: WakeupQueue, tracing: Tracing, name: str) -> None:
        self._wakeups = wakeups
        self._tracing = tracing
        self._attributes = _of_queue(name)

    async def send(self, body: str, delay_seconds: int, trace: TraceContext = NOT_TRACED) -> None:
        """`trace`: of a wake-up that is passed on; else that of what is done now."""
        if trace != NOT_TRACED:
            await self._wakeups.send(body, delay_seconds, trace)
            return
        attributes: Attributes = {**self._attributes, "replyd.delay_seconds": delay_seconds}
        with self._tracing.within("replies send", "producer", attributes):
            await self._wakeups.send(body, delay_seconds, self._tracing.context())

    async def receive(self) -> Sequence[Received]:
        return await self._wakeups.receive()

    async def delete(self, messages: Sequence[Received]) -> None:
        await self._wakeups.delete(messages)

    async def hide(self, messages: Sequence[Received], seconds: int) -> None:
        await self._wakeups.hide(messages, seconds)


class TracedHandoffs:
    """Implements `ports.HandoffQueue`. `name`: the queue's."""

    def __init__(self, handoffs: HandoffQueue, tracing: Tracing, name: str) -> None:
        self._handoffs = handoffs
        self._tracing = tracing
        self._attributes = _of_queue(name)

    async def send(self, bodies: Sequence[str], trace: TraceContext = NOT_TRACED) -> None:
        if trace != NOT_TRACED:
            await self._handoffs.send(bodies, trace)
            return
        attributes: Attributes = {**self._attributes, "messaging.batch.message_count": len(bodies)}
        with self._tracing.within("handoff send", "producer", attributes):
            await self._handoffs.send(bodies, self._tracing.context())


class TracedModel:
    """Implements `ports.ReplyModel`. `model_of`: the model that a profile asks, empty where only
    the vendor knows it."""

    def __init__(self, model: ReplyModel, tracing: Tracing, model_of: Callable[[str], str]) -> None:
        self._model = model
        self._tracing = tracing
        self._model_of = model_of

    async def respond(self, request: ModelRequest) -> ModelReply:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
        if asked := self._model_of(request.profile):
            attributes["gen_ai.request.model"] = asked
        with self._tracing.within("model", "client", attributes) as span:
            reply = await self._model.respond(request)
            span.set(
                {
                    "gen_ai.response.model": reply.model,
                    "gen_ai.usage.input_tokens": reply.input_tokens,
                    "gen_ai.usage.output_tokens": reply.output_tokens,
                    "gen_ai.usage.cache_read.input_tokens": reply.cached_tokens,
                    "replyd.finish": reply.finish,
                    "replyd.tool_calls": len(reply.calls),
                }
            )
            return reply


class TracedToolbox:
    """Implements `ports.Toolbox`."""

    def __init__(self, toolbox: Toolbox, tracing: Tracing) -> None:
        self._toolbox = toolbox
        self._tracing = tracing

    async def run(self, name: str, arguments: Mapping[str, Any], call: ToolContext) -> str:
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        with self._tracing.within("tool", "internal", attributes):
            return await self._toolbox.run(name, arguments, call)

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        return self._toolbox.check(name, arguments)


class TracedChannel:
    """Implements `ports.Channel`."""

    def __init__(self, channel: Channel, tracing: Tracing) -> None:
        self._channel = channel
        self._tracing = tracing

    async def send(self, part: OutboundPart) -> str:
        attributes: Attributes = {
            **_SENDS,
            "messaging.system": "twilio",
            "replyd.channel": address.channel(part.recipient),
            "replyd.template": bool(part.content_sid),
        }
        with self._tracing.within("twilio send", "client", attributes) as span:
            sid = await self._channel.send(part)
            span.set({"messaging.message.id": sid})
            return sid

    def knows_account(self, account_sid: str) -> bool:
        return self._channel.knows_account(account_sid)

    def is_authentic(self, request: SignedRequest) -> bool:
        return self._channel.is_authentic(request)

    def parse(self, params: Params) -> InboundMessage:
        return self._channel.parse(params)

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        return await self._channel.sent_since(account_sid, sender, recipient, since)

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        return await self._channel.received_since(account_sid, since, until)

    async def state_of(self, account_sid: str, sid: str) -> str:
        return await self._channel.state_of(account_sid, sid)

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        await self._channel.show_typing(message_sid, account_sid)


class TracedStore:
    """Implements `ports.ConversationStore`. Of its steps COMMIT makes a span: what it writes is
    what a turn was for, and it is the one that is repeated until it holds."""

    def __init__(self, store: ConversationStore, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        if step.name not in _COMMITS:
            return await self._store.apply(key, step)
        attributes = {
            "db.system.name": "aws.dynamodb",
            "db.operation.name": "UpdateItem",
            "replyd.step": step.name,
        }
        with self._tracing.within("commit", "client", attributes) as span:
            result = await self._store.apply(key, step)
            span.set({"replyd.held": isinstance(result, Applied)})
            return result

    async def lookup(self, customer: str, sid: str) -> list[Candidate]:
        return await self._store.lookup(customer, sid)

    async def read(self, key: ConversationKey) -> dict[str, Any] | None:
        return await self._store.read(key)

    async def create(self, key: ConversationKey, attributes: Mapping[str, Any]) -> bool:
        return await self._store.create(key, attributes)

    async def erase(
        self,
        key: ConversationKey,
        condition: Condition,
        *,
        leaving: Mapping[str, Any] | None = None,
    ) -> StepResult:
        return await self._store.erase(key, condition, leaving=leaving)

    async def put_side(
        self, name: str, attributes: Mapping[str, Any], expires_at: int | None, *, part: str = ""
    ) -> None:
        await self._store.put_side(name, attributes, expires_at, part=part)

    async def get_side(self, name: str) -> dict[str, Any] | None:
        return await self._store.get_side(name)

    async def delete_side(self, name: str, *, part: str = "") -> bool:
        return await self._store.delete_side(name, part=part)

    async def once_per(self, name: str, now: int, period: int) -> bool:
        return await self._store.once_per(name, now, period)


def _of_queue(name: str) -> dict[str, str]:
    return {**_SENDS, "messaging.system": "aws_sqs", "messaging.destination.name": name}
