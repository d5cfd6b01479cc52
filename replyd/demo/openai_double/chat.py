"""OpenAI's Chat Completions API, without streaming:
https://platform.openai.com/docs/api-reference/chat."""

import re
import time
import uuid
from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from aiohttp import web

from replyd.demo.openai_double.shared import Ending, Shared
from replyd.demo.openai_double.wire import Body, cached, error, tokens
from replyd.ports import File

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_REASONING_MODEL = re.compile(r"o\d|gpt-[5-9]")
_DATA_URL = re.compile(r"data:([a-z0-9.+/-]+);base64,", re.IGNORECASE)
_IMAGE_KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_IMAGE_TOKENS = 255  # a small one, https://platform.openai.com/docs/guides/images-vision
_IDENTIFIER_LIMIT = 128  # characters, from the API reference
_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _RefusedError(Exception):
    """The request is refused with HTTP 400."""

    def __init__(self, message: str, param: str, code: str = "") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ChatApi:
    """Keeps nothing but the latest prompts, to tell how much of a new one is cached.

    Of the endings, `failed` is an HTTP 500: a completion has no status. One that is not known
    becomes the `finish_reason`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._prompts: deque[str] = deque(maxlen=32)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v1/chat/completions", self._create)]

    async def _create(self, request: web.Request) -> web.Response:
        """POST /chat/completions: https://platform.openai.com/docs/api-reference/chat/create"""
        body = await self._shared.accept(request)
        if isinstance(body, web.Response):
            return body
        try:
            _check(body)
            files = [file for message in body["messages"] for file in _files(message)]
        except _RefusedError as refused:
            return error(400, str(refused), code=refused.code, param=refused.param)
        if not self._shared.has_model(body["model"]):
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            return error(404, message, code="model_not_found")
        for file in files:
            self._shared.see(file)
        return self._complete(body, images=sum(f.content_type in _IMAGE_KINDS for f in files))

    def _complete(self, body: Body, images: int) -> web.Response:
        ending = self._shared.next_ending()
        if ending is not None and ending.status == "failed":
            return error(500, "The server had an error.", code=ending.reason)
        text, outputs = _asked(body["messages"])
        calls = [] if ending else self._shared.calls(text, _offered(body), outputs)
        answer = self._shared.asides(text) if calls else self._shared.answer(text, outputs)
        choice = _choice(answer, calls)
        if ending is not None:
            _end(choice, ending)
        return self._shared.send(
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "choices": [choice],
                "usage": self._usage(body, choice["message"], images),
                "service_tier": "default",
                "system_fingerprint": None,
            }
        )

    def _usage(self, body: Body, message: Body, images: int) -> Body:
        prompt = "\n".join(f"{m['role']}: {_text(m)}" for m in body["messages"])
        known = max((_common(prompt, old) for old in self._prompts), default=0)
        self._prompts.append(prompt)
        read = tokens(prompt) + _IMAGE_TOKENS * images
        written = tokens(f"{_text(message)}{message.get('tool_calls') or ''}")
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": cached(known // 4), "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _choice(text: str, calls: Sequence[tuple[str, str]]) -> Body:
    """https://platform.openai.com/docs/api-reference/chat/object"""
    message: Body = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if calls:
        message["content"] = text or None
        message["tool_calls"] = [
            {
                "id": f"call_{uuid.uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for name, arguments in calls
        ]
    finish = "tool_calls" if calls else "stop"
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}


def _end(choice: Body, ending: Ending) -> None:
    message = choice["message"]
    if ending.status == "refused":
        message.update(content=None, refusal=ending.reason)
    elif ending.status == "incomplete":
        choice["finish_reason"] = _FINISH_REASONS[ending.reason]
        message["content"] = message["content"][: len(message["content"]) // 2]
    else:
        choice["finish_reason"] = ending.status


# --- what comes ---


def _check(body: Body) -> None:
    for name in ("model", "messages"):
        if not body.get(name):
            message = f"Missing required parameter: '{name}'."
            raise _RefusedError(message, name, "missing_required_parameter")
    if body.get("max_tokens") is not None and _REASONING_MODEL.match(body["model"]):
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. "
        message += "Use 'max_completion_tokens' instead."
        raise _RefusedError(message, "max_tokens", "unsupported_parameter")
    if len(body.get("safety_identifier") or "") > _IDENTIFIER_LIMIT:
        message = "Invalid 'safety_identifier': string too long."
        raise _RefusedError(message, "safety_identifier", "string_above_max_length")
    for number, message in enumerate(body["messages"]):
        _check_message(number, message)
    _check_calls(body["messages"])


def _check_message(number: int, message: Any) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        supported = ", ".join(f"'{role}'" for role in _ROLES)
        text = f"Invalid value for 'role'. Supported values are: {supported}."
        raise _RefusedError(text, f"messages[{number}].role", "invalid_value")
    if message.get("content") is None and not message.get("tool_calls"):
        text = "Invalid value for 'content': expected a string, got null."
        raise _RefusedError(text, f"messages.[{number}].content")


def _check_calls(messages: Sequence[Body]) -> None:
    """Every call of a message is answered right behind it, and nothing else is."""
    open_calls: list[str] = []
    answering = False
    for number, message in enumerate([*messages, {"role": ""}]):
        param = f"messages.[{number}]"
        if message["role"] == "tool":
            if not answering:
                text = "Invalid parameter: messages with role 'tool' must be a response to a "
                text += "preceeding message with 'tool_calls'."
                raise _RefusedError(text, f"{param}.role")
            called = message.get("tool_call_id")
            if called not in open_calls:
                text = f"Invalid parameter: 'tool_call_id' of '{called}' not found in "
                text += "'tool_calls' of previous message."
                raise _RefusedError(text, f"{param}.tool_call_id")
            open_calls.remove(called)
            continue
        if open_calls:
            text = "An assistant message with 'tool_calls' must be followed by tool messages "
            text += "responding to each 'tool_call_id'. The following tool_call_ids did not have "
            text += f"response messages: {', '.join(open_calls)}"
            raise _RefusedError(text, f"{param}.role")
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
        answering = bool(open_calls)


def _files(message: Body) -> Iterator[File]:
    if not isinstance(message.get("content"), list):
        return
    for part in message["content"]:
        if part.get("type") == "image_url":
            yield _file("", part["image_url"]["url"], image=True)
        elif part.get("type") == "file":
            file = part["file"]
            yield _file(file.get("filename") or "", file.get("file_data") or "", image=False)


def _file(name: str, url: str, *, image: bool) -> File:
    found = _DATA_URL.match(url)
    try:
        data = b64decode(url[found.end() :], validate=True) if found else b""
    except ValueError:
        data = b""
    if found is None or not data or not (image or name):
        kind = "image_url" if image else "file"
        raise _RefusedError(f"Invalid {kind}: no base64 data URL.", "messages", "invalid_value")
    if image and found[1] not in _IMAGE_KINDS:
        text = "You uploaded an unsupported image. Please make sure your image has of one the "
        text += "following formats: ['png', 'jpeg', 'gif', 'webp']."
        raise _RefusedError(text, "messages", "invalid_image_format")
    return File(name, found[1], data)


def _asked(messages: Sequence[Body]) -> tuple[str, list[str]]:
    """The last user message, and what tools have told since."""
    outputs: list[str] = []
    for message in reversed(messages):
        if message["role"] == "user":
            return _text(message), outputs[::-1]
        if message["role"] == "tool":
            outputs.append(_text(message))
    return "", outputs[::-1]


def _offered(body: Body) -> list[str]:
    if body.get("tool_choice") == "none":
        return []
    return [tool["function"]["name"] for tool in body.get("tools") or ()]


def _text(message: Body) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content if part.get("type") == "text")
