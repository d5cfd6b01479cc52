"""`replyd serve` as a user starts it: a process, real HTTP, ministack and the doubles."""

from collections.abc import AsyncIterator

import pytest

from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from tests.process.town import (
    API_KEY,
    BUSINESS,
    COMMAND,
    CUSTOMER,
    KEY,
    PUBLIC_URL,
    WEBHOOK_URL,
    Process,
    Town,
    open_town,
)
from tests.support.counting_proxy import CountingProxy

__all__ = ["BUSINESS", "COMMAND", "CUSTOMER", "KEY", "PUBLIC_URL", "Process", "Town"]


@pytest.fixture
async def town(ministack: str) -> AsyncIterator[Town]:
    twilio = TwilioDouble(business=BUSINESS, webhook_url=WEBHOOK_URL)
    openai = OpenAIDouble(api_key=API_KEY)
    proxy = CountingProxy(ministack)
    async with open_town(ministack, proxy, twilio, openai, forks=True) as town:
        yield town
