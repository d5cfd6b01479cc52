"""OpenAI's Responses API on loopback, for `replyd demo` and tests, with faults on demand.

https://platform.openai.com/docs/api-reference/responses, without streaming and tools. It answers
as a small bakery's assistant unless told otherwise.
"""

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from aiohttp import web

from replyd.demo import bakery
from replyd.demo.loopback import Fault, LoopbackServer, drop
from replyd.demo.openai_double.wire import Body, error, model, tokens

DEFAULT_MODELS = ("gpt-6-luna", "gpt-6-sol")
_METADATA_PAIRS, _METADATA_NAME, _METADATA_VALUE = 16, 64, 512


class OpenAIDouble(LoopbackServer):
    """Remembers its responses, so that `previous_response_id` is checked as OpenAI does.

    Public attributes may be changed while it runs. `api_key`: empty admits any key, but not none.
    `models`: empty means that every model exists. `replies`: from the text of the last user
    message to the answer. `delay`: seconds before each answer. `reshape`: the last word on a
    response's JSON. `requests`: the body of every authenticated POST, in order."""

    def __init__(
        self,
        *,
        api_key: str = "",
        models: Collection[str] = (),
        replies: Callable[[str], str] = bakery.reply,
        delay: float = 0.0,
    ) -> None:
        super().__init__()
        self.api_key = api_key
        self.models = models
        self.replies = replies
        self.delay = delay
        self.reshape: Callable[[Body], Body] | None = None
        self.requests: list[Body] = []
        self._responses: dict[str, Body] = {}
        self._context: dict[str, int] = {}
        self._endings: deque[Callable[[Body], None]] = deque()

    @property
    def api_url(self) -> str:
        """What to set as `OPENAI_BASE_URL`."""
        return f"{self.base_url}/v1"

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/v1/responses", self._create_response),
            web.get("/v1/models", self._list_models),
            web.get("/v1/models/{id}", self._get_model),
        ]

    # --- faults ---

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 500,
        code: str = "",
        message: str = "The server had an error while processing your request.",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` responses are refused with an HTTP error."""
        self._faults.extend([Fault(status, code, message, headers=headers or {})] * n)

    def drop_next(self, n: int = 1) -> None:
        """The next `n` requests lose their connection without an answer."""
        self._faults.extend([Fault()] * n)

    def finish_next(self, n: int = 1, *, status: str, reason: str) -> None:
        """The next `n` responses come with HTTP 200 and another `status`: `failed` with the error
        code `reason`, or `incomplete` for `reason` with half the text."""

        def end(response: Body) -> None:
            response["status"] = status
            message = response["output"][0]
            message["status"] = "incomplete"
            if status == "incomplete":
                response["incomplete_details"] = {"reason": reason}
                text = message["content"][0]["text"]
                message["content"][0]["text"] = text[: len(text) // 2]
            else:
                response["output"] = []
                response["usage"] = None
            if status == "failed":
                response["error"] = {"code": reason, "message": "The model failed."}

        self._endings.extend([end] * n)

    def refuse_next(self, n: int = 1, *, refusal: str = "I can't help with that.") -> None:
        """The next `n` responses hold a refusal instead of text."""

        def end(response: Body) -> None:
            response["output"][0]["content"] = [{"type": "refusal", "refusal": refusal}]

        self._endings.extend([end] * n)

    def forget(self, response_id: str = "") -> None:
        """Drop a stored response, or all, as happens after 30 days."""
        for known in [response_id] if response_id else list(self._responses):
            self._responses.pop(known, None)

    # --- the API ---

    async def _create_response(self, request: web.Request) -> web.Response:
        """POST /responses: https://platform.openai.com/docs/api-reference/responses/create"""
        if (denied := self._denied(request)) is not None:
            return denied
        try:
            body = json.loads(await request.text())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return error(400, "We could not parse the JSON body of your request.")
        self.requests.append(body)
        if self.delay:
            await asyncio.sleep(self.delay)
        if (fault := self._next_fault()) is not None:
            if fault.status == 0:
                return drop(request)
            return error(fault.status, fault.message, code=fault.code, headers=fault.headers)
        if (refused := self._refused(body)) is not None:
            return refused
        response = self._respond(body)
        if self.reshape is not None:
            response = self.reshape(response)
        return web.json_response(response, headers={"x-request-id": f"req_{uuid.uuid4().hex}"})

    async def _list_models(self, request: web.Request) -> web.Response:
        """GET /models: https://platform.openai.com/docs/api-reference/models/list"""
        if (denied := self._denied(request)) is not None:
            return denied
        data = [model(name) for name in self.models or DEFAULT_MODELS]
        return web.json_response({"object": "list", "data": data})

    async def _get_model(self, request: web.Request) -> web.Response:
        """GET /models/{model}: https://platform.openai.com/docs/api-reference/models/retrieve"""
        if (denied := self._denied(request)) is not None:
            return denied
        name = request.match_info["id"]
        if not self._has_model(name):
            return error(
                404, f"The model '{name}' does not exist", code="model_not_found", param="model"
            )
        return web.json_response(model(name))

    def _denied(self, request: web.Request) -> web.Response | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key and key == (self.api_key or key):
            return None
        return error(401, "Incorrect API key provided.", code="invalid_api_key")

    def _has_model(self, name: str) -> bool:
        return not self.models or name in self.models

    def _refused(self, body: Body) -> web.Response | None:
        for name in ("model", "input"):
            if not body.get(name):
                message = f"Missing required parameter: '{name}'."
                return error(400, message, code="missing_required_parameter", param=name)
        if not self._has_model(body["model"]):
            message = f"The requested model '{body['model']}' does not exist."
            return error(400, message, code="model_not_found", param="model")
        if not _is_metadata(body.get("metadata") or {}):
            message = "Invalid 'metadata': too many pairs, or a name or value that is too long."
            return error(400, message, code="invalid_value", param="metadata")
        previous = body.get("previous_response_id")
        if previous and body.get("conversation"):
            message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'."
            return error(400, message, code="mutually_exclusive_parameters")
        if previous and previous not in self._responses:
            message = f"Previous response with id '{previous}' not found."
            code, param = "previous_response_not_found", "previous_response_id"
            return error(400, message, code=code, param=param)
        return None

    def _respond(self, body: Body) -> Body:
        previous = body.get("previous_response_id")
        text = self.replies(_last_user_text(body["input"]))
        given = json.dumps(body["input"]) + str(body.get("instructions") or "")
        read = tokens(given) + self._context.get(previous or "", 0)
        response = _response(body, text, read)
        if body.get("store", True):
            self._responses[response["id"]] = response
            self._context[response["id"]] = read + tokens(text)
        if self._endings:
            self._endings.popleft()(response)
        return response


def _response(body: Body, text: str, input_tokens: int) -> Body:
    """A completed response: https://platform.openai.com/docs/api-reference/responses/object"""
    unique = uuid.uuid4().hex
    output_tokens = tokens(text)
    content = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    return {
        "id": f"resp_{unique}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": body["model"],
        "output": [
            {
                "id": f"msg_{unique}",
                "type": "message",
                "status": "completed",
                "content": [content],
                "role": "assistant",
            }
        ],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None},
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
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        },
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def _is_metadata(metadata: object) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= _METADATA_PAIRS
        and all(
            isinstance(value, str) and len(name) <= _METADATA_NAME and len(value) <= _METADATA_VALUE
            for name, value in metadata.items()
        )
    )


def _last_user_text(given: str | list[Body]) -> str:
    if isinstance(given, str):
        return given
    for item in reversed(given):
        if item.get("role") == "user":
            content = item.get("content") or ""
            if isinstance(content, str):
                return content
            return "\n".join(str(part.get("text") or "") for part in content)
    return ""
