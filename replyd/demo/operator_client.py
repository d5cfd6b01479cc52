"""The operator API as a person's tool uses it: over HTTP, with the token."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from replyd.runtime.operator_openapi import MAX_LIMIT, PREFIX

AUTHOR = "You"
# The API wants 60 s for a reply; a little more, so that its own answer comes first.
_SECONDS = 65.0


class Refused(Exception):
    """It was not done. The text is the API's own, for people to read; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OperatorClient:
    """`async with` opens and closes the connections. `port`: the operations port, asked for at
    each request. Every method raises Refused."""

    def __init__(self, port: Callable[[], int], token: str) -> None:
        self._port = port
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            headers={"Authorization": f"Bearer {self._token}"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def with_people(self) -> list[dict[str, Any]]:
        """The conversations that people have, in no order: each as its line of the list and its
        record, with the newest texts."""
        found: list[dict[str, Any]] = []
        query = {"limit": str(MAX_LIMIT)}
        while True:
            page = await self._ask("GET", "", query=query)
            for row in page["conversations"]:
                if row["handoff_to_human"]:
                    where = _path(row["recipient_tel"], row["conversation_id"])
                    found.append({**row, **await self._ask("GET", where)})
            if not page["more"]:
                return found
            query["cursor"] = page["next_cursor"]

    async def reply(self, tel: str, name: str, text: str, *, key: str) -> dict[str, Any]:
        """Sends the text, once for each key; what became of it, as the API tells."""
        body = {"text": text, "author": AUTHOR}
        return await self._ask("POST", _path(tel, name) + "/reply", body, key=key)

    async def hand_off(self, tel: str, name: str) -> None:
        await self._ask("POST", _path(tel, name) + "/handoff", {"author": AUTHOR})

    async def release(self, tel: str, name: str) -> None:
        await self._ask("POST", _path(tel, name) + "/release", {"author": AUTHOR})

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        key: str = "",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        assert self._session is not None
        url = f"http://127.0.0.1:{self._port()}{PREFIX}/conversations{path}"
        headers = {"Idempotency-Key": key} if key else {}
        try:
            async with self._session.request(
                method, url, params=query, json=body, headers=headers
            ) as response:
                answer = await response.json()
                if response.ok:
                    return dict(answer)
                status, message = response.status, str(answer["error"]["message"])
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError):
            status = HTTPStatus.SERVICE_UNAVAILABLE
            message = "the operator API does not answer: ask again"
        raise Refused(status, message)


def _path(tel: str, name: str) -> str:
    return f"/{quote(tel, safe='')}/{quote(name, safe='')}"
