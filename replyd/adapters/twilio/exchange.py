"""Requests to Twilio's REST API: credentials, deadlines, and what a broken exchange proves."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from replyd.adapters.twilio import failures
from replyd.adapters.twilio.accounts import Accounts
from replyd.errors import Ambiguous, DependencyDown, DependencyError, Temporary

API_URL = "https://api.twilio.com"
CONNECT_TIMEOUT_SECONDS = 3.0
# A page of 500 messages of 1600 characters, each escaped with 12 bytes, is below 11 MiB.
MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`delay`: seconds, from `Retry-After`. `body` is empty when it cannot be read."""

    status: int
    delay: float | None
    body: Mapping[str, Any]

    @property
    def code(self) -> int | None:
        code = self.body.get("code")
        return code if isinstance(code, int) else None


# Fields, or JSON for the APIs that take it.
Form = Mapping[str, str] | aiohttp.JsonPayload | None


class Exchange:
    """The accounts' requests, on one pooled session that the caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        accounts: Accounts,
        base_url: str,
    ) -> None:
        self._session = session
        self._accounts = accounts
        self.base_url = (base_url or API_URL).rstrip("/")

    async def call(
        self,
        method: str,
        target: str,
        account_sid: str,
        *,
        deadline: float,
        form: Form = None,
    ) -> Answer:
        """With the account's tokens in turn until one is not refused: a 401 proves that nothing
        was done. When all are, with newer ones, if there are any. `target`: path and query;
        `deadline`: by the loop's clock.

        Raises Temporary or DependencyDown when nothing was written, Ambiguous when something may
        have been, Permanent for an account without a token."""
        try:
            async with asyncio.timeout_at(deadline):
                tokens = await self._accounts.usable(account_sid)
        except TimeoutError:
            raise DependencyDown(failures.NAME, "no auth token in time", code="timeout") from None

        async def call(tokens: Sequence[str]) -> Answer:
            answer = Answer(401, None, {})
            for token in tokens:
                answer = await self._exchange(
                    method,
                    self.base_url + target,
                    authorization(account_sid, token),
                    form,
                    deadline,
                )
                if answer.status != 401:
                    break
            return answer

        answer = await call(tokens)
        if answer.status == 401 and (newer := await self._accounts.unrefused(account_sid, tokens)):
            answer = await call(newer)
        return answer

    async def _exchange(
        self,
        method: str,
        url: str,
        authorization: str,
        form: Form,
        deadline: float,
    ) -> Answer:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise Temporary(failures.NAME, "no time left to connect", code=failures.UNREACHABLE)
        # `connect` also covers the wait for a pooled connection, and must end first: an expired
        # `total` does not tell whether anything was written.
        timeout = aiohttp.ClientTimeout(
            total=left, connect=min(CONNECT_TIMEOUT_SECONDS, left * 0.8)
        )
        try:
            async with self._session.request(
                method,
                url,
                data=form,
                headers={"Authorization": authorization},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return Answer(
                    response.status,
                    failures.retry_after(response.headers),
                    await _read(response),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _not_connected(error) from None
        except aiohttp.InvalidURL:
            raise DependencyDown(failures.NAME, "twilio.base_url is not a URL") from None
        except TimeoutError:
            raise Ambiguous(failures.NAME, "no answer in time", code="timeout") from None
        except (aiohttp.ClientError, OSError):
            raise Ambiguous(
                failures.NAME, "the connection broke before the answer", code="disconnected"
            ) from None


def authorization(account_sid: str, token: str) -> str:
    """The header's value. Not to be shown to anybody."""
    return "Basic " + base64.b64encode(f"{account_sid}:{token}".encode()).decode()


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The JSON object of the answer, or nothing: the status alone says what was done, except
    that a 2xx without what it should hold is no success anyway."""
    text = bytearray()
    try:
        async for chunk in response.content.iter_any():
            text += chunk
            if len(text) > MAX_ANSWER_BYTES:
                return {}
        body = json.loads(text)
    except (aiohttp.ClientError, OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _not_connected(error: Exception) -> DependencyError:
    # The certificate and TLS errors are connector errors too, and no retry mends them.
    if isinstance(error, aiohttp.ClientSSLError):
        return DependencyDown(failures.NAME, "the TLS certificate or handshake failed", code="tls")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return failures.unreachable("its host name cannot be resolved")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return failures.unreachable("no connection in time")
    return failures.unreachable("the connection was refused")
