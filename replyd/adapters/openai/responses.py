"""The reply model on OpenAI's Responses API, https://platform.openai.com/docs/api-reference/responses.

The thread is `previous_response_id`. OpenAI keeps responses for 30 days; where the thread is
unknown, expired or of another kind, the conversation is rebuilt from our own history.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from openai import APIStatusError, AsyncOpenAI, OpenAIError, omit
from openai.types.responses import EasyInputMessageParam, Response, ResponseInputParam
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_fixed

from replyd.adapters.openai.failures import NAME, never_arrived, plain, translated
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Line, ModelReply, ModelRequest

QUICK_RETRY_SECONDS = 0.2
METADATA_VALUE_LIMIT = 512  # characters, from the API reference


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
            failure = translated(error, model=self._model)
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
            retry=retry_if_exception(never_arrived),
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
            failure = translated(error, model=self._model)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        if gone:
            raise _ThreadGoneError
        raise failure


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


def _reply(response: object, model: str) -> ModelReply:
    """The answer of a response. The SDK does not validate what comes, so each part is looked at
    before it is used."""
    if not isinstance(response, Response):
        raise Temporary(NAME, "the answer is no response object: check OPENAI_BASE_URL")
    if response.status == "failed":
        raise _failure(response)
    text = _text(response)
    if response.status == "incomplete":
        reason = plain(getattr(response.incomplete_details, "reason", None))
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
    code = plain(getattr(response.error, "code", None))
    reason = f"the response failed ({code})"
    if code == "rate_limit_exceeded":
        return Busy(NAME, reason, code=code)
    if code in ("server_error", "vector_store_timeout", "unknown"):
        return Temporary(NAME, reason, code=code)
    return Permanent(NAME, reason, code=code)
