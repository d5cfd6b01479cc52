"""The end of a process's turns."""

import asyncio
from collections.abc import Sequence

from replyd.runtime.buffer import Buffer
from replyd.runtime.consumer import Consumer


async def drain(
    consumers: Sequence[Consumer],
    polls: Sequence["asyncio.Task[None]"],
    buffer: Buffer,
    grace_seconds: float,
) -> None:
    """Take no further wake-ups and begin no further turns, finish those under way within the
    grace, give everything else back. `polls`: the tasks in which the consumers run.

    The receives in flight and the turns are waited for together: a turn that began meanwhile, or
    a wake-up that was kept until the receives were back, would only be late."""
    for consumer in consumers:
        consumer.stop()
    async with asyncio.TaskGroup() as ending:
        ending.create_task(buffer.drain(grace_seconds))
        await asyncio.gather(*polls, return_exceptions=True)
