"""Shapes that OpenAI's APIs share."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

_CREATED = 1_767_225_600
_METADATA_PAIRS, _METADATA_NAME, _METADATA_VALUE = 16, 64, 512
_REQUESTS_A_MINUTE, _TOKENS_A_MINUTE = 10_000, 2_000_000

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


def cached(prefix_tokens: int) -> int:
    """How much of a prompt's known beginning is cached: from 1024 tokens on, in steps of 128.
    https://platform.openai.com/docs/guides/prompt-caching"""
    return prefix_tokens - prefix_tokens % 128 if prefix_tokens >= 1024 else 0


def rate_limits() -> dict[str, str]:
    """The headers that tell of limits, as if nobody ever came near them.
    https://platform.openai.com/docs/guides/rate-limits"""
    return {
        "x-ratelimit-limit-requests": str(_REQUESTS_A_MINUTE),
        "x-ratelimit-limit-tokens": str(_TOKENS_A_MINUTE),
        "x-ratelimit-remaining-requests": str(_REQUESTS_A_MINUTE - 1),
        "x-ratelimit-remaining-tokens": str(_TOKENS_A_MINUTE - 1),
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }


def bad_metadata(metadata: object) -> web.Response | None:
    """400 for what OpenAI does not take as `metadata`."""
    if metadata is None or _is_metadata(metadata):
        return None
    message = "Invalid 'metadata': too many pairs, or a name or value that is too long."
    return error(400, message, code="invalid_value", param="metadata")


def _is_metadata(metadata: object) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= _METADATA_PAIRS
        and all(
            isinstance(value, str) and len(name) <= _METADATA_NAME and len(value) <= _METADATA_VALUE
            for name, value in metadata.items()
        )
    )
