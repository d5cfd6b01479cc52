"""Twilio's webhooks over new connections and over kept ones, each timed."""

import asyncio
import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from multidict import MultiDict

from replyd.demo.twilio_double import TwilioDouble
from replyd.demo.twilio_webhooks import USER_AGENT, Delivery, WebhookSender
from replyd.domain.callback import STATUS_PATH

# Longer than anything here lasts: only the server ends a connection.
_KEPT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Posted:
    """One request. `seconds`: until the answer's first line; `status`: 0 where none came, and
    `why` then says what came instead; `reused`: its connection had served another."""

    message: bool
    seconds: float
    status: int
    reused: bool
    why: str = ""

    @property
    def ok(self) -> bool:
        return self.status in (200, 204)


class Courier(WebhookSender):
    """`keeps`: its connections serve many requests, else one each."""

    def __init__(self, posted: list[Posted], *, keeps: bool) -> None:
        super().__init__()
        self._posted = posted
        self._keeps = keeps

    async def start(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._starts)
        trace.on_connection_reuseconn.append(self._reuses)
        trace.on_request_end.append(self._ends)
        trace.on_request_exception.append(self._fails)
        connector = (
            aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS)
            if self._keeps
            else aiohttp.TCPConnector(limit=0, force_close=True)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )

    async def _starts(self, _session: object, about: SimpleNamespace, _asked: object) -> None:
        about.began, about.reused = _now(), False

    async def _reuses(self, _session: object, about: SimpleNamespace, _asked: object) -> None:
        about.reused = True

    async def _ends(self, _session: object, about: SimpleNamespace, answered: Any) -> None:
        self._note(about, answered.url.path, answered.response.status)

    async def _fails(self, _session: object, about: SimpleNamespace, failed: Any) -> None:
        self._note(about, failed.url.path, 0, repr(failed.exception))

    def _note(self, about: SimpleNamespace, path: str, status: int, why: str = "") -> None:
        seconds = _now() - about.began
        self._posted.append(Posted(path != STATUS_PATH, seconds, status, about.reused, why))


class TimedTwilio(TwilioDouble):
    """`posted`: every request for a message or a status callback, in the order of their ends."""

    def __init__(self, seed: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._chance = random.Random(seed)
        self.posted: list[Posted] = []
        self._couriers = [Courier(self.posted, keeps=keeps) for keeps in (True, False)]

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        for courier in self._couriers:
            await courier.start()

    async def stop(self) -> None:
        await super().stop()
        for courier in self._couriers:
            await courier.stop()

    async def _post(self, url: str, params: MultiDict[str]) -> Delivery:
        return await self._chance.choice(self._couriers).post(
            url,
            params,
            token=self.auth_token,
            deliver_to=self.deliver_to,
            retries=self.retries,
            timeout=self.timeout,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
