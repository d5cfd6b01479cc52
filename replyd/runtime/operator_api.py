"""The operator API: what people's tools ask of replyd, over HTTP, with a bearer token."""

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

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
from replyd.runtime.operator_requests import (
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

Handler = Callable[[web.Request], Awaitable[web.Response]]


class OperatorApi:
    """`token`: whoever has it may do everything."""

    def __init__(self, *, token: str, people: People, desk: Desk) -> None:
        self._expected = f"Bearer {token}".encode()
        self._people = people
        self._desk = desk
        self._document = json.dumps(document.document(), indent=2).encode()

    def add_to(self, app: web.Application) -> None:
        one = PREFIX + "/conversations/{recipient_tel}/{conversation_id}"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", PREFIX + "/openapi.json", self._openapi),
            ("GET", PREFIX + "/conversations", self._list),
            ("GET", one, self._show),
            ("POST", one + "/reply", self._reply),
            ("POST", one + "/handoff", self._handoff),
            ("POST", one + "/release", self._release),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, self._guarded(handler))
        for path in dict.fromkeys(path for _, path, _ in routes):
            allowed = next(method for method, of, _ in routes if of == path)
            app.router.add_route("*", path, self._guarded(_refusing_method(allowed)))
        app.router.add_route("*", PREFIX + "/{rest:.*}", self._guarded(_no_route))

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.Response:
            headers = {"Cache-Control": "no-store", "Server": "replyd"}
            try:
                self._authenticate(request)
                response = await handler(request)
            except Problem as problem:
                response = problem.answer()
            except Exception:  # noqa: BLE001 - a bug must be seen, and the caller told so
                _log.exception("an operator's request ended with a bug")
                text = "a bug: the log says which"
                response = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "bug", text).answer()
            response.headers.update(headers)
            if not request.content.is_eof():
                response.force_close()
            return response

        return guarded

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            text = "send the token of the setting ops.token: Authorization: Bearer <token>"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", text, headers=_BEARER)

    # --- reading ---------------------------------------------------------------------------------

    async def _openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
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

    async def _show(self, request: web.Request) -> web.Response:
        tel, name = _named(request)
        try:
            found = await show.show_one(self._desk, tel, name, history=_HISTORY, bodies=True)
        except DependencyError as error:
            raise unavailable(error) from None
        if found is None:
            raise not_found()
        return web.Response(text=json.dumps(found, default=str), content_type="application/json")

    # --- acting ----------------------------------------------------------------------------------

    async def _reply(self, request: web.Request) -> web.Response:
        tel, name = _named(request)
        key = request.headers.get("Idempotency-Key", "")
        if re.fullmatch(document.KEY_PATTERN, key) is None:
            raise bad(
                "send a header Idempotency-Key of 1 to 64 letters, digits, - and _: the same one "
                "when you ask again, so that nothing is sent twice"
            )
        fields = await fields_of(request, "Reply")
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

    async def _handoff(self, request: web.Request) -> web.Response:
        tel, name = _named(request)
        fields = await fields_of(request, "Handoff")
        key = await self._key(tel, name)
        return await self._flag(
            self._people.hand_off(key, author=fields["author"], reason=fields.get("reason", "")),
            up=True,
        )

    async def _release(self, request: web.Request) -> web.Response:
        tel, name = _named(request)
        fields = await fields_of(request, "Release")
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


def _named(request: web.Request) -> tuple[str, str]:
    tel, name = request.match_info["recipient_tel"], request.match_info["conversation_id"]
    if not address.is_address(tel) or not name.isprintable() or len(name) > 1_024:
        raise not_found()
    return address.bare(tel), name


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


def _refusing_method(allowed: str) -> Handler:
    async def refuse(_request: web.Request) -> web.Response:
        text = f"this path takes {allowed}"
        headers = {"Allow": allowed}
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", text, headers=headers)

    return refuse


async def _no_route(_request: web.Request) -> web.Response:
    text = f"no such path: {PREFIX}/openapi.json has them all"
    raise Problem(HTTPStatus.NOT_FOUND, "no_route", text)
