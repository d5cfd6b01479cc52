"""A server on loopback with the real Twilio channel, and a client that writes bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from replyd.adapters.memory import Recorder
from replyd.adapters.twilio import TwilioChannel
from replyd.domain.events import RequestRefused
from replyd.domain.messages import InboundMessage, Params
from replyd.runtime.webhook_server import INBOUND_PATH, WebhookServer

ORIGIN = "https://hooks.example.com"
ACCOUNT = "AC" + "1" * 32
OTHER_ACCOUNT = "AC" + "2" * 32
STRANGE_ACCOUNT = "AC" + "3" * 32
TOKEN = "newest"
OLDER_TOKEN = "older"
OTHER_TOKEN = "other"
ACCOUNTS = {ACCOUNT: [TOKEN, OLDER_TOKEN], OTHER_ACCOUNT: [OTHER_TOKEN]}
SID = "SM" + "0123456789abcdef" * 2
CUSTOMER = "whatsapp:+447700900001"
BUSINESS = "whatsapp:+447700900100"

Fields = Sequence[tuple[str, str]]

MESSAGE: Fields = (
    ("SmsMessageSid", SID),
    ("NumMedia", "0"),
    ("ProfileName", "Lee"),
    ("MessageType", "text"),
    ("SmsSid", SID),
    ("WaId", "447700900001"),
    ("SmsStatus", "received"),
    ("Body", "hello"),
    ("To", BUSINESS),
    ("NumSegments", "1"),
    ("MessageSid", SID),
    ("AccountSid", ACCOUNT),
    ("From", CUSTOMER),
    ("ApiVersion", "2010-04-01"),
)
REPORT: Fields = (
    ("MessageSid", SID),
    ("MessageStatus", "delivered"),
    ("SmsStatus", "delivered"),
    ("AccountSid", ACCOUNT),
    ("From", BUSINESS),
    ("To", CUSTOMER),
)


def changed(fields: Fields, **changes: str | None) -> list[tuple[str, str]]:
    """With other values, at the end where the name is new; None takes a name out."""
    merged: dict[str, str | None] = {**dict(fields), **changes}
    return [(name, value) for name, value in merged.items() if value is not None]


def signature(
    fields: Fields, *, target: str = INBOUND_PATH, token: str = TOKEN, origin: str = ORIGIN
) -> str:
    signed: str = RequestValidator(token).compute_signature(origin + target, MultiDict(fields))
    return signed


def post(
    body: bytes = b"",
    *,
    target: str = INBOUND_PATH,
    signed: str | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Iterable[bytes] = (),
    close: bool = False,
) -> bytes:
    """The bytes of a request. `headers` replace the usual ones, empty ones are left out; `extra`
    are header lines as they are."""
    usual = {
        "Host": "hooks.example.com",
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "Content-Length": str(len(body)),
        "X-Twilio-Signature": signed or "",
        "Connection": "close" if close else "",
    }
    lines = [f"POST {target} HTTP/1.1".encode()]
    lines += [f"{k}: {v}".encode() for k, v in (usual | dict(headers or {})).items() if v]
    return b"\r\n".join([*lines, *extra, b"", b""]) + body


def signed_post(fields: Fields, *, target: str = INBOUND_PATH, **changes: Any) -> bytes:
    signed = signature(fields, target=target)
    return post(urlencode(fields).encode(), target=target, signed=signed, **changes)


# Answered with 404.
STRAY = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def read_answer(reader: asyncio.StreamReader, *, to_head: bool = False) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    length = 0 if to_head else int(headers.get("Content-Length", "0"))
    return Answer(int(lines[0].split(" ")[1]), headers, await reader.readexactly(length))


@dataclass
class Accepting:
    """Remembers messages. `failure` is raised, and `gate` waited for, before one counts."""

    messages: list[InboundMessage] = field(default_factory=list)
    failure: Exception | None = None
    gate: asyncio.Event | None = None
    started: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    finished: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __call__(self, message: InboundMessage) -> None:
        self.started.release()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.messages.append(message)
        self.finished.release()


@dataclass
class Tracking:
    reports: list[tuple[Params, Params]] = field(default_factory=list)
    failure: Exception | None = None

    async def __call__(self, params: Params, query: Params) -> None:
        if self.failure is not None:
            raise self.failure
        self.reports.append((params, query))


@dataclass
class Site:
    """A started server and what came out of it."""

    server: WebhookServer
    accept: Accepting
    track: Tracking
    telemetry: Recorder
    acks: list[float]
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.connections.append(writer)
        return reader, writer

    async def ask(self, request: bytes) -> Answer:
        """One request on a connection of its own."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            async with asyncio.timeout(10):
                return await read_answer(reader)
        finally:
            writer.close()

    async def raw(self, request: bytes, *, then_eof: bool = False) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.connect()
        writer.write(request)
        if then_eof:
            writer.write_eof()
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    @property
    def refusals(self) -> list[tuple[str, int, str]]:
        return [
            (e.endpoint, e.status, e.reason)
            for e in self.telemetry.events
            if isinstance(e, RequestRefused)
        ]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Site]:
    """`settings` replace the server's; nothing in them is slow unless a test wants it."""
    accept, track, telemetry = Accepting(), Tracking(), Recorder()
    acks: list[float] = []
    async with aiohttp.ClientSession() as session:
        channel = TwilioChannel(session, accounts=ACCOUNTS, public_url=ORIGIN)
        defaults: dict[str, Any] = {
            "channel": channel,
            "accept": accept,
            "track": track,
            "telemetry": telemetry,
            "observe_ack": acks.append,
            "host": "127.0.0.1",
            "port": 0,
            "max_inflight": 100,
            "header_timeout_seconds": 5,
            "body_timeout_seconds": 5,
        }
        server = WebhookServer(**(defaults | settings))
        await server.start()
        site = Site(server, accept, track, telemetry, acks)
        try:
            yield site
        finally:
            for writer in site.connections:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            await server.stop()
