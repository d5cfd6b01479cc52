"""Calls webhooks as Twilio does: signed for the public URL, with a time limit and retries.

https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides says what is repeated
and when; https://www.twilio.com/docs/usage/security#validating-requests how it is signed.
"""

import uuid
from dataclasses import dataclass
from urllib.parse import urldefrag, urlencode, urlsplit

import aiohttp
from multidict import MultiDict
from twilio.request_validator import RequestValidator

USER_AGENT = "TwilioProxy/1.1"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook's outcome: the status of the last attempt, 0 when there was no answer."""

    sid: str
    status: int
    attempts: int

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def sign(token: str, url: str, params: MultiDict[str]) -> str:
    """The value of `X-Twilio-Signature`. A fragment only configures Twilio and is not signed."""
    signature: str = RequestValidator(token).compute_signature(urldefrag(url).url, params)
    return signature


class WebhookSender:
    """Posts on a session of its own, from `start` to `stop`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self,
        url: str,
        params: MultiDict[str],
        *,
        token: str,
        deliver_to: str,
        retries: int,
        timeout: float,
    ) -> Delivery:
        """Sign for `url`, post to the same target at `deliver_to`, or to `url` where that is
        empty; again after a 5xx, a timeout (seconds) or a lost connection, with the same SID."""
        assert self._session is not None, "start the double first"
        body = urlencode(list(params.items())).encode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": sign(token, url, params),
            "I-Twilio-Idempotency-Token": str(uuid.uuid4()),
        }
        target = _target(url, deliver_to)
        status = attempts = 0
        while attempts <= retries and not 0 < status < 500:
            attempts += 1
            try:
                async with self._session.post(
                    target,
                    data=body,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    allow_redirects=False,
                ) as response:
                    status = response.status
                    await response.read()
            except (aiohttp.ClientError, TimeoutError):
                status = 0
        return Delivery(params["MessageSid"], status, attempts)


def _target(url: str, deliver_to: str) -> str:
    if not deliver_to:
        return urldefrag(url).url
    parts = urlsplit(url)
    return deliver_to.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
