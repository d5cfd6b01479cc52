"""What OpenAI's errors mean, https://platform.openai.com/docs/guides/error-codes."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import aiohttp
import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
)

from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary

NAME = "openai"
QUICK_RETRY_SECONDS = 0.2

_UNREACHABLE = "unreachable"
_NO_MODEL = "model_not_found"
_LOCKED = "conversation_locked"
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_NOT_CONNECTED = (
    httpx2.ConnectError,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
    # Of requests past the SDK.
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
_THREADS = ("previous_response_id", "conversation")
_ABOUT_THE_THREAD = (
    "previous_response_id",
    "previous response",
    "conversation with id",
    "no tool output found for function call",
    "no tool call found for function call output",
)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


def translated(error: Exception, *, model: str) -> DependencyError:
    """What an exception of the SDK means for us; `model` is named where it has to be changed."""
    if isinstance(error, APITimeoutError):
        return Temporary(NAME, "no answer in time", code="timeout")
    if isinstance(error, APIConnectionError):
        return _connection_failure(error)
    if isinstance(error, APIStatusError):
        return _refusal(error, model)
    if isinstance(error, ValueError | APIError):
        return Temporary(NAME, "the answer cannot be read: check OPENAI_BASE_URL")
    return DependencyDown(NAME, "the client has no usable credentials: set OPENAI_API_KEY")


def _refusal(error: APIStatusError, model: str) -> DependencyError:
    status, code, delay = error.status_code, _code(error), _delay(error.response.headers)
    if status == 401:
        return DependencyDown(NAME, "the API key is refused: set OPENAI_API_KEY", code=code)
    if code == _NO_MODEL:
        reason = f"the project has no model {model}: change ai.model"
        return DependencyDown(NAME, reason, code=code)
    if code in _NO_MONEY:
        reason = "the account's quota is used up: add credit or raise the budget"
        return DependencyDown(NAME, reason, code=code)
    if status == 403:
        reason = "the key may not do this: check the project's permissions and region"
        return DependencyDown(NAME, reason, code=code)
    if status in (404, 405):
        reason = f"HTTP {status} where the API should be: check OPENAI_BASE_URL and ai.model"
        return DependencyDown(NAME, reason, code=code)
    if status == 429:
        return Busy(NAME, "too many requests or tokens a minute", code=code, delay=delay)
    if status >= 500 or status in (408, 409) or code == _LOCKED:
        return Temporary(NAME, f"HTTP {status} ({code})", code=code, delay=delay)
    return Permanent(NAME, f"the request is refused with HTTP {status} ({code})", code=code)


def never_arrived(error: DependencyError) -> bool:
    """Whether the request cannot have reached the server, so that repeating it is harmless."""
    return isinstance(error, DependencyDown) and error.code == _UNREACHABLE


def thread_is_gone(error: Exception) -> bool:
    """Whether a refusal is about the thread that a request wanted to continue: nobody knows it, or
    it waits for calls that nobody will answer any more. Servers other than OpenAI's own tell it in
    the message only; a rebuild in vain costs one request."""
    if not isinstance(error, APIStatusError) or error.code in (_NO_MODEL, _LOCKED):
        return False
    if error.status_code != 400:
        return error.status_code == 404
    message = error.message.lower()
    return (
        error.code == "previous_response_not_found"
        or error.param in _THREADS
        or any(words in message for words in _ABOUT_THE_THREAD)
    )


async def once_more(
    sleep: Callable[[float], Awaitable[None]],
    send: Callable[[*_Ts], Awaitable[_T]],
    *arguments: *_Ts,
) -> _T:
    """One quick retry of what never reached the server: it spares the consumer a pause."""
    try:
        return await send(*arguments)
    except DependencyError as error:
        if not never_arrived(error):
            raise
    # Outside of the handler, so that no vendor text is chained to what may be logged.
    await sleep(QUICK_RETRY_SECONDS)
    return await send(*arguments)


def _connection_failure(error: APIConnectionError) -> DependencyError:
    if isinstance(error.__cause__, _NOT_CONNECTED):
        return DependencyDown(NAME, "no connection to the API", code=_UNREACHABLE)
    # One connection that broke says nothing about the next one.
    return Temporary(NAME, "the connection broke before the answer", code="disconnected")


def _code(error: APIStatusError) -> str:
    """The vendor's code if it looks like one; anything else might quote the request."""
    return plain(error.code or error.type, otherwise=f"http_{error.status_code}")


def plain(value: object, otherwise: str = "unknown") -> str:
    """The vendor's code if it looks like one."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else otherwise


def _delay(headers: httpx2.Headers) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after`."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if _SECONDS.fullmatch(value := headers.get(name, "").strip()):
            return float(value) * unit
    return None
