"""The model and the channel in memory."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from replyd.domain.messages import InboundMessage, OutboundPart, Params
from replyd.errors import Ambiguous, DependencyError
from replyd.ports import ModelReply, ModelRequest, SignedRequest


@dataclass(slots=True)
class MemoryModel:
    """Answers with `answer(request)` after `seconds`; `failures` are raised first, in order."""

    answer: Callable[[ModelRequest], str] = lambda request: f"You said: {request.turn}"
    seconds: float = 1.0
    failures: list[DependencyError] = field(default_factory=list)
    requests: list[ModelRequest] = field(default_factory=list)

    async def respond(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        number = len(self.requests)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        return ModelReply(self.answer(request), f"resp_{number}", "memory", 10, 5)


@dataclass(slots=True)
class MemoryChannel:
    """Accepts every part after `seconds`. `failures` come first, in order; None means success. An
    Ambiguous one is raised after the part was accepted."""

    seconds: float = 0.1
    failures: list[DependencyError | None] = field(default_factory=list)
    accepted: list[OutboundPart] = field(default_factory=list)
    accounts: tuple[str, ...] = ("AC" + "0" * 32,)

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
        if failure is not None and not isinstance(failure, Ambiguous):
            raise failure
        self.accepted.append(part)
        if failure is not None:
            raise failure
        return f"SM{len(self.accepted):032d}"
