"""The objects of the Assistants API: https://platform.openai.com/docs/api-reference/assistants."""

import time
import uuid
from collections.abc import Sequence

from aiohttp import web

from replyd.demo.openai_double.wire import Body, error
from replyd.ports import File

RUN_LIFE_SECONDS = 600  # after which a run expires


def fresh(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def assistant(name: str, model: str) -> Body:
    return {
        "id": name,
        "object": "assistant",
        "created_at": int(time.time()),
        "name": "Bakery",
        "description": None,
        "model": model,
        "instructions": "You are a bakery's assistant.",
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
    }


def thread(metadata: Body) -> Body:
    return {
        "id": fresh("thread"),
        "object": "thread",
        "created_at": int(time.time()),
        "metadata": metadata,
        "tool_resources": {},
    }


def message(thread_id: str, given: Body) -> Body:
    """`given`: as a client sends it; text alone is one part."""
    content = given["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return {
        "id": fresh("msg"),
        "object": "thread.message",
        "created_at": int(time.time()),
        "thread_id": thread_id,
        "status": "completed",
        "completed_at": int(time.time()),
        "incomplete_at": None,
        "incomplete_details": None,
        "role": given["role"],
        "content": [_part(part) for part in content],
        "assistant_id": None,
        "run_id": None,
        "attachments": given.get("attachments") or [],
        "metadata": given.get("metadata") or {},
    }


def _part(part: Body) -> Body:
    if part["type"] == "text":
        return {"type": "text", "text": {"value": part["text"], "annotations": []}}
    return part


def answer(run_body: Body, text: str, *, refusal: str = "", cut: str = "") -> Body:
    """`cut`: why the message is incomplete."""
    body = message(run_body["thread_id"], {"role": "assistant", "content": text})
    body["assistant_id"], body["run_id"] = run_body["assistant_id"], run_body["id"]
    if refusal:
        body["content"] = [{"type": "refusal", "refusal": refusal}]
    if cut:
        body.update(status="incomplete", incomplete_details={"reason": cut}, completed_at=None)
        body["incomplete_at"] = int(time.time())
    return body


def run(thread_id: str, given: Body, known: Body) -> Body:
    """`given`: as a client sends it; `known`: the assistant."""
    now = int(time.time())
    return {
        "id": fresh("run"),
        "object": "thread.run",
        "created_at": now,
        "assistant_id": known["id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": now + RUN_LIFE_SECONDS,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "incomplete_details": None,
        "model": given.get("model") or known["model"],
        "instructions": given.get("instructions") or known["instructions"],
        "tools": known["tools"] if given.get("tools") is None else given["tools"],
        "tool_resources": {},
        "metadata": given.get("metadata") or {},
        "temperature": 1.0,
        "top_p": 1.0,
        "max_completion_tokens": given.get("max_completion_tokens"),
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "response_format": "auto",
        "usage": None,
    }


def usage(read: int, written: int) -> Body:
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_token_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def calls(asked: Sequence[tuple[str, str]]) -> Body:
    """A run's `required_action`."""
    return {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [
                {
                    "id": fresh("call"),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for name, arguments in asked
            ]
        },
    }


def page(items: Sequence[Body], limit: int) -> Body:
    data = items[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(items) > limit,
    }


def text_of(body: Body) -> str:
    parts = [part["text"]["value"] for part in body["content"] if part["type"] == "text"]
    return "\n".join(parts)


async def read_upload(request: web.Request) -> Body | web.Response:
    """The file and the purpose of an upload, or the answer to something else."""
    form = await request.post()
    upload = form.get("file")
    if not isinstance(upload, web.FileField):
        return error(400, "'file' is a required property")
    file = File(upload.filename, upload.content_type, upload.file.read())
    return {"file": file, "purpose": form.get("purpose")}
