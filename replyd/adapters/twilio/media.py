"""The media library port on Twilio's Media resource.

https://www.twilio.com/docs/messaging/api/media-resource. Media URLs come with webhooks, but also
with queue bodies that anybody may have written, so they are taken for hostile: credentials go to
the account's own media at Twilio's API and nowhere else, and what the API redirects to is fetched
without them, from Twilio's media hosts only. The URLs are compared as text with all that they may
be, so nothing rests on how a parser reads an odd one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from replyd.adapters.twilio import failures
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.exchange import API_URL, CONNECT_TIMEOUT_SECONDS, authorization
from replyd.domain.messages import Media, media_type
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File

# The most that WhatsApp takes, https://www.twilio.com/docs/messaging/guides/accepted-mime-types.
MAX_BYTES = 16 * 1024 * 1024
MAX_REDIRECTS = 3

# Where the API redirects to, by whether HTTP authentication is enforced on media URLs:
# https://support.twilio.com/hc/en-us/articles/223183748
MEDIA_HOSTS = (
    "https://*.twiliocdn.com",
    "https://s3-external-1.amazonaws.com/media.twiliocdn.com",
)

# What WhatsApp delivers, https://www.twilio.com/docs/whatsapp/guidance-whatsapp-media-messages.
EXTENSIONS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "audio/ogg": "ogg",
    "audio/amr": "amr",
    "audio/3gpp": "3gp",
    "audio/aac": "aac",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "video/mp4": "mp4",
    "video/3gpp": "3gp",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "text/plain": "txt",
    "text/vcard": "vcf",
    "text/x-vcard": "vcf",
    "text/directory": "vcf",
}

_GONE = "gone"
# Seconds to wait before each further try, by the code of the failure. Fresh WhatsApp media can be
# unknown for some seconds: https://github.com/chatwoot/chatwoot/pull/15504.
_WAITS: Mapping[str, Sequence[float]] = {failures.UNREACHABLE: (0.2,), _GONE: (1.0, 3.0)}

# `api.twilio.com`, `api.<region>.twilio.com` and `api.<edge>.<region>.twilio.com`:
# https://www.twilio.com/docs/global-infrastructure/understanding-twilio-regions
_API_ORIGIN = r"https://api(?:\.[a-z0-9-]{1,63}){0,2}\.twilio\.com"
_RESOURCE = (
    r"/2010-04-01/Accounts/(?P<account>AC[0-9a-fA-F]{32})"
    r"/Messages/(?:SM|MM)[0-9a-fA-F]{32}/Media/(?P<media>ME[0-9a-fA-F]{32})"
)
# No segment starts with a dot or is escaped, so that none leads out of the part above it.
_CDN_PATH = r"(?:/[A-Za-z0-9_-][A-Za-z0-9._~-]{0,255}){1,8}"
_QUERY = r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,4096})?"


class TwilioMedia:
    """Files that customers sent, for any number of accounts, on one pooled session that the
    caller owns."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        accounts: Accounts | Mapping[str, Sequence[str]],
        base_url: str = "",
        media_hosts: Sequence[str] = MEDIA_HOSTS,
        content_types: Mapping[str, str] = EXTENSIONS,
        max_bytes: int = MAX_BYTES,
        timeout_seconds: float = 20.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`accounts`: or auth tokens by AccountSid, the newest first, two during a rotation.

        `base_url`: one more API that may have the credentials, besides Twilio's own.
        `media_hosts`: URLs below which the API's redirects may lead, `*.` for any subdomain.
        `content_types`: those that are wanted, in lower case, with the extension of their files.
        `timeout_seconds`: for a `fetch` with all its retries."""
        self._session = session
        self._accounts = accounts if isinstance(accounts, Accounts) else Accounts(accounts)
        own = re.escape((base_url or API_URL).rstrip("/"))
        self._api = re.compile(f"(?:{_API_ORIGIN}|{own}){_RESOURCE}")
        hosts = "|".join(map(_host_pattern, media_hosts))
        self._cdn = re.compile(f"(?:{hosts}){_CDN_PATH}{_QUERY}")
        self._extensions = content_types
        self._max_bytes = max_bytes
        self._timeout = timeout_seconds
        self._sleep = sleep

    async def fetch(self, media: Media, account_sid: str) -> File:
        """The file, under its media SID and the type that Twilio answers with.

        Raises Permanent with the code `url`, `redirect`, `type`, `encoding`, `size`, `gone` or
        `unknown_account` when it can never be had, DependencyDown when the credentials are
        refused, Busy when throttled, and Temporary for a timeout, a lost connection or a server
        error. What never arrived is tried once more, what is not there twice: Twilio may announce
        a file before it can be had."""
        source = self._api.fullmatch(media.url)
        if source is None or source["account"] != account_sid:
            raise _refused("the media URL is not one of this account's at Twilio", "url")
        announced = media_type(media.content_type)
        if announced:
            self._check_type(announced)
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                answer: _Answer = await self._retrying(deadline)(
                    self._download, media.url, account_sid, announced
                )
        except TimeoutError:
            raise Temporary(failures.NAME, "no file in time", code="timeout") from None
        name = f"{source['media']}.{self._extensions[answer.content_type]}"
        return File(name, answer.content_type, answer.data)

    async def _download(self, url: str, account_sid: str, announced: str) -> "_Answer":
        """From the API with the credentials, or without them from where it redirects to."""
        tokens = await self._accounts.usable(account_sid)
        answer = await self._ask(url, announced, account_sid, tokens)
        if answer.status == 401 and (newer := await self._accounts.unrefused(account_sid, tokens)):
            answer = await self._ask(url, announced, account_sid, newer)
        redirects = 0
        while answer.location is not None:
            if redirects == MAX_REDIRECTS:
                raise _refused("too many redirects", "redirect")
            if self._cdn.fullmatch(answer.location) is None:
                raise _refused("redirected to what is no media host of Twilio's", "redirect")
            redirects += 1
            answer = await self._get(answer.location, announced)
        if answer.status != 200:
            raise _failure(answer, by_api=redirects == 0)
        return answer

    async def _ask(
        self, url: str, announced: str, account_sid: str, tokens: Sequence[str]
    ) -> "_Answer":
        """With the tokens in turn until one is not refused."""
        answer = _Answer(401)
        for token in tokens:
            answer = await self._get(url, announced, authorization(account_sid, token))
            if answer.status != 401:
                break
        return answer

    async def _get(self, url: str, announced: str, credentials: str = "") -> "_Answer":
        # What is compressed could be far larger than what is counted here.
        headers = {"Accept-Encoding": "identity"}
        if credentials:
            headers["Authorization"] = credentials
        try:
            async with self._session.get(
                url,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS),
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                if response.status != 200:
                    return _Answer(
                        response.status,
                        delay=failures.retry_after(response.headers),
                        location=_location(response),
                    )
                content_type = media_type(response.headers.get("Content-Type", ""))
                self._check_type(content_type, announced)
                data = await self._read(response)
                return _Answer(200, content_type=content_type, data=data)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise Temporary(
                failures.NAME, "no connection to where the media is", code=failures.UNREACHABLE
            ) from None
        except (aiohttp.ClientError, OSError):
            raise Temporary(
                failures.NAME, "the connection broke before the file's end", code="disconnected"
            ) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _refused("the file comes in an encoding that nobody asked for", "encoding")
        too_large = _refused(f"the file is larger than {self._max_bytes} bytes", "size")
        if (response.content_length or 0) > self._max_bytes:
            raise too_large
        data = bytearray()
        async for chunk in response.content.iter_any():
            # The announced length may be missing, or be that of something else.
            if len(data) + len(chunk) > self._max_bytes:
                raise too_large
            data += chunk
        return bytes(data)

    def _check_type(self, content_type: str, announced: str = "") -> None:
        if content_type not in self._extensions:
            raise _refused("a file of this type is not wanted", "type")
        # Who asked for a picture must not be handed a document.
        if announced and content_type.partition("/")[0] != announced.partition("/")[0]:
            raise _refused("the file is of another type than was announced", "type")

    def _retrying(self, deadline: float) -> AsyncRetrying:
        loop = asyncio.get_running_loop()

        def too_late(state: RetryCallState) -> bool:
            tries = len(_waits(state)) + 1
            return state.attempt_number >= tries or loop.time() + state.upcoming_sleep >= deadline

        return AsyncRetrying(
            retry=retry_if_exception(_is_soon_over),
            wait=_wait,
            stop=too_late,
            sleep=self._sleep,
            reraise=True,
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """`location`: where a redirect leads, None for anything else."""

    status: int
    delay: float | None = None
    location: str | None = None
    content_type: str = ""
    data: bytes = field(default=b"", repr=False)


def _failure(answer: _Answer, *, by_api: bool) -> DependencyError:
    status, code = answer.status, f"http_{answer.status}"
    if status in (404, 410):
        return _refused("there is no such file, it may have been deleted", _GONE)
    if status == 429:
        return Busy(failures.NAME, "too many requests", code=code, delay=answer.delay)
    if status in (401, 403) and by_api:
        return DependencyDown(
            failures.NAME,
            f"the account's credentials may not read media: check the auth token (HTTP {status})",
            code=code,
        )
    # The media hosts know no accounts: a link of theirs was refused, and the next one may not be.
    if status in (401, 403, 408) or status >= 500 or status < 300:
        reason = f"HTTP {status} instead of the file"
        return Temporary(failures.NAME, reason, code=code, delay=answer.delay)
    return Permanent(failures.NAME, f"refused with HTTP {status}", code=code)


def _refused(reason: str, code: str) -> Permanent:
    return Permanent(failures.NAME, reason, code=code)


def _host_pattern(url: str) -> str:
    return re.escape(url.rstrip("/")).replace(r"\*\.", r"(?:[a-z0-9-]{1,63}\.)+", 1)


def _location(response: aiohttp.ClientResponse) -> str | None:
    if response.status not in (301, 302, 303, 307, 308):
        return None
    return response.headers.get("Location", "")


def _waits(state: RetryCallState) -> Sequence[float]:
    error = state.outcome.exception() if state.outcome else None
    return _WAITS.get(error.code, ()) if isinstance(error, DependencyError) else ()


def _wait(state: RetryCallState) -> float:
    waits = _waits(state)
    return waits[min(state.attempt_number, len(waits)) - 1]


def _is_soon_over(error: BaseException) -> bool:
    return isinstance(error, DependencyError) and error.code in _WAITS
