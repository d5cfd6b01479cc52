"""The reply model on Chat Completions, which vLLM, Ollama, llama.cpp, Azure and many more speak,
https://platform.openai.com/docs/api-reference/chat.

Nothing is kept at the vendor: each request brings the whole conversation. What is not set is not
sent, because some servers refuse parameters that they do not know.
"""

import asyncio
import json
import re
import uuid
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from openai import APIStatusError, OpenAIError
from openai.types import Model

from replyd.adapters.openai.client import Client, count, part, parts
from replyd.adapters.openai.failures import NAME, once_more, translated
from replyd.domain.tools import ToolCall, ToolSpec
from replyd.errors import DependencyDown, DependencyError, Temporary
from replyd.ports import File, Finish, ModelReply, ModelRequest

_FINISHES: Mapping[str, Finish] = {"length": "truncated", "content_filter": "filtered"}
# Where no reasoning parser is configured, vLLM and llama.cpp leave the reasoning in the content.
# The chat template may have written the opening tag into the prompt, where it does not come back:
# https://github.com/vllm-project/vllm/issues/12999
_REASONING = re.compile(r"\A.*?</think>", re.DOTALL)
_UNENDED_REASONING = re.compile(r"\A\s*<think>.*", re.DOTALL)

Message = dict[str, Any]


class OpenAIChat:
    """One model with one set of instructions."""

    def __init__(
        self,
        client: Client,
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec] = (),
        timeout_seconds: float = 60.0,
        max_output_tokens: int | None = None,
        reasoning_effort: str = "",
        text_format: Mapping[str, Any] | None = None,
        identify: Callable[[str], str] = lambda _: "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout_seconds` is for a whole `respond`. `max_output_tokens`: reasoning included; a
        longer answer is truncated. None or 0, and an empty `reasoning_effort`, leave it to the
        model. `text_format`: the `name` and `schema` (JSON Schema) of answers that are JSON.
        `identify`: from a customer's address to a keyed hash of at most 128 characters, empty for
        servers that do not know or need a `safety_identifier`."""
        self._client = client
        self._model = model
        self._instructions = instructions
        self._identify = identify
        self._timeout = timeout_seconds
        self._max_output_tokens = max_output_tokens
        self._sleep = sleep
        self._settings: dict[str, Any] = {}
        if tools:
            self._settings["tools"] = [_tool(spec) for spec in tools]
        if reasoning_effort:
            self._settings["reasoning_effort"] = reasoning_effort
        if text_format:
            self._settings["response_format"] = _json_format(text_format)
        # Ollama and older llama.cpp know only this name and answer without any limit to the other;
        # OpenAI's reasoning models refuse this one and say so, and then the other is used.
        self._limit = "max_tokens"

    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer to the turn, or the tools it waits for.

        Raises Busy when throttled, Temporary for a timeout, a lost connection, a server error or
        an answer that is none, DependencyDown when unreachable or when key, budget or model need
        a change, and Permanent for a request that will never be taken."""
        messages = self._opening(request) if request.state is None else _continued(request)
        customer = self._identify(request.customer) if request.customer else ""
        try:
            async with asyncio.timeout(self._timeout):
                completion = await self._create(messages, customer)
        except TimeoutError:
            raise Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout") from None
        return _reply(completion, messages, self._model)

    async def check(self) -> None:
        """Look the model up, spending no tokens, as far as the server has lists of models. Raises
        DependencyDown with what to change."""
        failure: DependencyError | None
        try:
            async with asyncio.timeout(self._timeout):
                failure = await self._look_up()
        except TimeoutError:
            failure = Temporary(NAME, "no answer in time", code="timeout")
        except (OpenAIError, ValueError) as error:
            failure = translated(error, model=self._model)
        if failure is not None:
            raise DependencyDown(NAME, failure.reason, code=failure.code)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    def _opening(self, request: ModelRequest) -> list[Message]:
        system = [{"role": "system", "content": self._instructions}] if self._instructions else []
        lines = [
            {"role": "assistant" if line.role == "assistant" else "user", "content": line.text}
            for line in request.history
        ]
        return [*system, *lines, {"role": "user", "content": _turn(request)}]

    async def _create(self, messages: list[Message], customer: str) -> object:
        return await once_more(self._sleep, self._post, messages, customer)

    async def _post(self, messages: list[Message], customer: str) -> object:
        settings = {"model": self._model, "messages": messages, **self._settings}
        if customer:
            settings["safety_identifier"] = customer
        limit = self._limit if self._max_output_tokens else ""
        if limit:
            settings[limit] = self._max_output_tokens
        try:
            return await self._client.create("/chat/completions", settings)
        except (OpenAIError, ValueError) as error:
            renamed = limit == "max_tokens" and _wants_the_other_limit(error)
            failure = translated(error, model=self._model)
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        if renamed:
            self._limit = "max_completion_tokens"
            return await self._post(messages, customer)
        raise failure

    async def _look_up(self) -> DependencyError | None:
        try:
            if isinstance(await self._client.models.retrieve(self._model), Model):
                return None
            return Temporary(NAME, "the answer is no model object: check OPENAI_BASE_URL")
        except APIStatusError as error:
            if not _has_no_route(error):
                raise
        # vLLM and llama.cpp have a list, but until lately no route for one model.
        try:
            listed = _models(await self._client.get("/models", cast_to=object))
        except APIStatusError as error:
            if not _has_no_route(error):
                raise
            return None  # It answers; only a request that costs tokens would tell more.
        # llama.cpp with one model takes any name for it.
        if self._model in listed or list(listed.values()) == ["llamacpp"]:
            return None
        reason = f"the server lists no model {self._model}: change ai.model"
        return DependencyDown(NAME, reason, code="model_not_found")


def _tool(spec: ToolSpec) -> Message:
    parameters = dict(spec.parameters) or {"type": "object", "properties": {}}
    function = {"name": spec.name, "description": spec.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _json_format(text_format: Mapping[str, Any]) -> Message:
    schema = {"name": text_format["name"], "schema": text_format["schema"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _turn(request: ModelRequest) -> str | list[Message]:
    """The turn's text, and behind it the files that it speaks of, in their order."""
    if not request.files:
        return request.turn
    files = [_file(number, file) for number, file in enumerate(request.files, start=1)]
    return [{"type": "text", "text": request.turn}, *files]


def _file(number: int, file: File) -> Message:
    url = f"data:{file.content_type};base64,{b64encode(file.data).decode()}"
    if file.content_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if file.content_type == "application/pdf":
        name = file.name or f"file-{number}.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": url}}
    # Without a part in its place, the next file would be taken for this one.
    return {"type": "text", "text": f"(file {number} cannot be shown)"}


def _continued(request: ModelRequest) -> list[Message]:
    results = [
        {"role": "tool", "tool_call_id": result.id, "content": result.output}
        for result in request.results
    ]
    return [*request.state, *results]


def _wants_the_other_limit(error: Exception) -> bool:
    """Codes for it differ between servers; all name the parameter to use instead."""
    return (
        isinstance(error, APIStatusError)
        and error.status_code == 400
        and "max_completion_tokens" in error.message
    )


def _has_no_route(error: APIStatusError) -> bool:
    return error.status_code in (404, 405, 501) and error.code != "model_not_found"


def _models(body: Any) -> dict[str, str]:
    """Who owns each model of a list. Raises ValueError when it is none."""
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        raise ValueError("no list of models")
    entries = [entry for entry in body["data"] if isinstance(entry, dict)]
    return {str(entry.get("id")): str(entry.get("owned_by")) for entry in entries}


def _reply(completion: object, messages: list[Message], model: str) -> ModelReply:
    """The answer of a completion. Nobody has validated what came, so each part is looked at before
    it is used."""
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not (
        isinstance(completion, dict) and isinstance(choice, dict) and isinstance(message, dict)
    ):
        raise Temporary(NAME, "the answer is no chat completion: check OPENAI_BASE_URL")
    text = _text(message.get("content"))
    finish = _FINISHES.get(str(choice.get("finish_reason")), "complete")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        text, finish = text or refusal.strip(), "refused"
    # A call that was cut off must not run.
    written = _calls(message, messages) if finish == "complete" else ()
    if finish == "complete" and not text and not written:
        finish = "empty"
    usage = part(completion, "usage")
    return ModelReply(
        text=text,
        thread_id="",
        model=str(completion.get("model") or model),
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=count(usage, "completion_tokens"),
        cached_tokens=count(part(usage, "prompt_tokens_details"), "cached_tokens"),
        finish=finish,
        calls=tuple(ToolCall(c["id"], **c["function"]) for c in written),
        state=(*messages, _assistant(message, written)) if written else None,
    )


def _text(content: object) -> str:
    text = content if isinstance(content, str) else ""
    return _UNENDED_REASONING.sub("", _REASONING.sub("", text)).strip()


def _calls(message: Message, messages: list[Message]) -> tuple[Message, ...]:
    """The calls of functions as they go back with their results. Ids are the server's where they
    can tell calls apart: Gemini's are empty, llama.cpp's may all be the same."""
    taken = {call["id"] for said in messages for call in said.get("tool_calls") or ()}
    written = []
    for call in parts(message, "tool_calls"):
        function = part(call, "function")
        name = function.get("name")
        if not isinstance(name, str) or not name:
            continue
        unique, arguments = call.get("id"), function.get("arguments")
        if not isinstance(unique, str) or not unique or unique in taken:
            unique = uuid.uuid4().hex[:9]  # Mistral's templates take nine letters or digits only.
        taken.add(unique)
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments or {})
        function = {"name": name, "arguments": arguments}
        written.append({"id": unique, "type": "function", "function": function})
    return tuple(written)


def _assistant(message: Message, written: tuple[Message, ...]) -> Message:
    """The message as it came, with what its server adds and may want back, such as DeepSeek its
    `reasoning_content`."""
    return {
        **message,
        "role": "assistant",
        "content": message.get("content"),
        "tool_calls": list(written),
    }
