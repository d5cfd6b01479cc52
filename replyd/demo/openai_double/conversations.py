"""OpenAI's Conversations API, https://platform.openai.com/docs/api-reference/conversations."""

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from replyd.demo.openai_double.shared import Shared, json_body
from replyd.demo.openai_double.wire import Body, bad_metadata, error

_ITEMS_AT_ONCE = 20
_PAGE = 20


@dataclass(slots=True)
class Conversation:
    """`running`: a response is being made in it, and no other may be."""

    id: str
    metadata: Body
    created_at: int
    items: list[Body] = field(default_factory=list)
    running: bool = False

    def add(self, items: Iterable[Body]) -> list[Body]:
        """What came in, or was answered, as the conversation keeps it."""
        added = [_kept(item) for item in items]
        self.items += added
        return added

    def body(self) -> Body:
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": self.metadata,
        }


class ConversationsApi:
    """Conversations without end, unless they are deleted or forgotten. `orphans`: the items that
    deleted ones had left, which nobody can get at any more."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._conversations: dict[str, Conversation] = {}
        self.orphans: list[Body] = []

    def routes(self) -> Iterable[web.RouteDef]:
        one = "/v1/conversations/{id}"
        return [
            web.post("/v1/conversations", self._create),
            web.get(one, self._retrieve),
            web.post(one, self._update),
            web.delete(one, self._delete),
            web.get(f"{one}/items", self._list_items),
            web.post(f"{one}/items", self._create_items),
            web.delete(f"{one}/items/{{item}}", self._delete_item),
        ]

    def get(self, conversation_id: str) -> Conversation | None:
        return self._conversations.get(conversation_id)

    def forget(self, conversation_id: str = "") -> None:
        """Drop one, or all."""
        for known in [conversation_id] if conversation_id else list(self._conversations):
            self._conversations.pop(known, None)

    async def _create(self, request: web.Request) -> web.Response:
        body = self._shared.denied(request) or await json_body(request)
        if isinstance(body, web.Response):
            return body
        items, metadata = body.get("items") or [], body.get("metadata")
        if (refused := bad_metadata(metadata) or _bad_items(items)) is not None:
            return refused
        conversation = Conversation(f"conv_{uuid.uuid4().hex}", metadata or {}, int(time.time()))
        conversation.add(items)
        self._conversations[conversation.id] = conversation
        return web.json_response(conversation.body())

    async def _retrieve(self, request: web.Request) -> web.Response:
        found = self._find(request)
        return found if isinstance(found, web.Response) else web.json_response(found.body())

    async def _update(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        if (refused := bad_metadata(body.get("metadata"))) is not None:
            return refused
        found.metadata = body.get("metadata") or {}
        return web.json_response(found.body())

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        # The API says of this call: "Items in the conversation will not be deleted."
        self.orphans += found.items
        self.forget(found.id)
        body = {"id": found.id, "object": "conversation.deleted", "deleted": True}
        return web.json_response(body)

    async def _list_items(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        items = found.items if request.query.get("order") == "asc" else found.items[::-1]
        ids = [item["id"] for item in items]
        after = request.query.get("after")
        start = ids.index(after) + 1 if after in ids else 0
        page = items[start : start + int(request.query.get("limit", _PAGE))]
        return _page(page, more=start + len(page) < len(items))

    async def _create_items(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        items = body.get("items") or []
        if (refused := _bad_items(items)) is not None:
            return refused
        if found.running:
            return locked()
        return _page(found.add(items), more=False)

    async def _delete_item(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        name = request.match_info["item"]
        kept = [item for item in found.items if item["id"] != name]
        if len(kept) == len(found.items):
            return error(404, f"Item with id '{name}' not found in conversation.")
        found.items = kept
        return web.json_response(found.body())

    def _find(self, request: web.Request) -> Conversation | web.Response:
        if (denied := self._shared.denied(request)) is not None:
            return denied
        name = request.match_info["id"]
        return self.get(name) or not_found(name)


def not_found(conversation_id: str) -> web.Response:
    return error(404, f"Conversation with id '{conversation_id}' not found.")


def locked() -> web.Response:
    return error(
        400,
        "Another process is currently operating on this conversation. "
        "Please retry in a few seconds.",
        code="conversation_locked",
        param="conversation",
    )


def _bad_items(items: Sequence[Body]) -> web.Response | None:
    if len(items) <= _ITEMS_AT_ONCE:
        return None
    message = (
        f"Invalid 'items': array too long. Expected an array with maximum length {_ITEMS_AT_ONCE}."
    )
    return error(400, message, code="array_above_max_length", param="items")


def _page(items: Sequence[Body], *, more: bool) -> web.Response:
    return web.json_response(
        {
            "object": "list",
            "data": list(items),
            "first_id": items[0]["id"] if items else "",
            "last_id": items[-1]["id"] if items else "",
            "has_more": more,
        }
    )


def _kept(item: Body) -> Body:
    kind = item.get("type", "message")
    prefix = {"message": "msg", "function_call": "fc", "reasoning": "rs"}.get(kind, "fco")
    kept = {**item, "type": kind, "id": item.get("id") or f"{prefix}_{uuid.uuid4().hex}"}
    if kind != "reasoning":
        kept["status"] = item.get("status", "completed")
    if kind == "message" and isinstance(item["content"], str):
        text = "output_text" if item["role"] == "assistant" else "input_text"
        part: Body = {"type": text, "text": item["content"]}
        if text == "output_text":
            part |= {"annotations": [], "logprobs": []}
        kept["content"] = [part]
    return kept
