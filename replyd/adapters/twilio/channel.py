"""The channel port on Twilio's Messages API.

https://www.twilio.com/docs/messaging/api/message-resource. The API has no idempotency key, so
only what was certainly not accepted is sent again, here or by the caller.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from replyd.adapters.twilio import failures, inbound, signature
from replyd.domain.messages import InboundMessage, OutboundPart, Params
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import SignedRequest

API_URL = "https://api.twilio.com"
CONNECT_TIMEOUT_SECONDS = 3.0
TRIES = 3
# Longer waits are the caller's: it can serve other conversations meanwhile.
MAX_WAIT_SECONDS = 2.0

_SID = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    delay: float | None
    body: Mapping[str, Any]

    @property
    def code(self) -> int | None:
        code = self.body.get("code")
        return code if isinstance(code, int) else None


class TwilioChannel:
    """Twilio for any number of accounts, on one pooled session that the caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        accounts: Mapping[str, Sequence[str]],
        public_url: str = "",
        base_url: str = "",
        timeout_seconds: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`accounts`: auth tokens by AccountSid, the newest first, two during a rotation.

        `public_url`: the origin that Twilio calls; without one nothing is authentic. `base_url`:
        empty means Twilio's own. `timeout_seconds`: for a `send` with all its retries, and for a
        check."""
        self._session = session
        # With an empty token anybody could sign.
        self._accounts = {sid: tuple(filter(None, tokens)) for sid, tokens in accounts.items()}
        self._origins = signature.origins(public_url.rstrip("/"))
        self._base_url = (base_url or API_URL).rstrip("/")
        self._timeout = timeout_seconds
        self._sleep = sleep

    def knows_account(self, account_sid: str) -> bool:
        return account_sid in self._accounts

    def is_authentic(self, request: SignedRequest) -> bool:
        """Whether the account named in the parameters signed exactly this. Constant time for the
        tokens of an account, never raises. A request that names two accounts is not authentic."""
        named = {value for name, value in request.fields if name == "AccountSid"}
        tokens = self._accounts.get(named.pop(), ()) if len(named) == 1 else ()
        urls = [origin + request.target for origin in self._origins]
        return signature.is_signed(
            tokens, urls, request.fields, request.signature, request.signature_settings
        )

    def parse(self, params: Params) -> InboundMessage:
        """Raises ValueError, which names the parameter, when this is no inbound message."""
        return inbound.parse(params)

    async def send(self, part: OutboundPart) -> str:
        """The message's SID once Twilio has accepted it.

        Raises Ambiguous when it may have been accepted: 5xx, a timeout or a lost connection after
        the request was written, a 2xx without a SID. Raises Temporary, Busy or DependencyDown
        when it certainly was not, Permanent when it never will be. Failures to connect and short
        429s are tried up to three times within `timeout_seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout

        def too_late(state: RetryCallState) -> bool:
            return state.attempt_number >= TRIES or loop.time() + state.upcoming_sleep >= deadline

        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_repeatable_here),
            wait=_wait,
            stop=too_late,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(self._submit, part, deadline)

    async def check_account(self, account_sid: str) -> None:
        """Read the account, https://www.twilio.com/docs/iam/api/account, sending nothing.

        Raises DependencyDown with what to change, or when Twilio cannot be reached."""
        loop = asyncio.get_running_loop()
        try:
            answer = await self._call(
                "GET",
                f"/2010-04-01/Accounts/{account_sid}.json",
                account_sid,
                deadline=loop.time() + self._timeout,
            )
            if answer.status != 200:
                raise failures.from_answer(answer.status, answer.code, answer.delay)
        except DependencyError as error:
            reason = (
                f"no answer to a check ({error.code})"
                if isinstance(error, Ambiguous)
                else error.reason
            )
            raise DependencyDown(failures.NAME, reason, code=error.code) from None
        state = answer.body.get("status")
        if state != "active":
            shown = state if state in ("suspended", "closed") else "unknown"
            raise DependencyDown(failures.NAME, f"the account's status is {shown}, not active")

    async def _submit(self, part: OutboundPart, deadline: float) -> str:
        form = {"From": part.sender, "To": part.recipient, "Body": part.text}
        if part.status_callback:
            form["StatusCallback"] = part.status_callback
        path = f"/2010-04-01/Accounts/{part.account_sid}/Messages.json"
        answer = await self._call("POST", path, part.account_sid, form=form, deadline=deadline)
        if not 200 <= answer.status < 300:
            raise failures.from_answer(answer.status, answer.code, answer.delay)
        sid = answer.body.get("sid")
        if not isinstance(sid, str) or _SID.fullmatch(sid) is None:
            raise Ambiguous(failures.NAME, "accepted, but the answer has no readable SID")
        return sid

    async def _call(
        self,
        method: str,
        path: str,
        account_sid: str,
        *,
        deadline: float,
        form: Mapping[str, str] | None = None,
    ) -> _Answer:
        """With the account's tokens in turn until one is not refused: a 401 proves that nothing
        was done."""
        tokens = self._accounts.get(account_sid)
        if not tokens:
            raise Permanent(
                failures.NAME,
                "no auth token is configured for the account of this conversation",
                code="unknown_account",
            )
        answer = _Answer(401, None, {})
        for token in tokens:
            credentials = base64.b64encode(f"{account_sid}:{token}".encode()).decode()
            answer = await self._exchange(
                method, self._base_url + path, f"Basic {credentials}", form, deadline
            )
            if answer.status != 401:
                break
        return answer

    async def _exchange(
        self,
        method: str,
        url: str,
        authorization: str,
        form: Mapping[str, str] | None,
        deadline: float,
    ) -> _Answer:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise failures.unreachable("no time left to connect")
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
                return _Answer(
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


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The JSON object of the answer, or nothing: the status alone says what was done, except
    that a 2xx without a SID is ambiguous anyway."""
    try:
        body = json.loads(await response.read())
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


def _is_repeatable_here(error: BaseException) -> bool:
    if isinstance(error, Busy):
        return error.delay is not None and error.delay <= MAX_WAIT_SECONDS
    return isinstance(error, Temporary) and error.code == failures.UNREACHABLE


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Busy) and error.delay is not None:
        return error.delay
    return 0.1 * 2.0 ** (state.attempt_number - 1)
