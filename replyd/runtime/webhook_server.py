"""The public HTTP server: Twilio's webhooks, and nothing else.

What a stranger sends is neither echoed nor logged, and costs at most two signature checks.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from replyd.domain.callback import STATUS_PATH, is_report
from replyd.domain.events import RequestRefused
from replyd.domain.messages import InboundMessage, Params
from replyd.errors import ReplydError
from replyd.ports import Channel, SignedRequest, Telemetry, Tracing
from replyd.runtime.bodies import Bodies, TooLargeError, TooSlowError, UnreadableError
from replyd.runtime.connections import QuietServer
from replyd.runtime.listening import Listening
from replyd.runtime.no_tracing import NoTracing

INBOUND_PATH = "/webhooks/twilio/whatsapp"

_log = structlog.get_logger("replyd")

MAX_BODY_BYTES = 64 * 1024
# Twilio sends about 25 parameters; checking a signature over 1,000 takes 5 ms.
MAX_FIELDS = 200
# Twilio gives up after 15 s.
DURABLE_WITHIN_SECONDS = 10.0
RETRY_AFTER_SECONDS = "5"
# What `stop` gives the last answers to be written.
CLOSE_SECONDS = 2.0

_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_TWIML_TYPE = "text/xml; charset=utf-8"
_TEXT_TYPE = "text/plain; charset=utf-8"

_Fields = list[tuple[str, str]]
_Params = dict[str, str | list[str]]
_Handler = Callable[[web.BaseRequest, _Params, float], Awaitable[web.Response]]


class Refusal(Exception):
    """The answer to a request that is not served. `reason` is a fixed word, for metrics."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WebhookServer:
    """`accept` makes a message durable or raises; `track` takes the parameters of a status
    callback and its query. `refresh`: looks for other tokens of an account,
    bounded in time and number, and tells whether there are any; raises when none are known at all.
    Ports of 0 take a free one; `port` tells which. `sockets`: listening ones to serve on, instead
    of host and port; whoever made them keeps them open."""

    def __init__(
        self,
        *,
        channel: Channel,
        accept: Callable[[InboundMessage], Awaitable[None]],
        track: Callable[[Params, Params], Awaitable[None]],
        telemetry: Telemetry,
        observe_ack: Callable[[float], None],
        refresh: Callable[[str], Awaitable[bool]] | None = None,
        host: str,
        port: int,
        max_inflight: int,
        header_timeout_seconds: float,
        body_timeout_seconds: float,
        max_connections: int = 1000,
        durable_within_seconds: float = DURABLE_WITHIN_SECONDS,
        reuse_port: bool = False,
        sockets: Sequence[socket.socket] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._channel = channel
        self._accept = accept
        self._track = track
        self._telemetry = telemetry
        self._observe_ack = observe_ack
        self._refresh = refresh
        self._listening = Listening(host, port, sockets, reuse_port=reuse_port)
        # The next process gets the connections that we do not take any more.
        self.outlived = bool(sockets)
        self._max_inflight = max_inflight
        self._header_timeout = header_timeout_seconds
        self._max_connections = max_connections
        self._bodies = Bodies(
            most_bytes=MAX_BODY_BYTES, seconds=body_timeout_seconds, at_once=max_inflight
        )
        self._durable_within = durable_within_seconds
        self._tracing = tracing or NoTracing()
        self._handlers: Mapping[str, _Handler] = {
            INBOUND_PATH: self._inbound,
            STATUS_PATH: self._status,
        }
        self.inflight = 0
        # Those of them whose bodies are there.
        self._at_work = 0
        self._letting_go = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: QuietServer
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0 for a socket without ports."""
        return self._listening.port

    @property
    def serving(self) -> bool:
        return self._listening.active

    async def start(self) -> None:
        """Raises OSError when the address cannot be listened on."""
        self._server = QuietServer(
            self._respond,
            self._malformed,
            header_timeout=self._header_timeout,
            max_connections=self._max_connections,
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        await self._listening.start(self._runner)

    def let_go(self) -> None:
        """Connections end with their next answer, which says so, and nobody sends on one that is
        about to be closed."""
        self._letting_go = True

    async def stop(self) -> None:
        """Stops listening, waits for requests under way."""
        if self._runner is None:
            return
        self.let_go()
        await self._listening.stop()
        # Whoever was let in is heard: its request may be on its way.
        await self._server.all_heard()
        # aiohttp's own shutdown reads no further, so bodies that are half here come first.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._durable_within + CLOSE_SECONDS):
                await self._idle.wait()
        await self._runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        # The path as it came: anything but its plain form was not what Twilio was told to call.
        path = request.raw_path.partition("?")[0]
        handler = self._handlers.get(path)
        endpoint = path if handler else "other"
        headers: dict[str, str] = {}
        try:
            if handler is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "no_route")
            if request.method != "POST":
                headers["Allow"] = "POST"
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "no_route")
            with self._counted():
                response = await self._serve(request, handler)
        except Refusal as refusal:
            response = self._refused(endpoint, refusal, headers)
        except Exception:  # noqa: BLE001 - a bug must be seen, and Twilio must deliver again
            _log.exception("a webhook ended with a bug")
            bug = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "bug")
            response = self._refused(endpoint, bug, headers)
        if self._letting_go or not request.content.is_eof():
            response.force_close()
        return response

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.inflight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.inflight -= 1
            if not self.inflight:
                self._idle.set()

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._have_room()
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def _have_room(self) -> None:
        if self._at_work >= self._max_inflight:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded")

    def _refused(self, endpoint: str, refusal: Refusal, headers: dict[str, str]) -> web.Response:
        status = refusal.status
        self._telemetry.emit(RequestRefused(endpoint, status.value, refusal.reason))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = RETRY_AFTER_SECONDS
        headers["Content-Type"] = _TEXT_TYPE
        return _answer(status, f"{status.phrase}\n".encode(), headers)

    def _malformed(self) -> web.Response:
        return self._refused("other", Refusal(HTTPStatus.BAD_REQUEST, "bad_http"), {})

    async def _serve(self, request: web.BaseRequest, handler: _Handler) -> web.Response:
        started = asyncio.get_running_loop().time()
        self._have_room()
        if not request.headers.get("X-Twilio-Signature"):
            raise Refusal(HTTPStatus.FORBIDDEN, "no_signature")
        body = await self._body(request)
        with self._working():
            params = await self._authentic_params(request, body)
            path = request.raw_path.partition("?")[0]
            return await self._traced(path, handler(request, params, started))

    async def _traced(self, route: str, answer: Awaitable[web.Response]) -> web.Response:
        """A trace begins where a request is known to be Twilio's: strangers neither fill the store
        of traces nor have a say in them, so that a `traceparent` of the request means nothing."""
        attributes = {"http.request.method": "POST", "http.route": route}
        with self._tracing.begin("webhook", "server", attributes) as span:
            try:
                response = await answer
            except Refusal as refusal:
                span.set({"http.response.status_code": refusal.status.value})
                span.failed(refusal.reason)
                raise
            span.set({"http.response.status_code": response.status})
            return response

    async def _inbound(
        self, _request: web.BaseRequest, params: _Params, started: float
    ) -> web.Response:
        try:
            message = self._channel.parse(params)
        except ValueError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "not_a_message") from None
        try:
            async with asyncio.timeout(self._durable_within):
                await self._accept(message)
        except ReplydError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not_durable") from None
        except TimeoutError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too_slow") from None
        self._observe_ack(asyncio.get_running_loop().time() - started)
        return _answer(HTTPStatus.OK, _EMPTY_TWIML, {"Content-Type": _TWIML_TYPE})

    async def _status(
        self, request: web.BaseRequest, params: _Params, _started: float
    ) -> web.Response:
        # A message sent here by mistake would be lost without a trace by a 204.
        if not is_report(params):
            raise Refusal(HTTPStatus.BAD_REQUEST, "not_a_status")
        query = _grouped(_fields(request.raw_path.partition("?")[2]))
        try:
            async with asyncio.timeout(self._durable_within):
                await self._track(params, query)
        except (ReplydError, TimeoutError):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not_durable") from None
        return _answer(HTTPStatus.NO_CONTENT)

    async def _authentic_params(self, request: web.BaseRequest, body: bytes) -> _Params:
        """The parameters, once they are known to come from a configured account."""
        fields = _fields(body.decode("utf-8", "replace"))
        account_sid = next((v for name, v in fields if name == "AccountSid"), "")
        if not self._channel.knows_account(account_sid):
            raise Refusal(HTTPStatus.FORBIDDEN, "unknown_account")
        signed = SignedRequest(
            target=request.raw_path,
            fields=fields,
            signature=request.headers["X-Twilio-Signature"],
            signature_settings=request.headers.get("X-Twilio-Webhooks-Signature-Settings", ""),
        )
        if not (self._channel.is_authentic(signed) or await self._fits_newer(signed, account_sid)):
            raise Refusal(HTTPStatus.FORBIDDEN, "bad_signature")
        return _grouped(fields)

    async def _fits_newer(self, signed: SignedRequest, account_sid: str) -> bool:
        """Whether the account's token was replaced, and this was signed with the new one."""
        try:
            found = self._refresh is not None and await self._refresh(account_sid)
        except ReplydError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not_durable") from None
        return found and self._channel.is_authentic(signed)

    async def _body(self, request: web.BaseRequest) -> bytes:
        try:
            return await self._bodies.read(request)
        except TooLargeError:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large") from None
        except TooSlowError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow") from None
        except UnreadableError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "broken_body") from None


def _fields(form: str) -> _Fields:
    """Every parameter as sent, in order. What is not UTF-8 becomes a replacement character, which
    no signature matches."""
    try:
        return parse_qsl(form, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "too_many_fields") from None


def _grouped(fields: _Fields) -> _Params:
    """Parameters by name; a repeated name has a list of its values."""
    params: _Params = {}
    for name, value in fields:
        have = params.get(name)
        if have is None:
            params[name] = value
        elif isinstance(have, list):
            have.append(value)
        else:
            params[name] = [have, value]
    return params


def _answer(
    status: HTTPStatus, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    # aiohttp would name itself, Python and their versions.
    return web.Response(status=status, body=body, headers={**(headers or {}), "Server": "replyd"})
