"""The operator API: what people's tools ask of replyd, over HTTP, with a bearer token."""

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web

from replyd.domain import address
from replyd.domain.messages import ConversationKey
from replyd.errors import DependencyError, NotAllowed
from replyd.flows import show
from replyd.flows.desk import Desk
from replyd.flows.person import People
from replyd.flows.person_answer import Answered, Declined, Request
from replyd.flows.waiting import BadCursorError, listing
from replyd.runtime import operator_openapi as document
from replyd.runtime.bodies import Bodies
from replyd.runtime.operator_requests import (
    BODIES_AT_ONCE,
    BODY_SECONDS,
    MAX_BODY_BYTES,
    PREFIX,
    Problem,
    bad,
    fields_of,
    not_found,
    unavailable,
)

# The wait for the AI, and sending the parts; also what a process that stops leaves them.
ANSWER_SECONDS = 60
_HISTORY = 50
_BEARER = {"WWW-Authenticate": "Bearer"}

_log = structlog.get_logger("replyd")

_STATUS = {
    "no_conversation": HTTPStatus.NOT_FOUND,
    "busy": HTTPStatus.CONFLICT,
    "opted_out": HTTPStatus.CONFLICT,
    "no_business_number": HTTPStatus.CONFLICT,
    "unknown_account": HTTPStatus.CONFLICT,
    "window_closed": HTTPStatus.CONFLICT,
    "key_used": HTTPStatus.UNPROCESSABLE_ENTITY,
    "not_sent": HTTPStatus.UNPROCESSABLE_ENTITY,
    "try_again": HTTPStatus.SERVICE_UNAVAILABLE,
}

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class _Named:
    """A conversation as the path names it."""

    tel: str
    conversation_id: str

    def checked(self) -> tuple[str, str]:
        """Raises Problem for what can be no conversation."""
        tel, name = unquote(self.tel), unquote(self.conversation_id)
        if not address.is_address(tel) or not name.isprintable() or len(name) > 1_024:
            raise not_found()
        return address.bare(tel), name


class OperatorApi:
    """`token`: whoever has it may do everything."""

    def __init__(self, *, token: str, people: People, desk: Desk) -> None:
        self._expected = f"Bearer {token}".encode()
        self._people = people
        self._desk = desk
        self._bodies = Bodies(
            most_bytes=MAX_BODY_BYTES, seconds=BODY_SECONDS, at_once=BODIES_AT_ONCE
        )
        self._document = json.dumps(document.document(), indent=2).encode()

    def has(self, path: str) -> bool:
        """Whether a path, as it came and without a query, is for this API to answer."""
        return path.startswith(f"{PREFIX}/")

    async def respond(self, request: web.BaseRequest, path: str) -> web.Response:
        try:
            self._authenticate(request)
            response = await self._routed(request, path)
        except Problem as problem:
            response = problem.answer()
        except Exception:  # noqa: BLE001 - a bug must be seen, and the caller told so
            _log.exception("an operator's request ended with a bug")
            text = "a bug: the log says which"
            response = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "bug", text).answer()
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _routed(self, request: web.BaseRequest, path: str) -> web.Response:
        handler: Handler
        # As it came: an encoded slash is part of a name.
        match path.split("/")[2:]:
            case ["openapi.json"]:
                allowed, handler = "GET", self._openapi
            case ["conversations"]:
                allowed, handler = "GET", self._list
            case ["conversations", tel, name]:
                allowed, handler = "GET", partial(self._show, _Named(tel, name))
            case ["conversations", tel, name, "reply"]:
                allowed, handler = "POST", partial(self._reply, _Named(tel, name))
            case ["conversations", tel, name, "handoff"]:
                allowed, handler = "POST", partial(self._handoff, _Named(tel, name))
            case ["conversations", tel, name, "release"]:
                allowed, handler = "POST", partial(self._release, _Named(tel, name))
            case _:
                text = f"no such path: {PREFIX}/openapi.json has them all"
                raise Problem(HTTPStatus.NOT_FOUND, "no_route", text)
        if request.method != allowed:
            text, headers = f"this path takes {allowed}", {"Allow": allowed}
            raise Problem(
                HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", text, headers=headers
            )
        return await handler(request)

    def _authenticate(self, request: web.BaseRequest) -> None:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            text = "send the token of the setting ops.token: Authorization: Bearer <token>"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", text, headers=_BEARER)

    # --- reading ---------------------------------------------------------------------------------

    async def _openapi(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _list(self, request: web.BaseRequest) -> web.Response:
        query = request.query
        if odd := set(query) - {"waiting", "limit", "cursor"}:
            raise bad(f"there are waiting, limit and cursor, no {min(odd)[:40]!r}")
        if (waiting := query.get("waiting", "false")) not in ("true", "false"):
            raise bad("waiting is true or false")
        limit = query.get("limit", str(document.DEFAULT_LIMIT))
        if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= document.MAX_LIMIT:
            raise bad(f"limit is a number from 1 to {document.MAX_LIMIT}")
        try:
            page = await listing(
                self._desk,
                waiting=waiting == "true",
                limit=int(limit),
                cursor=query.get("cursor", ""),
            )
        except BadCursorError:
            raise bad("cursor is what an earlier answer has as next_cursor") from None
        except NotAllowed as error:
            raise Problem(
                HTTPStatus.NOT_IMPLEMENTED, "not_allowed", str(error), error.code
            ) from None
        except DependencyError as error:
            raise unavailable(error) from None
        return web.json_response(
            {
                "conversations": list(page.conversations),
                "next_cursor": page.cursor or None,
                "more": bool(page.cursor),
                "items_read": page.read,
            }
        )

    async def _show(self, named: _Named, _request: web.BaseRequest) -> web.Response:
        tel, name = named.checked()
        try:
            found = await show.show_one(self._desk, tel, name, history=_HISTORY, bodies=True)
        except DependencyError as error:
            raise unavailable(error) from None
        if found is None:
            raise not_found()
        return web.Response(text=json.dumps(found, default=str), content_type="application/json")

    # --- acting ----------------------------------------------------------------------------------

    async def _reply(self, named: _Named, request: web.BaseRequest) -> web.Response:
        tel, name = named.checked()
        key = request.headers.get("Idempotency-Key", "")
        if re.fullmatch(document.KEY_PATTERN, key) is None:
            raise bad(
                "send a header Idempotency-Key of 1 to 64 letters, digits, - and _: the same one "
                "when you ask again, so that nothing is sent twice"
            )
        fields = await fields_of(request, self._bodies, "Reply")
        asked = Request(
            text=fields["text"],
            author=fields["author"],
            key=key,
            account_sid=fields.get("account_sid", ""),
        )
        if not asked.parts:
            raise bad("text is empty")
        try:
            answer = await self._people.reply(await self._key(tel, name), asked)
        except DependencyError as error:
            raise unavailable(error) from None
        if isinstance(answer, Declined):
            raise Problem(_STATUS[answer.reason], answer.reason, answer.text, answer.code)
        status = HTTPStatus.ACCEPTED if answer.delivery == "unknown" else HTTPStatus.OK
        return web.json_response(_answered(answer), status=status)

    async def _handoff(self, named: _Named, request: web.BaseRequest) -> web.Response:
        tel, name = named.checked()
        fields = await fields_of(request, self._bodies, "Handoff")
        key = await self._key(tel, name)
        return await self._flag(
            self._people.hand_off(key, author=fields["author"], reason=fields.get("reason", "")),
            up=True,
        )

    async def _release(self, named: _Named, request: web.BaseRequest) -> web.Response:
        tel, name = named.checked()
        fields = await fields_of(request, self._bodies, "Release")
        key = await self._key(tel, name)
        return await self._flag(self._people.release(key, author=fields["author"]), up=False)

    async def _flag(self, change: Awaitable[bool], *, up: bool) -> web.Response:
        try:
            done = await change
        except DependencyError as error:
            raise unavailable(error) from None
        if not done:
            raise not_found()
        return web.json_response({"handoff_to_human": up})

    async def _key(self, tel: str, conversation_id: str) -> ConversationKey:
        try:
            candidates = await show.lookup(self._desk, tel)
        except DependencyError as error:
            raise unavailable(error) from None
        key = next((c.key for c in candidates if c.conversation_id == conversation_id), None)
        if key is None:
            raise not_found()
        return key


def _answered(answer: Answered) -> dict[str, Any]:
    parts = [
        {"message_id": p.sid or None, "delivery": p.delivery, "delivery_error": p.error or None}
        for p in answer.parts
    ]
    return {
        "turn_id": answer.turn_id,
        "delivery": answer.delivery,
        "again": answer.again,
        "parts": parts,
        "why": answer.why or None,
    }
