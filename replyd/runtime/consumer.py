"""Long polls of the replies queue."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from replyd.domain import turn
from replyd.domain.events import DependencyFailed, MessageAdopted, PoisonReceived
from replyd.domain.messages import InboundMessage
from replyd.domain.wakeup import BodyCodec, Foreign
from replyd.errors import DependencyError, PoisonMessage, ReplydError
from replyd.ports import Channel, Clock, Ids, Received, Telemetry, Tracing, WakeupQueue
from replyd.runtime.buffer import Buffer
from replyd.runtime.entry import TAKES
from replyd.runtime.no_tracing import NoTracing
from replyd.runtime.progress import REQUEST_SECONDS, Progress
from replyd.runtime.receipts import BATCH, GATHER_SECONDS

# To stage what another webhook handler queued takes about a dozen requests.
ADOPT_SECONDS = 5 * REQUEST_SECONDS


class Consumer:
    """One receive at a time. A receive under way is awaited, never cancelled: an abandoned long
    poll can swallow the next message until its visibility timeout ends.

    `poll_seconds`: a receive that takes longer is stuck."""

    def __init__(
        self,
        *,
        wakeups: WakeupQueue,
        buffer: Buffer,
        codec: BodyCodec,
        channel: Channel,
        accept: Callable[[InboundMessage], Awaitable[None]],
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        progress: Progress,
        poll_seconds: float,
        tracing: Tracing | None = None,
    ) -> None:
        self._wakeups = wakeups
        self._buffer = buffer
        self._codec = codec
        self._channel = channel
        self._accept = accept
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry
        self._progress = progress
        self._poll_seconds = poll_seconds
        self._tracing = tracing or NoTracing()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """`run` returns when the receive under way has come back."""
        self._stopping.set()

    async def run(self) -> None:
        failures = 0
        while await self._may_poll():
            try:
                with self._progress.within("consumer", self._poll_seconds):
                    messages = await self._wakeups.receive()
            except DependencyError as error:
                failures += 1
                self._failed("receive", error)
                await self._pause(turn.pause_ms(failures, self._ids.jitter()) / 1000)
                continue
            failures = 0
            to_spare = math.inf
            for number, message in enumerate(messages):
                # Looked at for each: to adopt one takes a while.
                if self._stopping.is_set():
                    await self._give_back(messages[number:])
                    return
                with self._progress.within("consumer", ADOPT_SECONDS):
                    to_spare = min(to_spare, await self._take(message))
            if 0 < len(messages) < BATCH and to_spare >= 2 * GATHER_SECONDS:
                # Those that come meanwhile are early too, and come in one receive.
                await self._pause(GATHER_SECONDS)

    async def _may_poll(self) -> bool:
        """Waits for room in the buffer; false once stopping."""
        if not self._buffer.full:
            return not self._stopping.is_set()
        room = asyncio.create_task(self._buffer.has_room())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((room, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            stopping.cancel()
        return not self._stopping.is_set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _take(self, received: Received) -> float:
        """The seconds until its window closes; none for what has no window."""
        try:
            body = self._codec.decode(received.body)
            if isinstance(body, Foreign):
                # Whoever writes to the queue is trusted, and may trace its messages.
                with self._tracing.begin("adopt", "consumer", TAKES, parent=received.trace):
                    await self._adopt(body, received)
            else:
                self._buffer.offer(body, received)
                return (body.closes_at - self._clock.now()) / 1000
        except PoisonMessage as error:
            self._telemetry.emit(PoisonReceived(received.message_id, str(error), received.receives))
        except ReplydError as error:
            if isinstance(error, DependencyError):
                self._failed("adopt", error)
        return 0

    async def _adopt(self, body: Foreign, received: Received) -> None:
        """Stage a message that another webhook handler queued; its own wake-up follows."""
        try:
            message = body.message or self._channel.parse(body.params)
        except ValueError as error:
            raise PoisonMessage(str(error)) from error
        await self._accept(message)
        now = self._clock.now()
        waited = max(0, now - received.sent_at) if received.sent_at else 0
        self._telemetry.emit(MessageAdopted(received.message_id, waited, now))
        await self._wakeups.delete([received])

    async def _give_back(self, messages: Sequence[Received]) -> None:
        if messages:
            try:
                await self._wakeups.hide(messages, 0)
            except DependencyError as error:
                self._failed("hide", error)

    def _failed(self, operation: str, error: DependencyError) -> None:
        self._telemetry.emit(DependencyFailed.of(error, operation))
