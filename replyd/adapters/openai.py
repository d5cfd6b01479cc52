"""The reply model on OpenAI's Responses API, https://platform.openai.com/docs/api-reference/responses.

The thread is `previous_response_id`. OpenAI keeps responses for 30 days; where the thread is
unknown, expired or of another kind, the conversation is rebuilt from our own history.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    OpenAIError,
    omit,
)
from openai.types.responses import EasyInputMessageParam, Response, ResponseInputParam
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_fixed

from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Line, ModelReply, ModelRequest

NAME = "openai"
CONNECT_TIMEOUT_SECONDS = 5.0
QUICK_RETRY_SECONDS = 0.2
METADATA_VALUE_LIMIT = 512  # characters, from the API reference

_UNREACHABLE = "unreachable"
_NO_MODEL = "model_not_found"
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_NOT_CONNECTED = (
    httpx2.ConnectError,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")


def create_client(
    api_key: str, *, base_url: str = "", timeout_seconds: float = 60.0
) -> AsyncOpenAI:
    """One client, with its connection pool, for the life of the process: building one costs
    milliseconds of CPU. The SDK's retries are off, they would repeat what must not wait.

    `base_url`: empty means `OPENAI_BASE_URL`, or else OpenAI."""
    return AsyncOpenAI(
        api_key=api_key,
        base_url=base_url or None,
        max_retries=0,
        timeout=httpx2.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        ),
    )


class OpenAIResponses:
    """One model with one set of instructions."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str,
        instructions: str,
        timeout_seconds: float = 60.0,
        max_output_tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout_seconds` is for a whole `respond`, with a rebuild of the thread if need be.

        `max_output_tokens`: reasoning included; a longer answer is incomplete, hence Permanent.
        None or 0 leaves it to the model."""
        self._client = client
        self._model = model
        self._instructions = instructions
        self._timeout = timeout_seconds
        self._max_output_tokens = max_output_tokens
        self._sleep = sleep

    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer to the turn.

        Raises Busy when throttled, Temporary for a timeout, a lost connection or a server error,
        DependencyDown when unreachable or when key, budget or model need a change, and Permanent
        for a refusal, an incomplete or empty answer, and a request that will never be taken."""
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._answer(request)
        except TimeoutError:
            raise Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout") from None
        return _reply(response, self._model)

    async def check(self) -> None:
        """Look the model up, spending no tokens. Raises DependencyDown with what to change."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.models.retrieve(self._model)
            return
        except TimeoutError:
            failure: DependencyError = Temporary(NAME, "no answer in time", code="timeout")
        except (OpenAIError, ValueError) as error:
            failure = self._translate(error)
        raise DependencyDown(NAME, failure.reason, code=failure.code)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _answer(self, request: ModelRequest) -> object:
        # `thread_…` and `conv_…` are threads that the Responses API cannot continue.
        if request.thread_id.startswith("resp_"):
            try:
                return await self._create(request, request.unseen, request.thread_id)
            except _ThreadGoneError:
                pass
        return await self._create(request, request.history, None)

    async def _create(
        self, request: ModelRequest, lines: Sequence[Line], previous: str | None
    ) -> object:
        messages: ResponseInputParam = [_message(line) for line in lines]
        messages.append(_message(Line("user", request.turn)))
        # One quick retry of what never reached the server spares the consumer a pause.
        retrying = AsyncRetrying(
            retry=retry_if_exception(_never_arrived),
            stop=stop_after_attempt(2),
            wait=wait_fixed(QUICK_RETRY_SECONDS),
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(self._post, messages, previous, request.conversation_id)

    async def _post(
        self, messages: ResponseInputParam, previous: str | None, conversation_id: str
    ) -> object:
        try:
            return await self._client.responses.create(
                model=self._model,
                instructions=self._instructions,
                input=messages,
                previous_response_id=previous or omit,
                max_output_tokens=self._max_output_tokens or omit,
                store=True,
                truncation="auto",
                metadata={"conversation_id": conversation_id[:METADATA_VALUE_LIMIT]},
            )
        except (OpenAIError, ValueError) as error:
            gone = previous is not None and _thread_is_gone(error)
            failure = self._translate(error)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        if gone:
            raise _ThreadGoneError
        raise failure

    def _translate(self, error: Exception) -> DependencyError:
        if isinstance(error, APITimeoutError):
            return Temporary(NAME, "no answer in time", code="timeout")
        if isinstance(error, APIConnectionError):
            return _connection_failure(error)
        if isinstance(error, APIStatusError):
            return self._refusal(error)
        if isinstance(error, ValueError | APIError):
            return Temporary(NAME, "the answer cannot be read: check OPENAI_BASE_URL")
        return DependencyDown(NAME, "the client has no usable credentials: set OPENAI_API_KEY")

    def _refusal(self, error: APIStatusError) -> DependencyError:
        status, code, delay = error.status_code, _code(error), _delay(error.response.headers)
        if status == 401:
            return DependencyDown(NAME, "the API key is refused: set OPENAI_API_KEY", code=code)
        if code == _NO_MODEL:
            reason = f"the project has no model {self._model}: change ai.model"
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
        if status >= 500 or status in (408, 409) or code == "conversation_locked":
            return Temporary(NAME, f"HTTP {status} ({code})", code=code, delay=delay)
        return Permanent(NAME, f"the request is refused with HTTP {status} ({code})", code=code)


class _ThreadGoneError(Exception):
    """The server does not know the previous response."""


def _message(line: Line) -> EasyInputMessageParam:
    return {
        "type": "message",
        "role": "assistant" if line.role == "assistant" else "user",
        "content": line.text,
    }


def _thread_is_gone(error: Exception) -> bool:
    """Whether a refusal is about `previous_response_id`. Servers other than OpenAI's own tell it
    in the message only; a rebuild in vain costs one request."""
    if not isinstance(error, APIStatusError) or error.status_code not in (400, 404):
        return False
    message = error.message.lower()
    return (
        error.code == "previous_response_not_found"
        or error.param == "previous_response_id"
        or "previous_response_id" in message
        or "previous response" in message
    )


def _never_arrived(error: BaseException) -> bool:
    return isinstance(error, DependencyDown) and error.code == _UNREACHABLE


def _connection_failure(error: APIConnectionError) -> DependencyError:
    if isinstance(error.__cause__, _NOT_CONNECTED):
        return DependencyDown(NAME, "no connection to the API", code=_UNREACHABLE)
    # One connection that broke says nothing about the next one.
    return Temporary(NAME, "the connection broke before the answer", code="disconnected")


def _code(error: APIStatusError) -> str:
    """The vendor's code if it looks like one; anything else might quote the request."""
    return _plain(error.code or error.type, otherwise=f"http_{error.status_code}")


def _plain(value: object, otherwise: str = "unknown") -> str:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else otherwise


def _delay(headers: httpx2.Headers) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after`."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if _SECONDS.fullmatch(value := headers.get(name, "").strip()):
            return float(value) * unit
    return None


def _reply(response: object, model: str) -> ModelReply:
    """The answer of a response. The SDK does not validate what comes, so each part is looked at
    before it is used."""
    if not isinstance(response, Response):
        raise Temporary(NAME, "the answer is no response object: check OPENAI_BASE_URL")
    if response.status == "failed":
        raise _failure(response)
    text = _text(response)
    if response.status == "incomplete":
        reason = _plain(getattr(response.incomplete_details, "reason", None))
        raise Permanent(NAME, f"the answer is incomplete ({reason})", code=reason)
    if response.status not in ("completed", None):
        raise Temporary(NAME, f"the response ended as {response.status}", code="not_completed")
    if not text:
        raise Permanent(NAME, "the model answered without text", code="empty")
    usage: Any = response.usage
    return ModelReply(
        text=text,
        thread_id=response.id,
        model=str(response.model or model),
        input_tokens=int(getattr(usage, "input_tokens", 0) or 0),
        output_tokens=int(getattr(usage, "output_tokens", 0) or 0),
    )


def _text(response: Response) -> str:
    """The final messages' text, commentary left out. Raises Permanent on a refusal."""
    output: Any = response.output or ()
    messages = []
    for item in output:
        if getattr(item, "type", None) != "message" or item.phase == "commentary":
            continue
        parts = []
        for part in item.content or ():
            kind = getattr(part, "type", None)
            if kind == "refusal":
                raise Permanent(NAME, "the model refused", code="refusal")
            if kind == "output_text" and part.text:
                parts.append(part.text)
        messages.append("".join(parts))
    return "\n\n".join(filter(None, messages)).strip()


def _failure(response: Response) -> DependencyError:
    code = _plain(getattr(response.error, "code", None))
    reason = f"the response failed ({code})"
    if code == "rate_limit_exceeded":
        return Busy(NAME, reason, code=code)
    if code in ("server_error", "vector_store_timeout", "unknown"):
        return Temporary(NAME, reason, code=code)
    return Permanent(NAME, reason, code=code)
