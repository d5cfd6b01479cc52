"""Bodies of requests, read with an end to their size, time and number."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion11


class UnreadableError(Exception):
    """A body that is not read to its end."""


class TooLargeError(UnreadableError):
    pass


class TooSlowError(UnreadableError):
    """Also one that had to make room for others."""


class BrokenError(UnreadableError):
    """The client went away, or what it sends is no HTTP."""


class Bodies:
    """Reads up to `most_bytes` of each body, within `seconds`, `at_once` of them. One more ends the
    one that is longest under way: an honest body comes at once, so whoever holds places with slow
    ones takes them from himself."""

    def __init__(self, *, most_bytes: int, seconds: float, at_once: int) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._at_once = at_once
        # In the order of their beginning.
        self._under_way: dict[asyncio.Timeout, None] = {}

    async def read(self, request: web.BaseRequest) -> bytes:
        """As it came: compressed bodies stay so. Raises UnreadableError."""
        if (request.content_length or 0) > self._most_bytes:
            raise TooLargeError
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds) as patience:
                with self._place(patience):
                    if _waits_for_100(request):
                        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    async for chunk in request.content.iter_any():
                        body += chunk
                        if len(body) > self._most_bytes:
                            raise TooLargeError
        except TimeoutError:
            raise TooSlowError from None
        except (OSError, web.RequestPayloadError, HttpProcessingError):
            raise BrokenError from None
        return bytes(body)

    @contextmanager
    def _place(self, patience: asyncio.Timeout) -> Iterator[None]:
        if len(self._under_way) >= self._at_once:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        self._under_way[patience] = None
        try:
            yield
        finally:
            self._under_way.pop(patience, None)


def _waits_for_100(request: web.BaseRequest) -> bool:
    expect = request.headers.get("Expect", "").lower()
    return expect == "100-continue" and request.version >= HttpVersion11
