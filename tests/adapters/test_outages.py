"""What the real adapters raise in an outage is what `tests/outages` raises in their place, and no
outage leaves anything behind in them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from replyd.adapters import aws
from replyd.adapters.dynamodb import DynamoStore, TableLayout
from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.responses import OpenAIResponses
from replyd.adapters.secretsmanager import SecretsManager
from replyd.adapters.sqs import SqsWakeups
from replyd.adapters.twilio import TwilioChannel
from replyd.domain.messages import OutboundPart
from replyd.errors import DependencyError, Temporary
from replyd.ports import ModelRequest
from tests.outages.faults import ACCOUNT, AWS, FAULTS, Fault, raised
from tests.support.fault_proxy import DEPENDENCIES, Dependency, FaultProxy, Mode

TIMEOUT = 0.3
MODES: dict[Fault, Mode] = {"error": "failing", "dropped": "slow", "throttled": "throttled"}
PART = OutboundPart(ACCOUNT, "whatsapp:+447700900100", "whatsapp:+447700900001", "hello")
REQUEST = ModelRequest(turn="hello", thread_id="", unseen=(), history=(), conversation_id="c-1")
Call = Callable[[], Awaitable[object]]
# Past the SDK go some requests of some; with Twilio's, none is made.
WAYS = [(dependency, False) for dependency in DEPENDENCIES]
WAYS += [(dependency, True) for dependency in ("dynamodb", "sqs", "openai")]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
async def nobody() -> AsyncIterator[str]:
    """Where connections are refused, and nobody else can listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@asynccontextmanager
async def calls(
    dependency: Dependency,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    timeout: float = TIMEOUT,
    *,
    direct: bool,
    **client: Any,
) -> AsyncIterator[dict[str, Call]]:
    """A call of each kind that the adapter makes. `direct`: past the SDK; `client`: how else AWS's
    is made."""
    async with AsyncExitStack() as stack:
        if dependency in AWS:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            made = await stack.enter_async_context(
                aws.create_client(
                    dependency, region="us-east-1", read_timeout=timeout, direct=direct, **client
                )
            )
        match dependency:
            case "dynamodb":
                store = DynamoStore(made, TableLayout("t"))
                yield {"call": lambda: store.get_side("x")}
            case "sqs":
                queue = SqsWakeups(made, made, f"{url}/q", wait_seconds=1, visibility_seconds=30)
                yield {"call": lambda: queue.send("{}", 0), "receive": queue.receive}
            case "secretsmanager":
                yield {"call": lambda: SecretsManager(made).get("x")}
            case "openai":
                sdk = create_client(
                    "key", base_url=f"{url}/v1", timeout_seconds=timeout, direct=direct
                )
                stack.push_async_callback(sdk.close)
                model = OpenAIResponses(sdk, model="m", instructions="", timeout_seconds=timeout)
                yield {"call": lambda: model.respond(REQUEST)}
            case "twilio":
                session = await stack.enter_async_context(aiohttp.ClientSession())
                channel = TwilioChannel(
                    session, accounts={ACCOUNT: ["t"]}, base_url=url, timeout_seconds=timeout
                )
                listed = (ACCOUNT, PART.sender, PART.recipient, 0)
                yield {
                    "call": lambda: channel.send(PART),
                    "read": lambda: channel.sent_since(*listed),
                }


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "late"])
@pytest.mark.parametrize(("dependency", "direct"), WAYS)
async def test_what_an_outage_raises(
    dependency: Dependency,
    direct: bool,
    fault: Fault,
    nobody: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FaultProxy(dependency, nobody) as proxy:
        if fault != "refused":
            await proxy.begin(MODES[fault], 0)
            # The half in which connections are refused is over.
            await proxy.settled()
        url = nobody if fault == "refused" else proxy.base_url
        # Where it is not the timeout that counts, a busy machine gets its time.
        timeout = TIMEOUT if fault == "dropped" else 10.0
        async with calls(dependency, url, monkeypatch, timeout, direct=direct) as made:
            for name, call in made.items():
                with pytest.raises(DependencyError) as caught:
                    await call()
                wanted = raised(dependency, fault, read=name == "read")
                assert type(caught.value) is type(wanted), name
                assert caught.value.dependency == dependency
        await proxy.end()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "sdk"])
async def test_requests_that_hang_leave_no_connection_taken(
    direct: bool, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    """Neither pool has a limit for those who wait: their own deadlines have to do."""
    async with FaultProxy("dynamodb", nobody) as proxy:
        await proxy.begin("slow", 0)
        async with calls(
            "dynamodb", proxy.base_url, monkeypatch, direct=direct, connections=2
        ) as made:

            async def webhook() -> None:
                with pytest.raises((TimeoutError, Temporary)):
                    async with asyncio.timeout(2 * TIMEOUT):
                        await made["call"]()

            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.gather(*(webhook() for _ in range(40)))
            # Not one after the other.
            assert loop.time() - began < 20 * TIMEOUT
            await proxy.end()
            await proxy.begin("throttled", 0)
            # Both connections can be had at once.
            for answer in await asyncio.gather(
                *(made["call"]() for _ in range(2)), return_exceptions=True
            ):
                assert type(answer) is type(raised("dynamodb", "throttled"))
        await proxy.end()
