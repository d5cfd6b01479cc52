"""Twilio's media on loopback: files of messages, and the content network that the API sends to.

https://www.twilio.com/docs/messaging/api/media-resource. The API wants credentials and answers
with a redirect to a signed link, which lives for four hours at another host and wants none:
https://support.twilio.com/hc/en-us/articles/223183748.
"""

import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from replyd.demo import twilio_wire as wire
from replyd.demo.loopback import Fault, LoopbackServer, drop

_LINK_SECONDS = 4 * 3600


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """A file, and the name and the signature that its links at the content network have."""

    account_sid: str
    message_sid: str
    sid: str
    content_type: str
    data: bytes = field(repr=False)
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    signature: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class MediaCdn(LoopbackServer):
    """The content network, an origin of its own. `authorizations`: the Authorization header of
    each request that had one, which none should; `served`: how many files it has given out."""

    def __init__(self) -> None:
        super().__init__()
        self.authorizations: list[str] = []
        self.served = 0
        self._files: dict[str, StoredMedia] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/{account}/{key}", self._get_file)]

    def link(self, media: StoredMedia) -> str:
        self._files[media.key] = media
        expires = int(time.time()) + _LINK_SECONDS
        query = f"Expires={expires}&Signature={media.signature}&Key-Pair-Id=K1"
        return f"{self.base_url}/{media.account_sid}/{media.key}?{query}"

    def drop(self, media: StoredMedia) -> None:
        self._files.pop(media.key, None)

    def fail_next(
        self, n: int = 1, *, status: int = 503, headers: Mapping[str, str] | None = None
    ) -> None:
        """The next `n` requests get an error."""
        self._faults.extend([Fault(status, headers=headers or {})] * n)

    def drop_next(self, n: int = 1) -> None:
        """The next `n` requests lose their connection without an answer."""
        self._faults.extend([Fault()] * n)

    async def _get_file(self, request: web.Request) -> web.Response:
        if given := request.headers.get("Authorization"):
            self.authorizations.append(given)
        if (fault := self._next_fault()) is not None:
            if fault.status == 0:
                return drop(request)
            return web.Response(status=fault.status, headers=fault.headers)
        media = self._files.get(request.match_info["key"])
        if media is None or request.query.get("Signature") != media.signature:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        self.served += 1
        return web.Response(body=media.data, headers={"Content-Type": media.content_type})


class MediaStore:
    """The files of messages, by message and media SID."""

    def __init__(self) -> None:
        self.cdn = MediaCdn()
        self._files: dict[tuple[str, str], StoredMedia] = {}
        self._faults: deque[Fault] = deque()

    def add(self, account_sid: str, message_sid: str, content_type: str, data: bytes) -> str:
        """Keep a file of a message; the path of its resource."""
        media = StoredMedia(account_sid, message_sid, wire.sid("ME"), content_type, data)
        self._files[message_sid, media.sid] = media
        message = f"/{wire.API_VERSION}/Accounts/{account_sid}/Messages/{message_sid}"
        return f"{message}/Media/{media.sid}"

    def drop(self, message_sid: str) -> None:
        """Forget the files of a message, here and at the content network."""
        for known in [key for key in self._files if key[0] == message_sid]:
            self.cdn.drop(self._files.pop(known))

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 503,
        code: int = 20503,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` reads of a file get an error from the API; `status` 0 drops the
        connection."""
        self._faults.extend([Fault(status, str(code), headers=headers or {})] * n)

    def clear_faults(self) -> None:
        self._faults.clear()
        self.cdn.clear_faults()

    def answer(self, request: web.Request) -> web.Response:
        """GET /Messages/{Sid}/Media/{Sid}, by somebody whose credentials are right."""
        if self._faults:
            fault = self._faults.popleft()
            if fault.status == 0:
                return drop(request)
            return wire.error(fault.status, int(fault.code), headers=fault.headers)
        media = self._files.get((request.match_info["sid"], request.match_info["media"]))
        if media is None:
            return wire.error(404, 20404)
        link = self.cdn.link(media)
        return web.Response(status=307, headers={"Location": link})
