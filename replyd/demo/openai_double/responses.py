"""OpenAI's Responses API, https://platform.openai.com/docs/api-reference/responses, without
streaming, background mode and OpenAI's own tools."""

import time
import uuid
from collections.abc import Iterable, Sequence

from aiohttp import web

from replyd.demo.openai_double.context import Context, UnreadableError, content
from replyd.demo.openai_double.conversations import (
    Conversation,
    ConversationsApi,
    locked,
    not_found,
)
from replyd.demo.openai_double.shared import Ending, Shared
from replyd.demo.openai_double.wire import Body, bad_metadata, cached, error, tokens


class ResponsesApi:
    """Remembers its responses, so that `previous_response_id` is checked as OpenAI does."""

    def __init__(self, shared: Shared, conversations: ConversationsApi) -> None:
        self._shared = shared
        self._conversations = conversations
        self._responses: dict[str, tuple[Body, Context]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        """All but the POST, which the double routes."""
        return [
            web.get("/v1/responses/{id}", self._retrieve),
            web.delete("/v1/responses/{id}", self._delete),
        ]

    def forget(self, response_id: str = "") -> None:
        """Drop a stored response, or all, as happens after 30 days."""
        for known in [response_id] if response_id else list(self._responses):
            self._responses.pop(known, None)

    async def create(self, request: web.Request) -> web.Response:
        """POST /responses: https://platform.openai.com/docs/api-reference/responses/create"""
        body = await self._shared.record(request)
        if isinstance(body, web.Response):
            return body
        conversation = self._conversations.get(_conversation_id(body))
        if conversation is None:
            return await self._shared.hindered(request) or self._respond(body, None)
        if conversation.running:
            return locked()
        conversation.running = True
        try:
            return await self._shared.hindered(request) or self._respond(body, conversation)
        finally:
            conversation.running = False

    async def _retrieve(self, request: web.Request) -> web.Response:
        found = await self._found(request)
        return found if isinstance(found, web.Response) else web.json_response(found)

    async def _delete(self, request: web.Request) -> web.Response:
        found = await self._found(request)
        if isinstance(found, web.Response):
            return found
        self.forget(found["id"])
        return web.json_response({"id": found["id"], "object": "response.deleted", "deleted": True})

    async def _found(self, request: web.Request) -> Body | web.Response:
        if (denied := self._shared.denied(request)) is not None:
            return denied
        if (hindered := await self._shared.hindered(request)) is not None:
            return hindered
        name = request.match_info["id"]
        if name not in self._responses:
            return error(404, f"Response with id '{name}' not found.")
        return self._responses[name][0]

    def _respond(self, body: Body, conversation: Conversation | None) -> web.Response:
        if (refused := self._refused(body, conversation)) is not None:
            return refused
        given = _items(body)
        try:
            known, read = self._read(body, given, conversation)
        except UnreadableError as refusal:
            return error(refusal.status, str(refusal), param="input")
        response = self._answer(body, known, read)
        if response["store"]:
            self._responses[response["id"]] = response, read.reading(_readable(response["output"]))
        if conversation is not None and response["status"] in ("completed", "incomplete"):
            conversation.add([*given, *response["output"]])
        return self._shared.send(response)

    def _read(
        self, body: Body, given: Sequence[Body], conversation: Conversation | None
    ) -> tuple[Context, Context]:
        """What the model knew before, and with this request's input."""
        known = Context()
        if previous := body.get("previous_response_id"):
            known = self._responses[previous][1]
        elif conversation is not None:
            known = known.reading(_readable(conversation.items))
        read = known.reading(given)
        if read.pending:
            raise UnreadableError(f"No tool output found for function call {read.pending[0]}.")
        for item in given:
            for file in content(item)[1]:
                self._shared.see(file)
        return known, read

    def _refused(self, body: Body, conversation: Conversation | None) -> web.Response | None:
        for name in ("model", "input"):
            if not body.get(name):
                message = f"Missing required parameter: '{name}'."
                return error(400, message, code="missing_required_parameter", param=name)
        if not self._shared.has_model(body["model"]):
            message = f"The requested model '{body['model']}' does not exist."
            return error(400, message, code="model_not_found", param="model")
        if (refused := bad_metadata(body.get("metadata"))) is not None:
            return refused
        previous = body.get("previous_response_id")
        if previous and body.get("conversation"):
            message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'."
            return error(400, message, code="mutually_exclusive_parameters")
        if previous and previous not in self._responses:
            message = f"Previous response with id '{previous}' not found."
            code, param = "previous_response_not_found", "previous_response_id"
            return error(400, message, code=code, param=param)
        if conversation is None and (wanted := _conversation_id(body)):
            return not_found(wanted)
        return None

    def _answer(self, body: Body, known: Context, read: Context) -> Body:
        ending = self._shared.next_ending()
        offered = [tool["name"] for tool in body.get("tools") or [] if tool["type"] == "function"]
        calls = [] if ending else self._shared.calls(read.text, offered, read.outputs)
        if calls:
            text = self._shared.asides(read.text)
        else:
            text = self._shared.answer(read.text, read.outputs)
        output = [_message(text)] if text or not calls else []
        output += [_call(name, arguments) for name, arguments in calls]
        written = tokens("".join([text, *map("".join, calls)]))
        if ((body.get("reasoning") or {}).get("effort") or "none") != "none":
            output.insert(0, _reasoning(body))
        instructions = tokens(str(body.get("instructions") or ""))
        usage = _usage(read.tokens + instructions, known.tokens, written)
        response = _response(body, output, usage)
        if ending is not None:
            _end(response, ending)
        return response


def _items(body: Body) -> list[Body]:
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _conversation_id(body: Body) -> str:
    given = body.get("conversation") or ""
    return str(given["id"] if isinstance(given, dict) else given)


def _readable(items: Sequence[Body]) -> list[Body]:
    """What is stored and read again: reasoning need not come back."""
    return [item for item in items if item["type"] != "reasoning"]


def _message(text: str) -> Body:
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "status": "completed",
        "content": [part],
        "role": "assistant",
    }


def _call(name: str, arguments: str) -> Body:
    return {
        "id": f"fc_{uuid.uuid4().hex}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{uuid.uuid4().hex[:24]}",
        "name": name,
        "arguments": arguments,
    }


def _reasoning(body: Body) -> Body:
    item: Body = {"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": []}
    if "reasoning.encrypted_content" in (body.get("include") or ()):
        item["encrypted_content"] = uuid.uuid4().hex
    return item


def _usage(input_tokens: int, prefix: int, output_tokens: int) -> Body:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached(prefix), "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def _end(response: Body, ending: Ending) -> None:
    (message,) = (item for item in response["output"] if item["type"] == "message")
    if ending.status == "refused":
        message["content"] = [{"type": "refusal", "refusal": ending.reason}]
        return
    response["status"] = ending.status
    if ending.status == "incomplete":
        response["incomplete_details"] = {"reason": ending.reason}
        message["status"] = "incomplete"
        part = message["content"][0]
        part["text"] = part["text"][: len(part["text"]) // 2]
        return
    response["output"] = []
    response["usage"] = None
    if ending.status == "failed":
        response["error"] = {"code": ending.reason, "message": "The model failed."}


def _response(body: Body, output: Sequence[Body], usage: Body) -> Body:
    """A completed response: https://platform.openai.com/docs/api-reference/responses/object"""
    conversation = _conversation_id(body)
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "background": False,
        "conversation": {"id": conversation} if conversation else None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": body["model"],
        "output": list(output),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": usage,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
