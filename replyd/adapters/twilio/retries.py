"""Which requests to Twilio are tried again at once, and how often."""

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from replyd.adapters.twilio import failures
from replyd.errors import Busy, DependencyDown, Temporary

TRIES = 3
# Longer waits are the caller's: it can serve other conversations meanwhile.
MAX_WAIT_SECONDS = 2.0


def retrying(
    repeatable: Callable[[BaseException], bool],
    deadline: float,
    sleep: Callable[[float], Awaitable[None]],
) -> AsyncRetrying:
    """`deadline`: by the loop's clock."""
    loop = asyncio.get_running_loop()

    def too_late(state: RetryCallState) -> bool:
        return state.attempt_number >= TRIES or loop.time() + state.upcoming_sleep >= deadline

    return AsyncRetrying(
        retry=retry_if_exception(repeatable),
        wait=_wait,
        stop=too_late,
        sleep=sleep,
        reraise=True,
    )


def was_not_accepted(error: BaseException) -> bool:
    if isinstance(error, Busy):
        return error.delay is not None and error.delay <= MAX_WAIT_SECONDS
    return isinstance(error, Temporary) and error.code == failures.UNREACHABLE


def is_soon_over(error: BaseException) -> bool:
    """For what is safe to repeat whatever became of the first try."""
    if isinstance(error, Busy | DependencyDown) or not isinstance(error, Temporary):
        return was_not_accepted(error)
    return (error.delay or 0) <= MAX_WAIT_SECONDS


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Temporary) and error.delay is not None:
        return error.delay
    return 0.1 * 2.0 ** (state.attempt_number - 1)
