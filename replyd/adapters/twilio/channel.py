"""The channel port on Twilio's Messages API.

https://www.twilio.com/docs/messaging/api/message-resource. The API has no idempotency key, so
only what was certainly not accepted is sent again, here or by the caller.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import aiohttp

from replyd.adapters.twilio import failures, inbound, listing, signature
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.exchange import Exchange
from replyd.adapters.twilio.retries import is_soon_over, retrying, was_not_accepted
from replyd.adapters.twilio.typing import TypingIndicators
from replyd.domain import address
from replyd.domain.catch_up import Inbox
from replyd.domain.messages import InboundMessage, OutboundPart, Params, SentMessage
from replyd.errors import Ambiguous, DependencyDown, DependencyError, Temporary
from replyd.ports import SignedRequest

_SID = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")


class TwilioChannel:
    """Twilio for any number of accounts, on one pooled session that the caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        accounts: Accounts | Mapping[str, Sequence[str]],
        public_url: str = "",
        base_url: str = "",
        timeout_seconds: float = 10.0,
        messaging_services: Mapping[str, str] = MappingProxyType({}),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`accounts`: or auth tokens by AccountSid, the newest first, two during a rotation.

        `public_url`: the origin that Twilio calls; without one nothing is authentic. `base_url`:
        empty means Twilio's own. `timeout_seconds`: for a `send` or a `sent_since` with all its
        retries, and for a check. `messaging_services`: SID of the Messaging Service by business
        number, which must be in its sender pool."""
        self._accounts = accounts if isinstance(accounts, Accounts) else Accounts(accounts)
        self._origins = signature.origins(public_url.rstrip("/"))
        self._exchange = Exchange(session, self._accounts, base_url)
        self._typing = TypingIndicators(session, self._accounts, base_url)
        self._timeout = timeout_seconds
        self._services = dict(messaging_services)
        self._sleep = sleep

    def knows_account(self, account_sid: str) -> bool:
        return self._accounts.knows(account_sid)

    def is_authentic(self, request: SignedRequest) -> bool:
        """Whether the account named in the parameters signed exactly this. Constant time for the
        tokens of an account, never raises. A request that names two accounts is not authentic."""
        named = {value for name, value in request.fields if name == "AccountSid"}
        tokens = self._accounts.tokens(named.pop()) if len(named) == 1 else ()
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
        deadline = self._deadline()
        insisting = retrying(was_not_accepted, deadline, self._sleep)
        return await insisting(self._submit, part, deadline)

    async def sent_since(
        self, account_sid: str, sender: str, recipient: str, since: int
    ) -> Sequence[SentMessage]:
        """Reads pages until one holds only older messages; up to 10,000 messages.

        Raises Temporary, Busy or DependencyDown when they cannot be read for now, also when an
        answer is no list, Permanent for a final 4xx and a longer list. Never Ambiguous."""
        deadline = self._deadline()
        insisting = retrying(is_soon_over, deadline, self._sleep)
        read = partial(insisting, self._read, account_sid, deadline)
        return await listing.read_since(read, account_sid, sender, recipient, since)

    async def received_since(self, account_sid: str, since: int, until: int) -> Inbox:
        """Reads pages until one holds only older messages; up to 10,000 messages, of which the
        newest come first, and the files of 40. `timeout_seconds` is for each page.

        Raises Temporary, Busy or DependencyDown when they cannot be read for now, also when an
        answer is no list, Permanent for a final 4xx. Never Ambiguous."""

        async def read(target: str) -> Mapping[str, Any]:
            deadline = self._deadline()
            insisting = retrying(is_soon_over, deadline, self._sleep)
            answer: Mapping[str, Any] = await insisting(self._read, account_sid, deadline, target)
            return answer

        return await listing.received_since(
            read, account_sid, since, until, api_url=self._exchange.base_url
        )

    async def state_of(self, account_sid: str, sid: str) -> str:
        """https://www.twilio.com/docs/messaging/api/message-resource#message-status-values. Raises
        Temporary, Busy, DependencyDown or Permanent."""
        path = f"/2010-04-01/Accounts/{account_sid}/Messages/{sid}.json"
        state = (await self._read(account_sid, self._deadline(), path)).get("status")
        if not isinstance(state, str):
            reason = "the answer has no status: check twilio.base_url"
            raise Temporary(failures.NAME, reason, code="unreadable")
        return state

    async def show_typing(self, message_sid: str, account_sid: str) -> None:
        """Not retried. Raises Temporary, Busy, DependencyDown or Permanent, never Ambiguous."""
        await self._typing.show(message_sid, account_sid, self._deadline())

    async def check_account(self, account_sid: str) -> None:
        """Read the account, https://www.twilio.com/docs/iam/api/account, and a page of its
        messages, on which it rests that an unclear send is neither lost nor repeated; sends
        nothing.

        Raises DependencyDown with what to change, or when Twilio cannot be reached."""
        deadline = self._deadline()
        try:
            answer = await self._read(
                account_sid, deadline, f"/2010-04-01/Accounts/{account_sid}.json"
            )
            state = answer.get("status")
            if state == "active":
                messages = f"{listing.messages_path(account_sid)}?PageSize=1"
                await self._read(account_sid, deadline, messages)
        except DependencyError as error:
            raise DependencyDown(failures.NAME, error.reason, code=error.code) from None
        if state != "active":
            shown = state if state in ("suspended", "closed") else "unknown"
            raise DependencyDown(failures.NAME, f"the account's status is {shown}, not active")

    async def _submit(self, part: OutboundPart, deadline: float) -> str:
        form = {"From": part.sender, "To": part.recipient, **_content(part)}
        if service := self._services.get(address.bare(part.sender)):
            form["MessagingServiceSid"] = service
        if part.status_callback:
            form["StatusCallback"] = part.status_callback
        answer = await self._exchange.call(
            "POST",
            listing.messages_path(part.account_sid),
            part.account_sid,
            form=form,
            deadline=deadline,
        )
        if not 200 <= answer.status < 300:
            raise failures.from_answer(answer.status, answer.code, answer.delay)
        sid = answer.body.get("sid")
        if not isinstance(sid, str) or _SID.fullmatch(sid) is None:
            raise Ambiguous(failures.NAME, "accepted, but the answer has no readable SID")
        return sid

    async def _read(self, account_sid: str, deadline: float, target: str) -> Mapping[str, Any]:
        try:
            answer = await self._exchange.call("GET", target, account_sid, deadline=deadline)
        except Ambiguous as error:
            raise Temporary(failures.NAME, error.reason, code=error.code) from None
        if answer.status != 200:
            raise failures.from_read(answer.status, answer.code, answer.delay)
        return answer.body

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout


def _content(part: OutboundPart) -> dict[str, str]:
    """https://www.twilio.com/docs/content/send-templates-created-with-the-content-template-builder"""
    if not part.content_sid:
        return {"Body": part.text}
    form = {"ContentSid": part.content_sid}
    if part.content_variables:
        form["ContentVariables"] = json.dumps(dict(part.content_variables), ensure_ascii=False)
    return form
