"""What everybody does who erases at a vendor. Real sockets here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from openai import AsyncOpenAI

from replyd.adapters.memory.erasure import MemoryMessages, MemoryThreads
from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.erasure import OpenAIThreads
from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.erasure import TwilioEraser
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import OutboundPart
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Kept, KeptMessage, MessageEraser, ThreadEraser
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER

OTHER_ACCOUNT = "AC" + "9" * 32
THEIRS = f"whatsapp:{CUSTOMER}"
Failures = list[type[DependencyError]]
KINDS: Failures = [Temporary, Busy, DependencyDown, Permanent]


async def no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


# --- messages ------------------------------------------------------------------------------------


@dataclass
class Memory:
    port: MemoryMessages = field(default_factory=MemoryMessages)
    count: int = 0

    async def exchange(self, customer: str = THEIRS) -> tuple[str, str]:
        """A message from the customer with a file, and one to them."""
        self.count += 2
        sids = f"MM{self.count:032x}", f"SM{self.count + 1:032x}"
        messages = self.port.messages.setdefault(customer, [])
        messages += [
            KeptMessage(ACCOUNT, sids[0], inbound=True, files=1),
            KeptMessage(ACCOUNT, sids[1], inbound=False),
        ]
        return sids

    def hold(self, sid: str) -> None:
        self.port.in_progress.add(sid)

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("twilio", "refused"))

    def recover(self) -> None:
        self.port.failures.clear()


REFUSALS: dict[type[DependencyError], tuple[int, int]] = {
    Temporary: (503, 20503),
    Busy: (429, 20429),
    DependencyDown: (401, 20003),
    Permanent: (400, 20001),
}


@dataclass
class Twilio:
    port: TwilioEraser
    double: TwilioDouble
    channel: aiohttp.ClientSession

    async def exchange(self, customer: str = THEIRS) -> tuple[str, str]:
        media = [(self.double.add_media("image/png", b"x"), "image/png")]
        await self.double.receive(customer, "hi", media=media)
        part = OutboundPart(ACCOUNT, f"whatsapp:{BUSINESS}", customer, "hello")
        resource = self.double._accept({"From": part.sender, "To": customer, "Body": "hello"})
        await self.double.settle()
        return self.double.transcript[-2].sid, str(resource["sid"])

    def hold(self, sid: str) -> None:
        self.double._resources[sid]["status"] = "sending"

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_list_next(3, status=status, code=code)

    def recover(self) -> None:
        self.double.clear_faults()


Office = Memory | Twilio


@pytest.fixture(params=["memory", "twilio"])
async def office(request: pytest.FixtureRequest) -> AsyncIterator[Office]:
    if request.param == "memory":
        yield Memory()
        return
    async with (
        TwilioDouble(account_sid=ACCOUNT, business=BUSINESS, callback_delays=(0, 0)) as double,
        aiohttp.ClientSession() as session,
    ):
        double.deliver_to = double.webhook_url = "http://127.0.0.1:9/none"
        double.retries = 0
        accounts = Accounts({ACCOUNT: [double.auth_token], OTHER_ACCOUNT: ["wrong"]})
        eraser = TwilioEraser(session, accounts=accounts, base_url=double.base_url, sleep=no_time)
        yield Twilio(eraser, double, session)


async def test_what_was_exchanged_with_a_customer_and_nobody_else(office: Office) -> None:
    port: MessageEraser = office.port
    theirs, ours = await office.exchange()
    await office.exchange("whatsapp:+447700900002")
    found = await port.exchanged_with(ACCOUNT, THEIRS)
    assert found.whole
    assert {(m.sid, m.inbound, m.files) for m in found.messages} == {
        (theirs, True, 1),
        (ours, False, 0),
    }
    assert (await port.exchanged_with(ACCOUNT, CUSTOMER)).messages == ()


async def test_an_erased_message_is_gone(office: Office) -> None:
    port: MessageEraser = office.port
    theirs, ours = await office.exchange()
    assert await port.erase(ACCOUNT, theirs) == "erased"
    assert await port.erase(ACCOUNT, theirs) == "gone"
    (left,) = (await port.exchanged_with(ACCOUNT, THEIRS)).messages
    assert left.sid == ours


async def test_a_message_on_its_way_stays(office: Office) -> None:
    _, ours = await office.exchange()
    office.hold(ours)
    assert await office.port.erase(ACCOUNT, ours) == "not_yet"
    assert len((await office.port.exchanged_with(ACCOUNT, THEIRS)).messages) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_erases_nothing(office: Office, kind: type[DependencyError]) -> None:
    theirs, _ = await office.exchange()
    office.refuse(kind)
    with pytest.raises(kind) as caught:
        await office.port.erase(ACCOUNT, theirs)
    assert type(caught.value) is kind
    office.recover()
    office.refuse(kind)
    with pytest.raises(kind):
        await office.port.exchanged_with(ACCOUNT, THEIRS)
    office.recover()
    assert len((await office.port.exchanged_with(ACCOUNT, THEIRS)).messages) == 2


# --- threads -------------------------------------------------------------------------------------


@dataclass
class MemoryVendor:
    port: MemoryThreads = field(default_factory=MemoryThreads)

    async def chain(self, count: int) -> str:
        kept = [Kept("response", f"resp_{n}") for n in range(count)]
        self.port.threads[kept[-1].id] = kept
        return kept[-1].id

    async def conversation(self) -> str:
        self.port.threads["conv_1"] = [
            Kept("item", "msg_1", "conv_1"),
            Kept("item", "msg_2", "conv_1"),
            Kept("conversation", "conv_1"),
        ]
        return "conv_1"

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("openai", "refused"))

    def holds_anything(self) -> bool:
        return any(self.port.threads.values())


@dataclass
class OpenAIVendor:
    port: OpenAIThreads
    client: AsyncOpenAI
    double: OpenAIDouble

    async def chain(self, count: int) -> str:
        newest = ""
        for _ in range(count):
            more = {"previous_response_id": newest} if newest else {}
            made = await self.client.responses.create(model="m", input="hi", **more)  # type: ignore[call-overload]
            newest = made.id
        return newest

    async def conversation(self) -> str:
        made = await self.client.conversations.create()
        await self.client.responses.create(model="m", input="hi", conversation=made.id)
        return made.id

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = {
            Temporary: (500, "server_error"),
            Busy: (429, "rate_limit_exceeded"),
            DependencyDown: (401, "invalid_api_key"),
            Permanent: (400, "bad"),
        }[kind]
        self.double.fail_next(status=status, code=code)

    def holds_anything(self) -> bool:
        conversations = self.double.conversations
        return bool(conversations._conversations or conversations.orphans)


Vendor = MemoryVendor | OpenAIVendor


@pytest.fixture(params=["memory", "openai"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield MemoryVendor()
        return
    async with OpenAIDouble(api_key="sk") as double:
        client = create_client("sk", base_url=double.api_url)
        yield OpenAIVendor(OpenAIThreads(client, sleep=no_time), client, double)
        await client.close()


async def erase_all(port: ThreadEraser, thread_id: str) -> None:
    for what in await port.kept(thread_id):
        assert await port.erase(what)
        assert not await port.erase(what)


async def test_a_chain_goes_from_its_oldest_end(vendor: Vendor) -> None:
    thread_id = await vendor.chain(4)
    kept = await vendor.port.kept(thread_id)
    assert (len(kept), kept[-1]) == (4, Kept("response", thread_id))
    assert await vendor.port.erase(kept[0])
    # Cut off here, the next run finds the rest.
    assert list(await vendor.port.kept(thread_id)) == list(kept[1:])
    await erase_all(vendor.port, thread_id)
    assert not await vendor.port.kept(thread_id)


async def test_a_conversation_goes_after_its_items(vendor: Vendor) -> None:
    thread_id = await vendor.conversation()
    kept = await vendor.port.kept(thread_id)
    assert [what.kind for what in kept] == ["item", "item", "conversation"]
    await erase_all(vendor.port, thread_id)
    assert not vendor.holds_anything()


async def test_a_thread_that_nobody_knows_has_nothing(vendor: Vendor) -> None:
    for thread_id in ("resp_0", "conv_0", "thread_0", "other", ""):
        assert not await vendor.port.kept(thread_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_thread_that_cannot_be_erased_stays(
    vendor: Vendor, kind: type[DependencyError]
) -> None:
    thread_id = await vendor.chain(2)
    kept = await vendor.port.kept(thread_id)
    vendor.refuse(kind)
    with pytest.raises(kind) as caught:
        await vendor.port.erase(kept[0])
    assert type(caught.value) is kind
    vendor.refuse(kind)
    with pytest.raises(kind):
        await vendor.port.kept(thread_id)
    assert list(await vendor.port.kept(thread_id)) == list(kept)
