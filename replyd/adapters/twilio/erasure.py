"""Erasing messages at Twilio, https://www.twilio.com/docs/messaging/api/message-resource.

A DELETE takes the message out of the account, with its text, its addresses and its files, but for
a file that another message has too. To redact it (a POST of an empty `Body`) would leave the
addresses and the files, and is refused just as long: until Twilio is done with the message.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from replyd.adapters.twilio import failures, listing
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.exchange import Answer, Exchange
from replyd.adapters.twilio.retries import is_soon_over, retrying
from replyd.errors import Ambiguous, Permanent, Temporary
from replyd.ports import Fate, KeptMessages

_NOT_FOUND = 20404
# https://www.twilio.com/docs/api/errors/20009: some minutes as a rule, rarely up to 14 days.
_NOT_COMPLETE = 20009


class TwilioEraser:
    """Implements `ports.MessageEraser` for any number of accounts, on one pooled session that the
    caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        accounts: Accounts,
        base_url: str = "",
        timeout_seconds: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`base_url`: empty means Twilio's own. `timeout_seconds`: for each request with all its
        retries; an erasure may be repeated whatever became of the first one."""
        self._exchange = Exchange(session, accounts, base_url)
        self._timeout = timeout_seconds
        self._sleep = sleep

    async def exchanged_with(self, account_sid: str, customer: str) -> KeptMessages:
        """Up to 10,000 in each direction."""

        async def read(target: str) -> Mapping[str, Any]:
            answer = await self._call("GET", target, account_sid)
            if answer.status != 200:
                raise failures.from_read(answer.status, answer.code, answer.delay)
            return answer.body

        return await listing.exchanged_with(read, account_sid, customer)

    async def erase(self, account_sid: str, sid: str) -> Fate:
        """Raises ValueError for what is no message's SID."""
        if not listing.is_sid(sid):
            raise ValueError("not the SID of a message")
        target = f"{listing.messages_path(account_sid).removesuffix('.json')}/{sid}.json"
        answer = await self._call("DELETE", target, account_sid)
        if 200 <= answer.status < 300:
            return "erased"
        # A 404 of anything but Twilio's API says nothing of the message.
        if answer.status == 404 and answer.code == _NOT_FOUND:
            return "gone"
        if answer.code == _NOT_COMPLETE:
            return "not_yet"
        if answer.status == 403:
            code = str(answer.code or "http_403")
            raise Permanent(failures.NAME, f"the credentials may not do this ({code})", code=code)
        raise failures.from_read(answer.status, answer.code, answer.delay)

    async def _call(self, method: str, target: str, account_sid: str) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._timeout

        async def call() -> Answer:
            try:
                answer = await self._exchange.call(method, target, account_sid, deadline=deadline)
            except Ambiguous as error:
                raise Temporary(failures.NAME, error.reason, code=error.code) from None
            if answer.status == 429 or answer.status >= 500:
                raise failures.from_read(answer.status, answer.code, answer.delay)
            return answer

        found: Answer = await retrying(is_soon_over, deadline, self._sleep)(call)
        return found


@asynccontextmanager
async def open_eraser(
    accounts: Accounts, *, base_url: str, timeout_seconds: float
) -> AsyncIterator[TwilioEraser]:
    async with aiohttp.ClientSession() as session:
        yield TwilioEraser(
            session, accounts=accounts, base_url=base_url, timeout_seconds=timeout_seconds
        )
