"""The SDK's client, set up as this service needs it."""

import httpx2
from openai import AsyncOpenAI

CONNECT_TIMEOUT_SECONDS = 5.0


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
