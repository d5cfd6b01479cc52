"""The SDK's client, set up as this service needs it."""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from openai import AsyncOpenAI

CONNECT_TIMEOUT_SECONDS = 5.0

_Answer = TypeVar("_Answer")


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


async def create(
    client: AsyncOpenAI, path: str, body: Mapping[str, Any], answer: type[_Answer]
) -> _Answer:
    """POST a body that is JSON already. The SDK's typed methods walk each parameter for aliases and
    files first, of which there are none here: more than half of the CPU time of a request.
    `answer`: `object` for JSON as it comes; the SDK's types take their time to be made, too
    (docs/performance.md). Credentials and errors are the same."""
    return await client.post(path, body=body, cast_to=answer)
