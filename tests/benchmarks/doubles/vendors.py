"""OpenAI's Responses and Assistants APIs and Twilio's Messages for load, as one process:
`python -m tests.benchmarks.doubles.vendors`.

Every answer is right and always the same. `/_bench/…` is the bench's own: who was written to when,
by the clock that all processes of a machine share, and how long the model takes.
"""

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs

from replyd.demo import twilio_wire
from tests.benchmarks import town
from tests.benchmarks.doubles.wire import Answer, Request, serve

REPLY = (
    "Yes, we are open on Sunday from 9 to 13. Shall I keep a loaf for you? "
    "Just tell me your name and when you would like to come."
)


# The newest messages that are kept to be asked for.
KEPT = 100_000


class VendorDouble:
    """`sent`: recipient and time by CLOCK_MONOTONIC of each message that was taken, `taken` in all;
    the oldest ones are dropped."""

    def __init__(self) -> None:
        self.model_seconds = 0.0
        self.sent: deque[tuple[str, float]] = deque(maxlen=KEPT)
        self.taken = 0
        self.calls = 0
        self.calls_now = 0
        self._numbers = itertools.count(1)

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        path = request.path
        if path.endswith("/responses"):
            return self._respond(request.json())
        if "/threads/" in path:
            return self._assistant(request)
        if path.endswith("/Messages.json"):
            return self._messages(request)
        if path.startswith("/_bench/"):
            return self._control(request)
        return Answer({}, 404)

    def _respond(self, body: Any) -> Answer | Awaitable[Answer]:
        self.calls += 1
        answer = Answer(_response(next(self._numbers), body))
        return self._late(answer) if self.model_seconds else answer

    async def _late(self, answer: Answer) -> Answer:
        self.calls_now += 1
        try:
            await asyncio.sleep(self.model_seconds)
        finally:
            self.calls_now -= 1
        return answer

    def _assistant(self, request: Request) -> Answer | Awaitable[Answer]:
        """Messages are taken, and a run has ended when its creation is answered."""
        _, _, thread, kind, *run = request.path.strip("/").split("/")
        if kind == "messages":
            message = _message(next(self._numbers), thread)
            if request.method == "POST":
                return Answer(message)
            page = {"object": "list", "data": [message], "has_more": False}
            return Answer(page | {"first_id": message["id"], "last_id": message["id"]})
        answer = Answer(_run(run[0] if run else f"run_{next(self._numbers)}", thread))
        return self._late(answer) if self.model_seconds and not run else answer

    def _messages(self, request: Request) -> Answer:
        if request.method == "GET":
            return Answer({"messages": [], "page": 0, "page_size": 500, "next_page_uri": None})
        now = time.monotonic()
        form = parse_qs(request.body.decode())
        recipient = form["To"][0]
        self.sent.append((recipient, now))
        self.taken += 1
        created = twilio_wire.message_resource(
            f"SM{next(self._numbers):032x}",
            town.ACCOUNT,
            direction="outbound-api",
            sender=form["From"][0],
            recipient=recipient,
            body=form["Body"][0],
            status="queued",
            created=town.CREATED,
        )
        return Answer(created, 201)

    def _control(self, request: Request) -> Answer:
        match request.path:
            case "/_bench/sent":
                new = self.taken - int(request.body)
                return Answer(list(itertools.islice(reversed(self.sent), new))[::-1])
            case "/_bench/taken":
                return Answer(self.taken)
            case "/_bench/model":
                self.model_seconds = json.loads(request.body)["seconds"]
                return Answer({})
            case "/_bench/calls":
                return Answer({"calls": self.calls, "now": self.calls_now})
        return Answer({}, 404)


def _response(number: int, body: Any) -> Any:
    """https://platform.openai.com/docs/api-reference/responses/object"""
    text = {"type": "output_text", "text": REPLY, "annotations": [], "logprobs": []}
    return {
        "id": f"resp_{number:048x}",
        "object": "response",
        "created_at": 1_795_341_600,
        "completed_at": 1_795_341_601,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": body.get("metadata", {}),
        "model": body["model"],
        "output": [
            {
                "id": f"msg_{number:048x}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [text],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": body.get("truncation", "disabled"),
        "usage": {
            "input_tokens": 412,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 38,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 450,
        },
        "user": None,
    }


def _message(number: int, thread: str) -> Any:
    """https://platform.openai.com/docs/api-reference/messages/object"""
    return {
        "id": f"msg_{number:024x}",
        "object": "thread.message",
        "created_at": 1_795_341_600,
        "thread_id": thread,
        "role": "assistant",
        "content": [{"type": "text", "text": {"value": REPLY, "annotations": []}}],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def _run(run: str, thread: str) -> Any:
    """https://platform.openai.com/docs/api-reference/runs/object"""
    return {
        "id": run,
        "object": "thread.run",
        "created_at": 1_795_341_600,
        "assistant_id": "asst_replies",
        "thread_id": thread,
        "status": "completed",
        "instructions": "",
        "model": "gpt-6-luna",
        "tools": [],
        "metadata": {},
        "usage": {"prompt_tokens": 412, "completion_tokens": 38, "total_tokens": 450},
    }


if __name__ == "__main__":
    asyncio.run(serve(VendorDouble()))
