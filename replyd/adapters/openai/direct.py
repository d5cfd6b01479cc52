"""Requests without what OpenAI's SDK does around each: copies of the options, objects for URL,
headers, request and answer, and the layers of its HTTP client. That takes most of the CPU time of a
request, see docs/performance.md.

The errors are the SDK's.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import yarl
from openai import APIConnectionError, APIStatusError, APITimeoutError

# As the SDK's.
_CONNECTIONS = 1000
_KEEPALIVE_SECONDS = 5.0


class DirectPost:
    """POSTs of JSON to one server, over connections of its own, with these headers."""

    def __init__(
        self, base_url: httpx2.URL, headers: Mapping[str, str], timeout: httpx2.Timeout
    ) -> None:
        """Needs no event loop, until it is used. `timeout`: to connect, and between parts of an
        answer."""
        self._base_url = base_url
        self._prefix = str(base_url).rstrip("/")
        self._headers = headers
        self._timeout = timeout

    async def __call__(self, path: str, body: Mapping[str, Any]) -> object:
        """The answer as JSON, or as text when it says that it is none.

        Raises APITimeoutError, APIConnectionError, APIStatusError, and ValueError for JSON that is
        broken."""
        url = f"{self._prefix}{path}"
        data = json.dumps(body).encode()
        try:
            async with self._http.post(yarl.URL(url, encoded=True), data=data) as response:
                text = await response.read()
        except TimeoutError as error:
            raise APITimeoutError(httpx2.Request("POST", url)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise APIConnectionError(request=httpx2.Request("POST", url)) from error
        if not 200 <= response.status < 300:
            raise _refusal(response, text, url)
        if response.content_type.endswith("json"):
            return json.loads(text)
        return text.decode(errors="replace")

    async def close(self) -> None:
        """Close the connections."""
        # There are some once a request was made.
        if (http := self.__dict__.get("_http")) is not None:
            await http.close()

    @cached_property
    def _http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._timeout.connect, sock_read=self._timeout.read
            ),
            headers=self._headers,
            # Once: aiohttp would ask the environment, and .netrc, in a thread for each request.
            proxy=_proxy(self._base_url),
        )


def _proxy(url: httpx2.URL) -> str | None:
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _refusal(response: aiohttp.ClientResponse, text: bytes, url: str) -> APIStatusError:
    """As the SDK makes it."""
    try:
        body = json.loads(text)
    except ValueError:
        body = text.decode(errors="replace")
    about = body.get("error", body) if isinstance(body, dict) else body
    words = about.get("message") if isinstance(about, dict) else None
    return APIStatusError(
        f"Error code: {response.status}" + (f" - {words}" if isinstance(words, str) else ""),
        response=httpx2.Response(
            response.status,
            headers=[*response.headers.items()],
            request=httpx2.Request("POST", url),
        ),
        body=about,
    )
