"""Several at once, but not too many."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
# Twilio and OpenAI take more; a daemon shares both with us.
_AT_ONCE = 8


async def at_once(do: Callable[[T], Awaitable[None]], todo: Iterable[T]) -> None:
    """Raises the first error, once those under way are cancelled."""
    left = iter(todo)

    async def work() -> None:
        for one in left:
            await do(one)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
