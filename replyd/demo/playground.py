"""The parts of the demo: local AWS, doubles of Twilio and OpenAI, seeded conversations, and the
same process that `replyd serve` runs."""

import os
import secrets
import time
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from replyd import provision
from replyd.adapters import aws
from replyd.adapters.dynamodb import DynamoStore
from replyd.adapters.provisioning import open_provisioning
from replyd.adapters.sqs import SqsWakeups
from replyd.bootstrap.connections import store as open_store
from replyd.bootstrap.process import supervisor as open_supervisor
from replyd.demo import bakery, shop
from replyd.demo.local_aws import REGION, LocalAws
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.operator_client import OperatorClient
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.domain.tools import HAND_OVER
from replyd.ports import Telemetry
from replyd.runtime.supervisor import Supervisor
from replyd.runtime.webhook_server import INBOUND_PATH
from replyd.settings import Settings

# What Twilio signs; the double delivers to the socket.
PUBLIC_URL = "https://replyd.example.com"
BUSINESS = "+447700900100"
BUSINESS_NAME = "Mill Lane Bakery"
_DOUBLES_KEY = "sk-demo"
# Where everything is, which only the demo knows. All else may be the settings of whoever tries it.
_OURS = ("server", "ops", "queues", "conversations", "delivery", "twilio", "aws")
# How long before the demo's start the customers were written to.
_OPENED_MS = 25 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Person:
    """A customer of the demo. Numbers are from the range that is reserved for fiction."""

    address: str
    name: str
    opening: str

    @property
    def key(self) -> ConversationKey:
        return ConversationKey(self.address, f"c-{self.name.lower()}")


PEOPLE = (
    Person("+447700900001", "Lee", "Hi Lee, your loaf is ready to collect. Any questions?"),
    Person("+447700900002", "Ana", "Hello Ana, thanks for your order at the Mill Lane Bakery!"),
    Person("US.MILLLANE8F3K2", "Maya", "Hi Maya, we saved you a sourdough. Shall we keep it?"),
)


@dataclass(frozen=True, slots=True)
class Playground:
    settings: Settings
    supervisor: Supervisor
    twilio: TwilioDouble
    store: DynamoStore
    handoffs: SqsWakeups
    operators: OperatorClient
    model: str
    opened_at: int


@asynccontextmanager
async def playground(
    *,
    quiet_seconds: float,
    max_wait_seconds: float,
    sinks: Sequence[Telemetry] = (),
    yours: Settings | None = None,
) -> AsyncIterator[Playground]:
    """Everything but the page, ready to run. `yours`: settings to try; the AI and its tools are
    theirs then, and not the bakery's. Raises ConfigError or DependencyDown."""
    given = _given(yours)
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalAws())
        _use(local)
        async with open_provisioning() as provisioning:
            wanted = Settings().conversations
            report = await provision.init(provisioning, wanted, provision.Names())
        made = tomllib.loads(report.toml)
        twilio = await stack.enter_async_context(
            TwilioDouble(business=BUSINESS, webhook_url=PUBLIC_URL + INBOUND_PATH)
        )
        window = {"quiet_seconds": quiet_seconds, "max_wait_seconds": max_wait_seconds}
        settings = Settings.model_validate(
            given
            | {
                "server": {"host": "127.0.0.1", "port": 0, "public_url": PUBLIC_URL},
                "ops": {"port": 0, "token": secrets.token_urlsafe(32)},
                "queues": made["queues"] | {"wait_seconds": 1},
                "conversations": made["conversations"],
                "window": window | given.get("window", {}),
                "delivery": {"record": ["delivered", "read"]},
                "twilio": {
                    "base_url": twilio.base_url,
                    "media_urls": [twilio.media.cdn.base_url],
                    "accounts": {twilio.account_sid: [twilio.auth_token]},
                },
                "aws": {"region": REGION},
                "ai": given["ai"] | await _server(stack, given["ai"]),
            }
        )
        store = await stack.enter_async_context(open_store(settings))
        opened_at = round(time.time() * 1000) - _OPENED_MS
        for person in PEOPLE:
            await store.create(person.key, _record(person, opened_at) | _profile(person, settings))
        sqs = await stack.enter_async_context(aws.create_client("sqs"))
        handoffs = SqsWakeups(
            sqs, sqs, settings.queues.handoff_url, wait_seconds=1, visibility_seconds=30
        )
        supervisor = await stack.enter_async_context(open_supervisor(settings, sinks=sinks))
        asks_double = settings.ai.api_key.get_secret_value() == _DOUBLES_KEY
        model = "OpenAI double" if asks_double else settings.ai.model
        operators = await stack.enter_async_context(
            OperatorClient(lambda: supervisor.ops.port, settings.ops.token.get_secret_value())
        )
        yield Playground(settings, supervisor, twilio, store, handoffs, operators, model, opened_at)


def _use(local: LocalAws) -> None:
    """Point AWS's library at the local one, whatever the shell had set up."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(local.environ())


def _given(yours: Settings | None) -> dict[str, Any]:
    """What is set, by section; without settings to try, the bakery's AI and its tool."""
    if yours is not None:
        return {"ai": {}} | yours.model_dump(exclude_unset=True, exclude=set(_OURS))
    instructions = (
        f"You answer customers of {BUSINESS_NAME}, a small bakery, on WhatsApp: friendly, brief, "
        f"plain. What you know of it: {bakery.FACTS}"
    )
    return {
        "ai": {"instructions": instructions, "tools": ["order_status", HAND_OVER.name]},
        "tools": {"order_status": shop.ORDER_STATUS},
    }


async def _server(stack: AsyncExitStack, ai: Mapping[str, Any]) -> dict[str, Any]:
    """Who answers: a server or a key that is set, the real OpenAI when the shell has a key, else
    the double."""
    if ai.get("api_key") or ai.get("base_url"):
        return {}
    if key := os.environ.get("OPENAI_API_KEY"):
        return {"api_key": key, "base_url": os.environ.get("OPENAI_BASE_URL", "")}
    double = await stack.enter_async_context(_baker())
    return {"api_key": _DOUBLES_KEY, "base_url": double.api_url}


def _baker() -> OpenAIDouble:
    """The double as the bakery's assistant, which looks at files and calls tools."""
    double = OpenAIDouble(delay=0.8)

    def answer(text: str, told: Sequence[str] = ()) -> str:
        # The newest ones are this request's: it is answered as soon as it was read.
        came = min(bakery.files_in(text), len(double.files_seen))
        return bakery.reply(text, told, double.files_seen[len(double.files_seen) - came :])

    double.replies = double.tool_replies = answer
    double.tool_rule, double.asides = bakery.calls, bakery.aside
    return double


def _profile(person: Person, settings: Settings) -> dict[str, str]:
    """A profile that has the customer's name answers them."""
    name = person.name.lower()
    return {settings.ai.profile_attribute: name} if name in settings.ai.profiles else {}


def _record(person: Person, opened_at: int) -> dict[str, Any]:
    """As the engine that starts conversations writes it."""
    at = record.iso(opened_at)
    opening = {"role": "assistant", "content": person.opening, "timestamp": at}
    return {
        record.COMPANY_TEL: BUSINESS,
        record.THREAD_ID: "",
        record.HANDOFF: False,
        record.STATUS: "initial_message_sent",
        record.MESSAGES: [opening],
        record.CREATED_AT: at,
        record.UPDATED_AT: at,
        "customer_name": person.name,
    }
