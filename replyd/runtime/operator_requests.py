"""The operator API's requests, read and checked, and the answers to those that are refused."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from replyd.errors import DependencyError
from replyd.runtime import operator_openapi as document
from replyd.runtime.bodies import Bodies, TooLargeError, TooSlowError, UnreadableError

PREFIX = document.PREFIX
MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
BODIES_AT_ONCE = 50
RETRY_AFTER_SECONDS = "5"


class Problem(Exception):
    """The answer to a request that is not carried out. `text` says what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        text: str,
        vendor_code: str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.text = text
        self.vendor_code = vendor_code
        self.headers = dict(headers or {})
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers["Retry-After"] = RETRY_AFTER_SECONDS

    def answer(self) -> web.Response:
        error = {"code": self.code, "message": self.text}
        if self.vendor_code:
            error["vendor_code"] = self.vendor_code
        return web.json_response({"error": error}, status=self.status, headers=self.headers)


def bad(text: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_request", text)


def not_found() -> Problem:
    text = f"no such conversation: look for it with GET {PREFIX}/conversations"
    return Problem(HTTPStatus.NOT_FOUND, "no_conversation", text)


def unavailable(error: DependencyError) -> Problem:
    text = f"{error}: ask again, with the same Idempotency-Key"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", text, error.code)


async def fields_of(request: web.BaseRequest, bodies: Bodies, schema: str) -> Mapping[str, str]:
    """The texts in a request's body, as this schema of the document wants them; raises Problem."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if request.content_type != "application/json" or encoding != "identity":
        text = "send JSON, with Content-Type: application/json, and not compressed"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", text)
    try:
        data = json.loads(await _body(request, bodies))
    except (ValueError, RecursionError):
        raise bad("the body is no JSON") from None
    wanted = document.BODIES[schema]
    properties = wanted["properties"]
    if not isinstance(data, dict):
        raise bad("the body is no JSON object")
    if set(data) - set(properties):
        raise bad(f"the body may have {', '.join(properties)} and nothing else")
    if missing := [name for name in wanted["required"] if name not in data]:
        raise bad(f"{missing[0]} is missing")
    for name, value in data.items():
        _check(name, value, properties[name])
    return data


def _check(name: str, value: object, rule: Mapping[str, Any]) -> None:
    shortest, longest = rule["minLength"], rule["maxLength"]
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise bad(f"{name} is a text of {shortest} to {longest} characters")
    if re.search(rule.get("pattern", ""), value) is None:
        raise bad(f"{name} has characters that it cannot have")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad(f"{name} has a lone surrogate, which is no character") from None


async def _body(request: web.BaseRequest, bodies: Bodies) -> bytes:
    try:
        return await bodies.read(request)
    except TooLargeError:
        text = "the body has more than 64 KiB"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text) from None
    except TooSlowError:
        text = f"the body did not come within {BODY_SECONDS:g} s"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too_slow", text) from None
    except UnreadableError:
        raise bad("the body broke off") from None
