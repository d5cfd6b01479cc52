"""Shapes that OpenAI's APIs share."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

_CREATED = 1_767_225_600

Body = dict[str, Any]


def error(
    status: int,
    message: str,
    *,
    code: str = "",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """https://platform.openai.com/docs/guides/error-codes"""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if status == 429:
        kind = "insufficient_quota" if code == "insufficient_quota" else "requests"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code or None}}
    return web.json_response(body, status=status, headers=headers)


def model(name: str) -> Body:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}


def tokens(text: str) -> int:
    """About four characters each, as for English."""
    return len(text) // 4 + 1
