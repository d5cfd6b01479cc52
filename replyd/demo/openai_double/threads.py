"""The Assistants API's threads, and how their runs end."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import web

from replyd.demo.openai_double import assistants_wire as wire
from replyd.demo.openai_double.shared import Ending
from replyd.demo.openai_double.wire import Body

ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
_PAGE_DEFAULT, _PAGE_LIMIT = 20, 100


class RefusedError(Exception):
    """The request is refused with an HTTP error."""

    def __init__(self, message: str, status: int = 400, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass
class Thread:
    """`messages` and `runs`: oldest first. `outputs`: of the tools, by run."""

    body: Body
    messages: list[Body] = field(default_factory=list)
    runs: list[Body] = field(default_factory=list)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)

    def active(self) -> Body | None:
        return next((run for run in self.runs if run["status"] in ACTIVE), None)

    def asked(self) -> str:
        """What the customer said last."""
        said = [wire.text_of(m) for m in self.messages if m["role"] == "user"]
        return said[-1] if said else ""


def new_message(thread: Thread, given: Body) -> Body:
    """What a client adds, not yet in the thread."""
    content = given.get("content")
    if not content or (isinstance(content, str) and not content.strip()):
        raise RefusedError("Message content must be non-empty.")
    if given.get("role") not in ("user", "assistant"):
        raise RefusedError("Invalid 'role': expected one of 'user' or 'assistant'.")
    return wire.message(thread.body["id"], given)


def end(run: Body, ending: Ending | None, text: str) -> Body | None:
    """The end of a run, and the message that it leaves."""
    now = int(time.time())
    if ending is None or ending.status == "refused":
        run.update(status="completed", completed_at=now)
        return wire.answer(run, text, refusal=ending.reason if ending else "")
    run["status"] = ending.status
    if ending.status == "failed":
        run["last_error"] = {"code": ending.reason, "message": "The model failed."}
        run["failed_at"] = now
    if ending.status != "incomplete":
        return None
    # The SDK's type knows the filter as a message's reason only.
    if ending.reason == "content_filter":
        run["incomplete_details"] = {"reason": None}
        return wire.answer(run, half(text), cut="content_filter")
    run["incomplete_details"] = {"reason": "max_completion_tokens"}
    return wire.answer(run, half(text), cut="max_tokens")


def half(text: str) -> str:
    return text[: len(text) // 2]


def find(items: Iterable[Body], kind: str, name: str) -> Body:
    for item in items:
        if item["id"] == name:
            return item
    raise RefusedError(f"No {kind} found with id '{name}'.", 404)


def page(request: web.Request, oldest_first: list[Body]) -> Body:
    query = request.query
    items = oldest_first if query.get("order") == "asc" else oldest_first[::-1]
    if after := query.get("after"):
        items = items[[item["id"] for item in items].index(after) + 1 :]
    limit = int(query.get("limit", _PAGE_DEFAULT))
    if not 1 <= limit <= _PAGE_LIMIT:
        raise RefusedError(f"Invalid 'limit': expected a value from 1 to {_PAGE_LIMIT}.")
    return wire.page(items, limit)
