"""Serves the demo page: the page itself, its state as a stream of events, and what customers and
people do."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Protocol

from aiohttp import web

from replyd.demo import samples
from replyd.demo.operator_client import Refused
from replyd.domain import address
from replyd.runtime import operator_openapi

KINDS = ("text", "location", "image", "voice")
# WhatsApp: the longest text of a message.
MAX_TEXT = 4096
# What open streams get to end in.
CLOSE_SECONDS = 1.0
_MAX_BODY = 64 * 1024

_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/dom.js": ("dom.js", "text/javascript"),
    "/phones.js": ("phones.js", "text/javascript"),
    "/journeys.js": ("journeys.js", "text/javascript"),
    "/waiting.js": ("waiting.js", "text/javascript"),
}
_SECURITY_HEADERS = {
    # data: is the page's icon.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoBackend(Protocol):
    """What the page shows and does."""

    def snapshot(self) -> dict[str, Any]:
        """The full state, ready for JSON: `now`, `window`, `model`, `customers`, `journeys`,
        `waiting`, `handoff_queue`, `totals`. Never blocks."""
        ...

    async def customer_says(self, address: str, text: str, kind: str) -> None:
        """A customer sends a message of a kind in `KINDS`. Raises LookupError when there is no
        such customer."""
        ...

    async def set_handoff(self, conversation_id: str, up: bool) -> None:
        """Give a conversation to a person, or back. Raises LookupError when there is none, and
        Refused."""
        ...

    async def person_says(self, conversation_id: str, text: str, key: str) -> Mapping[str, Any]:
        """A person answers, once for each key; tells `delivery` and `why`. Raises as
        `set_handoff`."""
        ...


class PageServer:
    """The page on 127.0.0.1; nobody else's page may talk to it.

    Port 0 is any free one. `heartbeat_seconds` is how often an idle stream says that it lives,
    `least_pause_seconds` how long it waits at least between two states.
    """

    def __init__(
        self,
        backend: DemoBackend,
        *,
        port: int = 0,
        heartbeat_seconds: float = 15.0,
        least_pause_seconds: float = 1 / 15,
    ) -> None:
        self._backend = backend
        self._port = port
        self._heartbeat = heartbeat_seconds
        self._least_pause = least_pause_seconds
        self._version = 0
        self._news = asyncio.Event()
        self._stopping = False
        self._runner: web.AppRunner | None = None
        page = resources.files("replyd.demo") / "page"
        self._files = {
            path: ((page / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._files["/picture.png"] = (samples.picture(), "image/png")

    @property
    def url(self) -> str:
        """Where to point a browser, once started."""
        return f"http://127.0.0.1:{self._port}/"

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application(middlewares=[_only_local], client_max_size=_MAX_BODY)
        app.on_response_prepare.append(_secure)
        for path in self._files:
            app.router.add_get(path, self._page)
        app.router.add_get("/events", self._events, allow_head=False)
        app.router.add_post("/api/say", self._say)
        app.router.add_post("/api/handoff", self._handoff)
        app.router.add_post("/api/answer", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End the open streams and close. May be called twice."""
        self._stopping = True
        self._news.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def changed(self) -> None:
        """The state is another: tell every open page. From the event loop's thread; cheap."""
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _page(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        charset = "utf-8" if kind.startswith("text/") else None
        return web.Response(body=body, content_type=kind, charset=charset)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        _same_origin(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        shown = -1
        try:
            # A page that lost its server looks for it every second.
            await response.write(b"retry: 1000\n\n")
            while not self._stopping:
                if shown != self._version:
                    shown = self._version
                    state = json.dumps(self._backend.snapshot(), separators=(",", ":"))
                    await response.write(f"data: {state}\n\n".encode())
                    await asyncio.sleep(self._least_pause)
                elif not await self._news_within(self._heartbeat):
                    await response.write(b": still here\n\n")
        except ConnectionResetError:
            # The page was closed.
            pass
        return response

    async def _news_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _say(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        to = _string(body, "address", longest=200)
        if not address.is_address(to):
            raise _bad("address: not an address")
        kind = _string(body, "kind", longest=20) if "kind" in body else "text"
        if kind not in KINDS:
            raise _bad(f"kind: one of {', '.join(KINDS)}")
        text = _string(body, "text", longest=MAX_TEXT)
        if kind == "text" and not text.strip():
            raise _bad("text: empty")
        try:
            await self._backend.customer_says(to, text, kind)
        except LookupError:
            raise _error(web.HTTPNotFound, "address: no such customer") from None
        return web.Response(status=204)

    async def _handoff(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        conversation_id = _string(body, "conversation_id", longest=1024)
        up = body.get("up")
        if not isinstance(up, bool):
            raise _bad("up: true or false")
        try:
            await self._backend.set_handoff(conversation_id, up)
        except LookupError:
            raise _error(web.HTTPNotFound, "conversation_id: no such conversation") from None
        except Refused as refused:
            return _refusal(refused)
        return web.Response(status=204)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        conversation_id = _string(body, "conversation_id", longest=1024)
        text = _string(body, "text", longest=operator_openapi.MAX_TEXT)
        if not text.strip():
            raise _bad("text: empty")
        key = _string(body, "key", longest=64)
        if re.fullmatch(operator_openapi.KEY_PATTERN, key) is None:
            raise _bad("key: letters, digits, - and _")
        try:
            answer = await self._backend.person_says(conversation_id, text, key)
        except LookupError:
            raise _error(web.HTTPNotFound, "conversation_id: no such conversation") from None
        except Refused as refused:
            return _refusal(refused)
        return web.json_response({"delivery": answer["delivery"], "why": answer["why"]})


@web.middleware
async def _only_local(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A name that somebody else's DNS points here is refused: it would make their page ours."""
    if _without_port(request.headers.get("Host", "")) not in _LOCAL_NAMES:
        raise _error(web.HTTPForbidden, "Host: only localhost")
    if request.method not in ("GET", "HEAD"):
        _same_origin(request)
    return await handler(request)


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _same_origin(request: web.Request) -> None:
    """Browsers say where a request comes from; other programs say nothing and may."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    own = f"http://{request.headers.get('Host', '')}".lower()
    if (origin is not None and origin.lower() != own) or site not in ("same-origin", "none"):
        raise _error(web.HTTPForbidden, "Origin: only the demo page itself")


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY_HEADERS)


async def _json_object(request: web.Request) -> Mapping[str, Any]:
    if request.content_type != "application/json":
        raise _bad("Content-Type: application/json is needed")
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        raise _bad("body: not JSON") from None
    if not isinstance(body, dict):
        raise _bad("body: not an object")
    return body


def _string(body: Mapping[str, Any], name: str, *, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _bad(f"{name}: a string is needed")
    if len(value) > longest:
        raise _bad(f"{name}: longer than {longest} characters")
    return value


def _refusal(refused: Refused) -> web.Response:
    return web.json_response({"error": str(refused)}, status=refused.status)


def _bad(message: str) -> web.HTTPException:
    return _error(web.HTTPBadRequest, message)


def _error(kind: type[web.HTTPException], message: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": message}), content_type="application/json")
