"""Typing indicators, with which a customer's message is marked as read.

https://www.twilio.com/docs/whatsapp/api/typing-indicators-resource, a public beta.
"""

import aiohttp

from replyd.adapters.twilio import failures
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.exchange import Exchange
from replyd.errors import Ambiguous, Temporary

# A host of its own, unless a base URL takes the place of all of Twilio's.
MESSAGING_URL = "https://messaging.twilio.com"
PATH = "/v2/Indicators/Typing.json"


class TypingIndicators:
    """For any number of accounts, on one pooled session that the caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        accounts: Accounts,
        base_url: str,
    ) -> None:
        self._exchange = Exchange(session, accounts, base_url or MESSAGING_URL)

    async def show(self, message_sid: str, account_sid: str, deadline: float) -> None:
        """One request, not retried: the next one comes anyway. `deadline`: by the loop's clock.

        Raises as `ports.Channel.show_typing` does."""
        form = {"channel": "whatsapp", "messageId": message_sid}
        try:
            answer = await self._exchange.call(
                "POST", PATH, account_sid, form=form, deadline=deadline
            )
        except Ambiguous as error:
            failure = Temporary(failures.NAME, error.reason, code=error.code)
        else:
            if 200 <= answer.status < 300:
                return
            raise failures.from_read(answer.status, answer.code, answer.delay)
        raise failure
