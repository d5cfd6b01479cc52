"""How fast messages go out: each of the business's numbers has a rate of its own at the vendor."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from replyd.domain.catch_up import Inbox
from replyd.domain.messages import InboundMessage, OutboundPart, Params, SentMessage
from replyd.domain.pacing import Bucket, Rates
from replyd.errors import Busy
from replyd.flows.pacing import LONGEST_PAUSE_SECONDS, FairSlots
from replyd.ports import Channel, Clock, SignedRequest

# A turn holds its lease while it waits for its number.
LONGEST_WAIT_SECONDS = 5.0
# After a refusal that does not say for how long.
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PacePolicy:
    """What one number may send. `per_second`: messages, of all instances; `burst`: so many of them
    at once; `conversation_seconds`: from one message to a customer to the next, 0 for none;
    `instances`: how many share the numbers, each takes its part of rate and burst."""

    per_second: float = 80.0
    burst: int = 1
    conversation_seconds: float = 0.0
    instances: int = 1

    def bucket(self) -> Bucket:
        capacity = max(1.0, self.burst / self.instances)
        return Bucket(capacity, self.per_second / self.instances, capacity)


class SendPace:
    """All sends of a process, by account and sender."""

    def __init__(self, clock: Clock, policy: PacePolicy) -> None:
        self._clock = clock
        self._policy = policy
        # The business's own numbers: few.
        self._numbers: dict[tuple[str, str], _Number] = {}

    @asynccontextmanager
    async def slot(self, part: OutboundPart, seconds: float = math.inf) -> AsyncIterator[None]:
        """For one send. Waits for at most `seconds`, and LONGEST_WAIT_SECONDS: conversations take
        turns, and what one of them has to send keeps its order.

        Raises Busy, with a delay, when there is no slot by then or cannot be. A Busy that the send
        raises holds back the others of this number."""
        number = self._number(part.account_sid, part.sender)
        await number.enter(part.recipient, max(0.0, min(seconds, LONGEST_WAIT_SECONDS)))
        try:
            yield
        except Busy as busy:
            number.pause(busy.delay)
            raise
        finally:
            number.leave(part.recipient)

    def throttled(self, account_sid: str, sender: str) -> None:
        """The vendor has said later, of a message that it had accepted, that this number sends too
        much. `sender` with its channel prefix."""
        self._number(account_sid, sender).pause(None)

    def _number(self, account_sid: str, sender: str) -> "_Number":
        key = account_sid, sender
        if key not in self._numbers:
            self._numbers[key] = _Number(self._clock, self._policy)
        return self._numbers[key]


class _Number:
    def __init__(self, clock: Clock, policy: PacePolicy) -> None:
        self._clock = clock
        self._distance = policy.conversation_seconds
        self._rates = Rates(requests=policy.bucket())
        # One at a time of a conversation, any number of conversations.
        self._slots = FairSlots(sys.maxsize, 1, admit=self._admit)
        # Whose last message is too recent, and until when.
        self._resting: dict[str, float] = {}

    async def enter(self, recipient: str, seconds: float) -> None:
        now = self._clock.elapsed()
        rest = self._resting.get(recipient, now) - now
        wait = max(rest, self._rates.wait(0, now))
        if wait > seconds:
            raise _busy(wait)
        if not await self._slots.enter(recipient, seconds=seconds):
            raise _busy(self._backlog(recipient))

    def leave(self, recipient: str) -> None:
        if not self._distance:
            self._slots.leave(recipient)
            return
        self._resting[recipient] = self._clock.elapsed() + self._distance
        asyncio.get_running_loop().call_later(self._distance, self._rested, recipient)

    def pause(self, delay: float | None) -> None:
        seconds = min(PAUSE_SECONDS if delay is None else delay, LONGEST_PAUSE_SECONDS)
        self._rates = self._rates.pause(self._clock.elapsed() + seconds)
        self._slots.refuse(seconds)

    def _rested(self, recipient: str) -> None:
        del self._resting[recipient]
        self._slots.leave(recipient)

    def _admit(self, _: float) -> float:
        now = self._clock.elapsed()
        if not (wait := self._rates.wait(0, now)):
            self._rates = self._rates.take(0, now)
        return wait

    def _backlog(self, recipient: str) -> float:
        """Seconds until those that wait, and this one, may have sent. Nobody knows how long another
        send to the same customer takes: as long as it was waited for, to begin with."""
        now = self._clock.elapsed()
        rest = self._resting.get(recipient, now) - now
        backlog = self._rates.backlog(len(self._slots.waiting()) + 1, 0, now)
        return max(rest, backlog) or LONGEST_WAIT_SECONDS


def _busy(seconds: float) -> Busy:
    return Busy("twilio", "this number has too much to send", code="pace", delay=seconds)


class PacedChannel:
    """Implements `ports.Channel` over another one: for sends that no lease limits. A turn waits
    for its slot before it looks at its lease."""

    def __init__(self, channel: Channel, pace: SendPace) -> None:
        self._channel = channel
        self._pace = pace

    def knows_account(self, account_sid: str) -> bool:
        return self._channel.knows_account(account_sid)

    def is_authentic(self, request: SignedRequest) -> bool:
        return self._channel.is_authentic(request)

    def parse(self, params: Params) -> InboundMessage:
        return self._channel.parse(params)

    async def send(self, part: OutboundPart) -> str:
        """Raises as the channel does, and Busy when there is no slot in time."""
        async with self._pace.slot(part):
            return await self._channel.send(part)

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
