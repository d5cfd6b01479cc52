"""The reply model on OpenAI's Responses API, https://platform.openai.com/docs/api-reference/responses.

The thread is a chain of responses (`resp_…`, kept for 30 days) or a conversation of OpenAI's
(`conv_…`, kept for good). Where the thread is unknown, expired or of another kind, the
conversation is rebuilt from our own history as a new chain.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from openai import OpenAIError

from replyd.adapters.openai import wire
from replyd.adapters.openai.client import Client
from replyd.adapters.openai.failures import NAME, once_more, thread_is_gone, translated
from replyd.domain.tools import ToolSpec
from replyd.errors import DependencyDown, DependencyError, Temporary
from replyd.ports import ModelReply, ModelRequest

# Characters, from the API reference.
METADATA_VALUE_LIMIT = 512
CACHE_KEY_LIMIT = 64


class OpenAIResponses:
    """One model with one set of instructions."""

    def __init__(
        self,
        client: Client,
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec] = (),
        store: bool = True,
        reasoning_effort: str = "",
        text_format: Mapping[str, Any] | None = None,
        identify: Callable[[str], str] = lambda _: "",
        timeout_seconds: float = 60.0,
        max_output_tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout_seconds` is for a whole `respond`, with a rebuild of the thread if need be.

        `store`: whether OpenAI keeps the responses; if not, there are no threads, and the history
        goes along each time. `text_format`: the `name` and `schema` (JSON Schema) of answers that
        are JSON. `identify`: from a customer's address, and from a conversation's id, to a keyed
        hash of at most 64 characters, by which OpenAI tells customers and caches apart; empty to
        leave that out. `max_output_tokens`: reasoning included; a longer answer is truncated. None
        or 0, and an empty `reasoning_effort`, leave it to the model."""
        self._client = client
        self._model = model
        self._store = store
        self._identify = identify
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._settings: dict[str, Any] = {
            "model": model,
            "instructions": instructions,
            "store": store,
            "truncation": "auto",
        }
        if tools:
            self._settings["tools"] = wire.function_tools(tools)
        if reasoning_effort:
            self._settings["reasoning"] = {"effort": reasoning_effort}
        # Only the calls of a turn are ever repeated, so only then is the reasoning wanted.
        if tools and not store:
            self._settings["include"] = ["reasoning.encrypted_content"]
        if text_format:
            self._settings["text"] = wire.json_format(text_format)
        if max_output_tokens:
            self._settings["max_output_tokens"] = max_output_tokens

    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer to the turn, or the calls it waits for.

        Raises Busy when throttled, Temporary for a timeout, a lost connection, a server error or a
        conversation in use, DependencyDown when unreachable or when key, budget or model need a
        change, and Permanent for a request that will never be taken."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer(request)
        except TimeoutError:
            raise Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout") from None

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

    async def _answer(self, request: ModelRequest) -> ModelReply:
        thread = request.thread_id if request.state is None else request.state["thread"]
        # Other threads, such as the Assistants' `thread_…`, cannot be continued here.
        if self._store and thread.startswith(("resp_", "conv_")):
            try:
                response = await self._create(request, wire.continued(request), thread)
            except _ThreadGoneError:
                pass
            else:
                return self._reply(request, response, thread)
        return self._reply(request, await self._create(request, wire.rebuilt(request), ""), "")

    def _reply(self, request: ModelRequest, response: object, thread: str) -> ModelReply:
        if not isinstance(response, dict):
            raise Temporary(NAME, "the answer is no response object: check OPENAI_BASE_URL")
        answer = wire.answer(response)
        if not self._store:
            thread = ""
        elif not thread.startswith("conv_"):
            thread = str(response.get("id") or "")
        read, written, cached = wire.tokens(response)
        state = None
        if answer.calls:
            # A stored response has its reasoning at OpenAI; elsewhere the calls can do without.
            items = answer.call_items if self._store else wire.items(response)
            state = {"thread": thread, "items": [*wire.rounds(request), *items]}
        return ModelReply(
            text=answer.text,
            thread_id=thread,
            model=str(response.get("model") or self._model),
            input_tokens=read,
            output_tokens=written,
            cached_tokens=cached,
            finish=answer.finish,
            calls=answer.calls,
            state=state,
        )

    async def _create(
        self, request: ModelRequest, items: Sequence[wire.Item], thread: str
    ) -> object:
        return await once_more(self._sleep, self._post, request, items, thread)

    async def _post(self, request: ModelRequest, items: Sequence[wire.Item], thread: str) -> object:
        body = {**self._settings, "input": items, "metadata": _metadata(request)}
        if thread:
            body["previous_response_id" if thread.startswith("resp_") else "conversation"] = thread
        if request.customer and (customer := self._identify(request.customer)):
            body["safety_identifier"] = customer
        if cache := self._identify(request.conversation_id)[:CACHE_KEY_LIMIT]:
            body["prompt_cache_key"] = cache
        try:
            return await self._client.create("/responses", body)
        except (OpenAIError, ValueError) as error:
            gone = bool(thread) and thread_is_gone(error)
            failure = translated(error, model=self._model)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        if gone:
            raise _ThreadGoneError
        raise failure


class _ThreadGoneError(Exception):
    """The server does not know the thread, or cannot go on with it."""


def _metadata(request: ModelRequest) -> dict[str, str]:
    """For whoever looks a response up at OpenAI."""
    metadata = {"conversation_id": request.conversation_id[:METADATA_VALUE_LIMIT]}
    if request.sids:
        metadata["turn"] = request.sids[0][:METADATA_VALUE_LIMIT]
    return metadata
