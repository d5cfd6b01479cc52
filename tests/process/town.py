"""What a `replyd serve` of the tests lives in: ministack, the doubles, and processes to start."""

import asyncio
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from replyd.adapters import aws
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.provisioning import Provisioning
from replyd.adapters.sqs import SqsWakeups
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.provision import Names, init
from replyd.settings import Conversations
from tests.support import forked
from tests.support.counting_proxy import CountingProxy

PUBLIC_URL = "https://hooks.example.com"
WEBHOOK_URL = f"{PUBLIC_URL}/webhooks/twilio/whatsapp"
CUSTOMER = "+447700900001"
BUSINESS = "+447700900100"
API_KEY = "sk-secret-key"
KEY = ConversationKey(CUSTOMER, "c-1")
SECONDS = 30.0
KEPT = ("PATH", "HOME", "PYTHONPATH", "LANG", "SSL_CERT_FILE")
COMMAND = (sys.executable, "-m", "replyd")


@dataclass
class Process:
    """A running `replyd serve`. `lines` are its log so far."""

    process: asyncio.subprocess.Process | forked.Forked
    webhooks: str = ""
    ops: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    reader: "asyncio.Task[None] | None" = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            text = raw.decode()
            self.raw.append(text)
            try:
                line = json.loads(text)
            except ValueError:
                continue
            self.lines.append(line)
            if line.get("event") == "ready":
                self.webhooks = f"http://127.0.0.1:{line['port']}" if "port" in line else ""
                self.ops = f"http://127.0.0.1:{line['ops_port']}"
                self.ready.set()

    async def ended(self) -> int:
        async with asyncio.timeout(SECONDS):
            code = await self.process.wait()
            if self.reader is not None:
                await self.reader
            return code

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.ops + path) as answer:
            return answer.status, await answer.text()


class Town:
    """What replyd lives in: a table, queues, Twilio, OpenAI, and a count of AWS requests.

    `sqs` and `dynamodb` are clients that the proxy does not count."""

    def __init__(
        self,
        proxy: CountingProxy,
        twilio: TwilioDouble,
        openai: OpenAIDouble,
        sqs: Any,
        dynamodb: Any,
        *,
        forks: bool,
    ) -> None:
        self._forks = forks
        self.proxy = proxy
        self.twilio = twilio
        self.openai = openai
        self.sqs = sqs
        self.dynamodb = dynamodb
        self.settings: dict[str, Any] = {}
        self.processes: list[Process] = []
        self.replies_url = ""
        self.handoff_url = ""
        self.store: DynamoStore
        self.handoffs: SqsWakeups

    async def provide(self) -> None:
        """Make a table and queues of its own."""
        names = Names.with_prefix(f"p{uuid.uuid4().hex[:10]}")
        report = await init(Provisioning(self.sqs, self.dynamodb), Conversations(), names)
        # Queue URLs name ministack's port; requests of replyd are to go through the proxy.
        toml = re.sub(r"http://[^/]*:\d+", self.proxy.base_url, report.toml)
        self.settings = tomllib.loads(toml)
        queues = tomllib.loads(report.toml)["queues"]
        self.replies_url, self.handoff_url = queues["replies_url"], queues["handoff_url"]
        self.store = DynamoStore(self.dynamodb, TableLayout(names.table))
        self.handoffs = SqsWakeups(
            self.sqs, self.sqs, self.handoff_url, wait_seconds=1, visibility_seconds=30
        )

    def environ(self, **changes: str) -> dict[str, str]:
        """The environment of a `replyd serve` here; an empty value takes a variable away."""
        kept = {k: v for k, v in os.environ.items() if k in KEPT}
        environ = kept | {
            "AWS_ENDPOINT_URL": self.proxy.base_url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_BASE_URL": self.openai.api_url,
            "TWILIO_ACCOUNT_SID": self.twilio.account_sid,
            "TWILIO_AUTH_TOKEN": self.twilio.auth_token,
            "REPLYD_TWILIO__BASE_URL": self.twilio.base_url,
            "REPLYD_SERVER__HOST": "127.0.0.1",
            "REPLYD_SERVER__PORT": "0",
            "REPLYD_SERVER__PUBLIC_URL": PUBLIC_URL,
            "REPLYD_OPS__PORT": "0",
            "REPLYD_QUEUES__REPLIES_URL": self.settings["queues"]["replies_url"],
            "REPLYD_QUEUES__HANDOFF_URL": self.settings["queues"]["handoff_url"],
            "REPLYD_QUEUES__WAIT_SECONDS": "1",
            "REPLYD_CONVERSATIONS__TABLE": self.settings["conversations"]["table"],
            "REPLYD_WINDOW__QUIET_SECONDS": "2",
            "REPLYD_LOGGING__LEVEL": "DEBUG",
        }
        return {k: v for k, v in (environ | changes).items() if v}

    async def run(self, *arguments: str, **changes: str) -> tuple[int, str, str]:
        """A command to its end: exit code, standard output, standard error."""
        environ = self.environ(**changes)
        process: asyncio.subprocess.Process | forked.Forked
        if self._forks:
            process = await forked.start(*arguments, environ=environ, stdout=True)
        else:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *arguments, env=environ, stdout=pipe, stderr=pipe
            )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def spawn(self, *command: str, **changes: str) -> Process:
        """Start one, without waiting. `command`: another way to start it. It inherits the file
        descriptor that the variable FD names."""
        environ = self.environ(**changes)
        if self._forks and not command:
            process = Process(await forked.start("serve", environ=environ))
        else:
            inherited = [int(changes["FD"])] if "FD" in changes else []
            process = Process(
                await asyncio.create_subprocess_exec(
                    *(command or (*COMMAND, "serve")),
                    env=environ,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=inherited,
                )
            )
        process.reader = asyncio.create_task(process.read())
        self.processes.append(process)
        return process

    async def serve(self, *command: str, **changes: str) -> Process:
        """Start one and wait until it is ready; Twilio delivers to the newest that listens."""
        process = await self.spawn(*command, **changes)
        async with asyncio.timeout(SECONDS):
            await process.ready.wait()
        if process.webhooks:
            self.twilio.deliver_to = process.webhooks
        return process

    async def converse(self, key: ConversationKey = KEY, **attributes: Any) -> None:
        known = {record.COMPANY_TEL: BUSINESS, record.CREATED_AT: "2026-11-22T10:00:00.000Z"}
        await self.store.create(key, known | attributes)

    async def item(self, key: ConversationKey = KEY) -> dict[str, Any]:
        return await self.store.read(key) or {}

    async def settled(self, messages: int, key: ConversationKey = KEY) -> dict[str, Any]:
        """The record, once its history has this many entries and nothing is pending."""
        async with asyncio.timeout(SECONDS):
            while True:
                item = await self.item(key)
                if len(item.get(record.MESSAGES, [])) >= messages and not item[record.PENDING]:
                    return item
                await asyncio.sleep(0.05)

    async def count(self) -> None:
        """From now on, once a process has stored where CATCH-UP is to begin."""
        async with asyncio.timeout(SECONDS):
            while await self.store.get_side(f"catchup#{self.twilio.account_sid}") is None:
                await asyncio.sleep(0.05)
        self.proxy.counts.clear()

    async def counted(self) -> dict[str, int]:
        """Requests to AWS, receives left out, once a turn has deleted its wake-up."""
        async with asyncio.timeout(SECONDS):
            while not self.proxy.counts["DeleteMessageBatch"]:
                await asyncio.sleep(0.05)
        return {k: v for k, v in self.proxy.counts.items() if k != "ReceiveMessage"}

    async def logged(self, process: Process, event: str, **fields: Any) -> dict[str, Any]:
        """Waits for a log line of this event with these fields."""
        async with asyncio.timeout(SECONDS):
            while True:
                for line in process.lines:
                    if line.get("event") == event and fields.items() <= line.items():
                        return line
                await asyncio.sleep(0.05)

    async def handed_over(self, count: int) -> list[dict[str, Any]]:
        bodies: list[dict[str, Any]] = []
        async with asyncio.timeout(SECONDS):
            while len(bodies) < count:
                bodies += [json.loads(m.body) for m in await self.handoffs.receive()]
        return bodies


@asynccontextmanager
async def open_town(
    ministack: str,
    proxy: CountingProxy,
    twilio: TwilioDouble,
    openai: OpenAIDouble,
    *,
    forks: bool = False,
) -> AsyncIterator[Town]:
    """Starts all three, and kills at the end what still runs. `ministack` is its URL. `forks`: its
    processes are made by tests/support/forked.py, but for those whose command is given."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(proxy)
        await stack.enter_async_context(twilio)
        await stack.enter_async_context(openai)
        sqs = await stack.enter_async_context(_client("sqs", ministack))
        dynamodb = await stack.enter_async_context(_client("dynamodb", ministack))
        town = Town(proxy, twilio, openai, sqs, dynamodb, forks=forks)
        await town.provide()
        try:
            yield town
        finally:
            for process in town.processes:
                if process.process.returncode is None:
                    process.process.kill()
                await process.ended()


@asynccontextmanager
async def _client(service: str, endpoint_url: str) -> AsyncIterator[Any]:
    variables = {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        async with aws.create_client(service, region="us-east-1") as client:
            yield client
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
