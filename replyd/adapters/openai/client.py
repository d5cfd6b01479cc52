"""The SDK's client, set up as this service needs it, and the JSON that it brings."""

from collections.abc import Mapping
from typing import Any

import httpx2
from openai import AsyncOpenAI, Omit

CONNECT_TIMEOUT_SECONDS = 5.0
# What the SDK tells about our machine and itself. No answer depends on it, and headers are kept
# three times for as long as a request takes: more than 2 KB of each turn under way.
_SAID_OF_US = (
    "X-Stainless-Lang",
    "X-Stainless-Package-Version",
    "X-Stainless-OS",
    "X-Stainless-Arch",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Async",
    "X-Stainless-Retry-Count",
    "X-Stainless-Read-Timeout",
)
_UNSAID = dict.fromkeys(_SAID_OF_US, Omit())


def create_client(
    api_key: str, *, base_url: str = "", timeout_seconds: float = 60.0
) -> AsyncOpenAI:
    """One client, with its connection pool, for the life of the process: building one costs
    milliseconds of CPU. The SDK's retries are off, they would repeat what must not wait.

    `base_url`: empty means `OPENAI_BASE_URL`, or else OpenAI."""
    return AsyncOpenAI(
        api_key=api_key,
        base_url=base_url or None,
        max_retries=0,
        timeout=httpx2.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        ),
    )


async def create(client: AsyncOpenAI, path: str, body: Mapping[str, Any]) -> object:
    """POST a body that is JSON already, and return the answer as JSON. The SDK's typed methods walk
    each parameter for aliases and files, of which there are none here, and make an object of each
    part of the answer: most of the CPU time of a request (docs/performance.md). Credentials and
    errors are the same."""
    return await client.post(path, body=body, cast_to=object, options={"headers": _UNSAID})


# --- parts of an answer, which nobody has validated ---------------------------------------------


def part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object's object; an empty one where there is none."""
    found = whole.get(name)
    return found if isinstance(found, dict) else {}


def parts(whole: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in an object's list, if it has one."""
    found = whole.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def count(whole: Mapping[str, Any], name: str) -> int:
    """An object's number, such as of tokens; 0 where there is none."""
    found = whole.get(name)
    return found if isinstance(found, int) else 0
