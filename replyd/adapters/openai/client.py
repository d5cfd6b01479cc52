"""The SDK's client, set up as this service needs it, and the JSON that it brings."""

from collections.abc import Mapping
from typing import Any

import httpx2
from openai import AsyncOpenAI, Omit

from replyd.adapters.openai.direct import DirectPost

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


class Client(AsyncOpenAI):
    """The SDK's, and how turns use it."""

    _direct: DirectPost | None = None

    def go_direct(self) -> None:
        """From now on `create` goes past the SDK, see `direct`."""
        sent = {**self.default_headers, **self.auth_headers}
        headers = {
            name: value
            for name, value in sent.items()
            if not isinstance(value, Omit) and name not in _SAID_OF_US
        }
        timeout = httpx2.Timeout(self.timeout)
        self._direct = DirectPost(self.base_url, headers, timeout)

    async def create(self, path: str, body: Mapping[str, Any]) -> object:
        """POST a body that is JSON already, and return the answer as JSON, or as text when it says
        that it is none. Raises the SDK's errors, and ValueError for JSON that is broken.

        The SDK's typed methods walk each parameter for aliases and files, of which there are none
        here, and make an object of each part of the answer: most of the CPU time of a request
        (docs/performance.md). Credentials and errors are the same."""
        if self._direct is not None:
            return await self._direct(path, body)
        return await self.post(path, body=body, cast_to=object, options={"headers": _UNSAID})

    async def close(self) -> None:
        """Close the connections."""
        await super().close()
        if self._direct is not None:
            await self._direct.close()


def create_client(
    api_key: str, *, base_url: str = "", timeout_seconds: float = 60.0, direct: bool = False
) -> Client:
    """One client, with its connection pool, for the life of the process: building one costs
    milliseconds of CPU. The SDK's retries are off, they would repeat what must not wait.

    `base_url`: empty means `OPENAI_BASE_URL`, or else OpenAI. `direct`: what turns ask of a model
    goes past the SDK."""
    client = Client(
        api_key=api_key,
        base_url=base_url or None,
        max_retries=0,
        timeout=httpx2.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        ),
    )
    if direct:
        client.go_direct()
    return client


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
