"""AWS, OpenAI and Twilio that fail at random, and count how often and how."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from replyd.demo import twilio_wire
from replyd.demo.loopback import Fault
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from tests.support.counting_proxy import CountingProxy

# Kind of fault to its share of the requests.
AWS_FAULTS = {"aws: 500": 0.004, "aws: 500 after it was done": 0.004}
OPENAI_DELAYS = {"openai: slow": 0.06, "openai: slower than the timeout": 0.01}
OPENAI_FAULTS = {"openai: 500": 0.04, "openai: 429": 0.04, "openai: connection lost": 0.02}
TWILIO_FAULTS = {
    "twilio: 429": 0.04,
    "twilio: 503": 0.02,
    "twilio: 503 though accepted": 0.04,
    "twilio: connection lost": 0.02,
    "twilio: connection lost, accepted": 0.04,
    "twilio: slow": 0.05,
    "twilio: accepted, answer after the timeout": 0.02,
}
# Within the grace, which is twice the timeout.
TWILIO_DELAYS = {"twilio: accepted only after the timeout": 0.02}
TWILIO_LIST_FAULTS = {"twilio: list 503": 0.2}
_FAULTS = {
    "openai: 500": Fault(500),
    "openai: 429": Fault(429, headers={"Retry-After": "1"}),
    "openai: connection lost": Fault(),
    "twilio: 429": Fault(429, "20429", headers={"Retry-After": "1"}),
    "twilio: 503": Fault(503, "20503"),
    "twilio: 503 though accepted": Fault(503, "20503", accept=True),
    "twilio: connection lost": Fault(),
    "twilio: connection lost, accepted": Fault(accept=True),
}
# Seconds before the answer.
_DELAYS = {
    "openai: slow": 2.5,
    "openai: slower than the timeout": 6.0,
    "twilio: slow": 1.0,
    "twilio: accepted, answer after the timeout": 3.0,
    "twilio: accepted only after the timeout": 3.0,
}


class Moods:
    """Draws what goes wrong with a request. `calm`: nothing does any more."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self.calm = False
        self.met: Counter[str] = Counter()

    def next(self, shares: Mapping[str, float]) -> str:
        if self.calm:
            return ""
        (kind,) = self._random.choices(
            [*shares, ""], weights=[*shares.values(), 1 - sum(shares.values())]
        )
        if kind:
            self.met[kind] += 1
        return kind

    def between(self, least: float, most: float) -> float:
        return self._random.uniform(least, most)


class UnreliableAws(CountingProxy):
    def __init__(self, target: str, moods: Moods) -> None:
        super().__init__(target)
        self._moods = moods

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        kind = self._moods.next(AWS_FAULTS)
        if kind != "aws: 500":
            answer = await super()._pass(request)
            if not kind:
                return answer
        return web.json_response({"__type": "InternalServerError"}, status=500)


class UnreliableOpenAI(OpenAIDouble):
    def __init__(self, moods: Moods, **settings: Any) -> None:
        super().__init__(**settings)
        self._moods = moods

    async def _create_response(self, request: web.Request) -> web.Response:
        await request.read()
        kind = self._moods.next(OPENAI_DELAYS)
        await asyncio.sleep(_DELAYS.get(kind, self._moods.between(0.02, 0.6)))
        return await super()._create_response(request)

    def _next_fault(self) -> Fault | None:
        return _FAULTS.get(self._moods.next(OPENAI_FAULTS))


class UnreliableTwilio(TwilioDouble):
    def __init__(self, moods: Moods, **settings: Any) -> None:
        super().__init__(**settings)
        self._moods = moods

    async def _create_message(self, request: web.Request) -> web.Response:
        # What was read is accepted also when the client has gone.
        await request.read()
        if kind := self._moods.next(TWILIO_DELAYS):
            await asyncio.sleep(_DELAYS[kind])
        return await super()._create_message(request)

    async def _list_messages(self, request: web.Request) -> web.Response:
        if self._moods.next(TWILIO_LIST_FAULTS):
            return twilio_wire.error(503, 20503)
        return await super()._list_messages(request)

    def _next_fault(self) -> Fault | None:
        kind = self._moods.next(TWILIO_FAULTS)
        # Read by the same request, before anything else is.
        self.delay = _DELAYS.get(kind, 0.0)
        return _FAULTS.get(kind)
