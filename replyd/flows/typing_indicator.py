"""The customer sees that an answer is being written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from replyd.domain.events import DependencyFailed
from replyd.errors import DependencyError, Permanent
from replyd.flows.workbench import Turn

# WhatsApp ends an indicator after 25 seconds.
REPEAT_SECONDS = 20.0


def typing_indicator(held: Turn, *, enabled: bool) -> AbstractAsyncContextManager[None]:
    """Shown while the block runs, on the newest message of the turn, where `enabled` and the
    customer is on WhatsApp. Never waited for. A failure is counted and changes nothing else; one
    that is final is the last."""
    if enabled and held.taken and held.taken[-1].message.channel == "whatsapp":
        return _shown(held)
    return nullcontext()


@asynccontextmanager
async def _shown(held: Turn) -> AsyncIterator[None]:
    task = asyncio.create_task(_keep_showing(held))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _keep_showing(held: Turn) -> None:
    message = held.taken[-1].message
    while True:
        try:
            await held.bench.channel.show_typing(message.sid, message.account_sid)
        except DependencyError as error:
            held.bench.telemetry.emit(
                # Never as down: that would tell load balancers, while messages go out.
                DependencyFailed(error.dependency, "typing", error.reason, error.code)
            )
            if isinstance(error, Permanent):
                return
        await asyncio.sleep(REPEAT_SECONDS)
