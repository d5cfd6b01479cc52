"""The public HTTP server: Twilio's webhooks, and nothing else.

What a stranger sends is neither echoed nor logged, and costs at most one signature check.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from replyd.domain.callback import STATUS_PATH
from replyd.domain.events import RequestRefused
from replyd.domain.messages import InboundMessage, Params
from replyd.errors import ReplydError
from replyd.ports import Channel, SignedRequest, Telemetry

INBOUND_PATH = "/webhooks/twilio/whatsapp"

_log = structlog.get_logger("replyd")

MAX_BODY_BYTES = 64 * 1024
# Twilio sends about 25 parameters; checking a signature over 1,000 takes 5 ms.
MAX_FIELDS = 200
# Twilio gives up after 15 s.
DURABLE_WITHIN_SECONDS = 10.0
RETRY_AFTER_SECONDS = "5"

_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """The answer to a request that is not served. `reason` is a fixed word, for metrics."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WebhookServer:
    """`accept` makes a message durable or raises; `track` takes the parameters of a status
    callback and its query. Ports of 0 take a free one; `port` tells which."""

    def __init__(
        self,
        *,
        channel: Channel,
        accept: Callable[[InboundMessage], Awaitable[None]],
        track: Callable[[Params, Params], Awaitable[None]],
        telemetry: Telemetry,
        observe_ack: Callable[[float], None],
        host: str,
        port: int,
        max_inflight: int,
        header_timeout_seconds: float,
        body_timeout_seconds: float,
    ) -> None:
        self._channel = channel
        self._accept = accept
        self._track = track
        self._telemetry = telemetry
        self._observe_ack = observe_ack
        self._host = host
        self.port = port
        self._max_inflight = max_inflight
        self._header_timeout = header_timeout_seconds
        self._body_timeout = body_timeout_seconds
        self.inflight = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Raises OSError when the address cannot be listened on."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        app.router.add_post(INBOUND_PATH, self._inbound)
        app.router.add_post(STATUS_PATH, self._status)
        app.on_response_prepare.append(_name_no_versions)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_silent_logger(),
            # Also ends a connection whose headers do not come.
            keepalive_timeout=self._header_timeout,
            handler_cancellation=False,
            shutdown_timeout=DURABLE_WITHIN_SECONDS + 2,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stops listening, waits for requests under way."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        headers: dict[str, str] = {}
        try:
            if self.inflight >= self._max_inflight:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded")
            self.inflight += 1
            try:
                return await handler(request)
            finally:
                self.inflight -= 1
        except Refusal as refusal:
            status, reason = refusal.status, refusal.reason
        except web.HTTPRequestEntityTooLarge:
            status, reason = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"
        except web.HTTPException as error:
            status, reason = HTTPStatus(error.status), "no_route"
            headers = {k: v for k, v in error.headers.items() if k == "Allow"}
        except Exception:  # noqa: BLE001 - a bug must be seen, and Twilio must deliver again
            _log.exception("a webhook ended with a bug")
            status, reason = HTTPStatus.SERVICE_UNAVAILABLE, "bug"
        endpoint = request.path if request.path in (INBOUND_PATH, STATUS_PATH) else "other"
        self._telemetry.emit(RequestRefused(endpoint, status.value, reason))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = RETRY_AFTER_SECONDS
        response = web.Response(status=status, text=f"{status.phrase}\n", headers=headers)
        if not request.content.is_eof():
            # Do not read on what nobody will look at.
            response.force_close()
        return response

    async def _inbound(self, request: web.Request) -> web.Response:
        started = asyncio.get_running_loop().time()
        params = await self._authentic_params(request)
        try:
            message = self._channel.parse(params)
        except ValueError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "not_a_message") from None
        try:
            async with asyncio.timeout(DURABLE_WITHIN_SECONDS):
                await self._accept(message)
        except ReplydError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not_durable") from None
        except TimeoutError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too_slow") from None
        self._observe_ack(asyncio.get_running_loop().time() - started)
        return web.Response(body=_EMPTY_TWIML, content_type="text/xml", charset="utf-8")

    async def _status(self, request: web.Request) -> web.Response:
        params = await self._authentic_params(request)
        if "MessageStatus" not in params and "SmsStatus" not in params:
            raise Refusal(HTTPStatus.BAD_REQUEST, "not_a_status")
        query = _grouped(list(request.query.items()))
        try:
            async with asyncio.timeout(DURABLE_WITHIN_SECONDS):
                await self._track(params, query)
        except (ReplydError, TimeoutError):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not_durable") from None
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _authentic_params(self, request: web.Request) -> dict[str, str | list[str]]:
        """The parameters, once they are known to come from a configured account."""
        signature = request.headers.get("X-Twilio-Signature", "")
        if not signature:
            raise Refusal(HTTPStatus.FORBIDDEN, "no_signature")
        fields = _fields(await self._body(request))
        account_sid = next((v for name, v in fields if name == "AccountSid"), "")
        if not self._channel.knows_account(account_sid):
            raise Refusal(HTTPStatus.FORBIDDEN, "unknown_account")
        signed = SignedRequest(
            target=request.raw_path,
            fields=fields,
            signature=signature,
            signature_settings=request.headers.get("X-Twilio-Webhooks-Signature-Settings", ""),
        )
        if not self._channel.is_authentic(signed):
            raise Refusal(HTTPStatus.FORBIDDEN, "bad_signature")
        return _grouped(fields)

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
        try:
            async with asyncio.timeout(self._body_timeout):
                return await request.read()
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow") from None
        except (ConnectionError, web.RequestPayloadError):
            raise Refusal(HTTPStatus.BAD_REQUEST, "broken_body") from None


def _fields(body: bytes) -> list[tuple[str, str]]:
    """Every parameter as sent, in order. What is not UTF-8 becomes a replacement character, which
    no signature matches."""
    try:
        return parse_qsl(
            body.decode("utf-8", "replace"),
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
            errors="replace",
        )
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "too_many_fields") from None


def _grouped(fields: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Parameters by name; a repeated name has a list of its values."""
    params: dict[str, str | list[str]] = {}
    for name, value in fields:
        have = params.get(name)
        if have is None:
            params[name] = value
        elif isinstance(have, list):
            have.append(value)
        else:
            params[name] = [have, value]
    return params


async def _name_no_versions(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "replyd"


def _silent_logger() -> logging.Logger:
    """aiohttp logs what it cannot parse, with the bytes: a stranger must not write our log."""
    logger = logging.getLogger("replyd.http")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
