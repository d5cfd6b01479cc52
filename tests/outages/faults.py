"""What the parts of a daemon meet in an outage, on in-memory twins and in virtual time.

What is raised, and after how long, is what the adapters raise: `tests/adapters/test_outages.py`
compares the two.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from replyd.adapters import aws
from replyd.adapters.memory import MemoryChannel, MemoryModel
from replyd.adapters.twilio.accounts import Accounts
from replyd.domain.catch_up import Inbox
from replyd.domain.messages import OutboundPart, SentMessage
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Temporary
from replyd.ports import ModelReply, ModelRequest, SignedRequest
from tests.support.fault_proxy import Dependency, Mode

# `refused`: no connection; `error`: a 5xx; `dropped`: the request is lost, and no answer comes;
# `late`: it is carried out, and the answer comes after the timeout.
Fault = Literal["refused", "error", "dropped", "late", "throttled"]
FAULTS: tuple[Fault, ...] = ("refused", "error", "dropped", "late", "throttled")

AWS: tuple[Dependency, ...] = ("dynamodb", "sqs", "secretsmanager")
ACCOUNT = "AC" + "0" * 32
_SLOW_POLL_SECONDS = 5.0


def sdk_error(fault: Fault) -> BotoCoreError | ClientError:
    """What AWS's SDK raises."""
    match fault:
        case "refused":
            return EndpointConnectionError(endpoint_url="http://127.0.0.1")
        case "error":
            return _client_error(500, "InternalServerError")
        case "dropped" | "late":
            return ReadTimeoutError(endpoint_url="http://127.0.0.1")
        case "throttled":
            return _client_error(400, "ThrottlingException")


def _client_error(status: int, code: str) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def vendor_error(dependency: Dependency, fault: Fault, *, read: bool = False) -> DependencyError:
    """What the adapter raises. `read`: a request that nothing can have come of."""
    match fault, dependency:
        case "refused", _:
            return DependencyDown(dependency, "no connection", code="unreachable")
        case "throttled", _:
            return Busy(dependency, "too many requests")
        case _, "twilio" if not read:
            return Ambiguous(dependency, "it may have accepted the message")
        case _:
            return Temporary(dependency, "it failed, or did not answer in time")


def raised(dependency: Dependency, fault: Fault, *, read: bool = False) -> DependencyError:
    """The end of a call: what its flow meets."""
    if dependency in AWS:
        error = aws.translated(sdk_error(fault), dependency)
        assert isinstance(error, DependencyError)
        return error
    return vendor_error(dependency, fault, read=read)


@dataclass
class Outage:
    """Of one dependency. `mode` None: all is well. `requests`: when there was one, also in vain."""

    dependency: Dependency
    mode: Mode | None = None
    half_at: float = 0.0
    requests: list[float] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def begin(self, mode: Mode, seconds: float) -> None:
        """For about so many `seconds`; set `mode` to None to end it."""
        self.mode, self.half_at = mode, now() + seconds / 2
        self.requests.clear()

    def fault(self) -> Fault | None:
        """What the next request meets."""
        self.requests.append(now())
        match self.mode:
            case "failing":
                return "refused" if now() < self.half_at else "error"
            case "slow":
                return "late" if next(self._numbers) % 2 else "dropped"
            case "throttled":
                return "throttled"
            case None:
                return None

    async def through_sdk(self, do: Callable[[], Awaitable[Any]], seconds: float) -> Any:
        """A request to AWS with the adapters' own retries. `seconds`: its read timeout."""

        async def request() -> Any:
            fault = self.fault()
            if fault is None:
                return await do()
            began = now()
            if fault == "late":
                await do()
            if fault in ("dropped", "late"):
                await asyncio.sleep(began + seconds - now())
            raise sdk_error(fault)

        return await aws.call(self.dependency, request)

    async def through(
        self, do: Callable[[], Awaitable[Any]], seconds: float, *, read: bool = False
    ) -> Any:
        """A request to a vendor with a timeout of so many `seconds`."""
        fault = self.fault()
        if fault is None:
            return await do()
        if fault == "refused":
            await asyncio.sleep(0.3)
        if fault == "late":
            await do()
        if fault in ("dropped", "late"):
            await asyncio.sleep(seconds)
        raise vendor_error(self.dependency, fault, read=read)


def now() -> float:
    return asyncio.get_running_loop().time()


class ThroughSdk:
    """A twin as it is seen through AWS's SDK."""

    def __init__(self, target: Any, outage: Outage) -> None:
        self._target = target
        self._outage = outage

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        seconds = aws.READ_TIMEOUT_SECONDS
        if name == "receive":
            seconds = self._target.wait_seconds + _SLOW_POLL_SECONDS

        async def call(*args: Any, **named: Any) -> Any:
            return await self._outage.through_sdk(partial(method, *args, **named), seconds)

        return call


class FailingModel:
    def __init__(self, target: MemoryModel, outage: Outage, seconds: float) -> None:
        self._target = target
        self._outage = outage
        self._seconds = seconds

    async def respond(self, request: ModelRequest) -> ModelReply:
        do = partial(self._target.respond, request)
        reply: ModelReply = await self._outage.through(do, self._seconds)
        return reply


class FailingChannel(MemoryChannel):
    """Twilio, whose auth token is in a secret."""

    def __init__(self, outage: Outage, accounts: Accounts, seconds: float) -> None:
        super().__init__()
        self.times: list[float] = []
        self._outage = outage
        self._known = accounts
        self._seconds = seconds

    def is_authentic(self, request: SignedRequest) -> bool:
        return super().is_authentic(request) and bool(self._known.tokens(ACCOUNT))

    async def send(self, part: OutboundPart) -> str:
        await self._known.usable(ACCOUNT)
        sid: str = await self._outage.through(partial(super().send, part), self._seconds)
        return sid

    def _accept(self, part: OutboundPart) -> str:
        self.times.append(now())
        return super()._accept(part)

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        await self._known.usable(ACCOUNT)
        do = partial(super().sent_since, account_sid, sender, recipient, since)
        found: Sequence[SentMessage] = await self._outage.through(do, self._seconds, read=True)
        return found

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        await self._known.usable(ACCOUNT)
        do = partial(super().received_since, account_sid, since, until)
        found: Inbox = await self._outage.through(do, self._seconds, read=True)
        return found
