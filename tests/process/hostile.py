"""A `replyd serve` under attack: what each kind of hostile request costs it, and whether it still
takes messages meanwhile.

`python -m tests.process.hostile --count 2000` prints the figures; a short run is a test.
"""

import argparse
import asyncio
import gzip
import itertools
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from replyd.demo.local_aws import LocalAws
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.callback import STATUS_PATH
from replyd.domain.messages import ConversationKey
from replyd.runtime.webhook_server import INBOUND_PATH
from tests.http.wire import MESSAGE, Fields, changed, chunked, post, signature
from tests.process.town import API_KEY, BUSINESS, WEBHOOK_URL, Process, Town, open_town
from tests.support.counting_proxy import CountingProxy
from tests.support.cpu import process_seconds

SETTINGS = {
    # No turn begins while it is measured.
    "REPLYD_WINDOW__QUIET_SECONDS": "300",
    "REPLYD_WINDOW__MAX_WAIT_SECONDS": "900",
    "REPLYD_WINDOW__MAX_MESSAGES": "100000",
    "REPLYD_OPS__TOKEN": "a-token-of-16-characters",
    "REPLYD_LOGGING__LEVEL": "INFO",
}
# More of each than `server.max_inflight` (200).
HELD_HEADERS, HELD_BODIES = 250, 250
AT_ONCE = 8
MEANWHILE = 20
# All kinds are measured so many times, beside a valid message each time, and the middle one counts:
# neither the garbage collector nor a machine that is slower for a while is what one kind costs.
PARTS = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SIDS = itertools.count(1)
# So many that no record grows large.
CUSTOMERS = 50


def bomb() -> bytes:
    """A few kB that are 1 GB when they are unpacked twice."""
    one = gzip.compress(bytes(10_000_000))
    packed = gzip.compress(one * 100)
    assert len(packed) < 64 * 1024
    return packed


def _key(number: int) -> ConversationKey:
    return ConversationKey(f"+4477009000{number % CUSTOMERS:02d}", "c-1")


def message(town: Town) -> bytes:
    number = next(_SIDS)
    sid = f"SM{number:032x}"
    fields = changed(
        MESSAGE,
        **dict.fromkeys(("MessageSid", "SmsSid", "SmsMessageSid"), sid),
        AccountSid=town.twilio.account_sid,
        From=f"whatsapp:{_key(number).partition}",
        To=f"whatsapp:{BUSINESS}",
    )
    return _signed(town, fields)


def _signed(town: Town, fields: Fields, target: str = INBOUND_PATH) -> bytes:
    signed = signature(fields, target=target, token=town.twilio.auth_token)
    return post(urlencode(fields).encode(), target=target, signed=signed, close=True)


def attacks(town: Town) -> Iterator[tuple[str, str, bytes, set[int]]]:
    """(name, which port, request, the statuses that may come); 0 is a closed connection."""
    account = ("AccountSid", town.twilio.account_sid)
    packed, text = bomb(), urlencode([account, ("Body", "x" * 60_000)]).encode()
    many = urlencode([account, *((f"F{n}", "x" * 250) for n in range(198))]).encode()
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    zipped = {"Content-Encoding": "gzip, gzip"}
    yield "no signature, 60 kB", "webhooks", post(text, close=True), {403}
    yield "bad signature, 60 kB", "webhooks", post(text, signed="x", close=True), {403}
    yield "bad signature, 199 fields", "webhooks", post(many, signed="x", close=True), {403}
    body = urlencode([account]).encode() + b"&a=b" * 10_000
    yield "10,000 fields", "webhooks", post(body, signed="x", close=True), {400}
    bombed = post(packed, signed="x", headers=zipped, close=True)
    yield "1 GB in a few kB", "webhooks", bombed, {403}
    headers = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    flood = post(signed="x", headers=headers, close=True) + chunked(b"x" * 200_000)
    yield "200 kB in chunks", "webhooks", flood, {413, 0}
    head = b"".join(b"X-%d: %b\r\n" % (n, b"x" * 8_000) for n in range(30))
    yield "240 kB of headers", "webhooks", b"POST / HTTP/1.1\r\n" + head, {400, 0}
    yield "no HTTP", "webhooks", b"\x16\x03\x01" + bytes(200) + b"\r\n\r\n", {400}
    yield "unknown path", "webhooks", b"GET /.env HTTP/1.0\r\n\r\n", {404}
    absurd = changed(MESSAGE, AccountSid=account[1], MessageSid="SM" + "0" * 10_000)
    yield "signed, no message", "webhooks", _signed(town, absurd), {400}
    odd = [account, ("MessageSid", "SM1"), ("MessageStatus", "x" * 10_000)]
    yield "signed, no report", "webhooks", _signed(town, odd, STATUS_PATH), {400}
    for path in ("/operator/conversations/+1/c/reply", "/livez"):
        name = f"operations port, 1 GB to {path.split('/')[1]}"
        yield name, "ops", post(packed, target=path, headers=zipped, close=True), {401, 405}
    yield "operations port, headers", "ops", get + head, {400, 0}
    yield "operations port, no HTTP", "ops", bytes(200) + b"\r\n\r\n", {400}


@dataclass
class Figures:
    """CPU in ms a request, of every part; memory in MB."""

    valid_ms: list[float] = field(default_factory=list)
    hostile_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    allowed: dict[str, set[int]] = field(default_factory=dict)
    rss_before: float = 0.0
    rss_peak: float = 0.0
    meanwhile: Counter[int] = field(default_factory=Counter)
    slowest_seconds: float = 0.0

    def to_valid(self, name: str) -> float:
        """What a request of that kind costs, as a multiple of a valid message."""
        parts = zip(self.hostile_ms[name], self.valid_ms, strict=True)
        return statistics.median(hostile / valid for hostile, valid in parts)

    def report(self) -> str:
        rows = [f"{'a valid message':34} {statistics.median(self.valid_ms):7.2f} ms"]
        rows += [
            f"{name:34} {statistics.median(ms):7.2f} ms  {self.to_valid(name):5.2f}  "
            f"{dict(self.statuses[name])}"
            for name, ms in self.hostile_ms.items()
        ]
        rows.append(f"memory {self.rss_before:.0f} MB before, {self.rss_peak:.0f} MB at most")
        rows.append(
            f"messages meanwhile: {dict(self.meanwhile)}, the slowest {self.slowest_seconds:.2f} s"
        )
        return "\n".join(rows)


class Measured:
    """What /proc tells of a process."""

    def __init__(self, process: Process) -> None:
        self._pid = process.process.pid
        self._proc = Path(f"/proc/{self._pid}")
        self.ports: Mapping[str, int] = {
            "webhooks": urlsplit(process.webhooks).port or 0,
            "ops": urlsplit(process.ops).port or 0,
        }

    async def cost_ms(self, which: str, requests: Sequence[bytes], statuses: Counter[int]) -> float:
        """The CPU time of each."""
        before = process_seconds(self._pid)
        await _all(self.ports[which], iter(requests), statuses)
        return (process_seconds(self._pid) - before) * 1000 / len(requests)

    def rss(self) -> float:
        return int((self._proc / "statm").read_text().split()[1]) * _PAGE / 1e6

    def peak(self) -> float:
        """The most since the start."""
        lines = dict(
            line.split(":", 1) for line in (self._proc / "status").read_text().splitlines()
        )
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6


async def ask(port: int, request: bytes) -> int:
    """The status of the answer; 0 where the connection ended without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def _all(port: int, requests: Iterator[bytes], figures: Counter[int]) -> None:
    async def some() -> None:
        for request in requests:
            figures[await ask(port, request)] += 1

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _without_end(port: int, request: bytes) -> None:
    while True:
        await ask(port, request)


@asynccontextmanager
async def _held(port: int) -> AsyncIterator[None]:
    """Connections that send nothing more: half of the headers, or a body without its end."""
    writers = []
    try:
        for number in range(HELD_HEADERS + HELD_BODIES):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            slow_body = number >= HELD_HEADERS
            writer.write(
                post(b"x" * 30_000, signed="x")[:-1] if slow_body else b"POST / HTTP/1.1\r\n"
            )
            writers.append(writer)
        yield
    finally:
        for writer in writers:
            writer.close()


async def campaign(town: Town, count: int) -> Figures:
    """`count` requests of each kind, at least `PARTS`."""
    await asyncio.gather(*(town.converse(_key(number)) for number in range(CUSTOMERS)))
    process = await town.serve(**SETTINGS)
    measured, figures = Measured(process), Figures()
    port = measured.ports["webhooks"]
    answers: Counter[int] = Counter()
    await _all(port, (message(town) for _ in range(20)), answers)
    figures.rss_before = measured.rss()
    kinds = list(attacks(town))
    figures.allowed = {name: allowed for name, _, _, allowed in kinds}
    for _ in range(PARTS):
        valid = [message(town) for _ in range(count // PARTS)]
        figures.valid_ms.append(await measured.cost_ms("webhooks", valid, answers))
        for name, which, request, _ in kinds:
            same, statuses = [request] * len(valid), figures.statuses[name]
            figures.hostile_ms[name].append(await measured.cost_ms(which, same, statuses))
    assert set(answers) == {200}
    async with _held(port):
        # And all of them at once, as long as it takes to write some messages.
        requests = [(measured.ports[which], request) for _, which, request, _ in kinds]
        storm = [asyncio.create_task(_without_end(*each)) for each in requests]
        for _ in range(MEANWHILE):
            started = time.monotonic()
            figures.meanwhile[await ask(port, message(town))] += 1
            figures.slowest_seconds = max(figures.slowest_seconds, time.monotonic() - started)
        assert not any(task.done() for task in storm)
        for task in storm:
            task.cancel()
        await asyncio.gather(*storm, return_exceptions=True)
    figures.rss_peak = measured.peak()
    status, _ = await process.get("/livez")
    assert status == 200
    assert "bug" not in {line.get("event") for line in process.lines}
    return figures


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="requests of each kind")
    count = parser.parse_args().count
    async with LocalAws() as aws:
        twilio = TwilioDouble(business=BUSINESS, webhook_url=WEBHOOK_URL)
        openai = OpenAIDouble(api_key=API_KEY)
        proxy = CountingProxy(aws.endpoint_url)
        async with open_town(aws.endpoint_url, proxy, twilio, openai) as town:
            print((await campaign(town, count)).report())  # noqa: T201 - a command prints


if __name__ == "__main__":
    asyncio.run(_main())
