"""What every channel does. Real clocks and sockets here."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

import aiohttp
import pytest

from replyd.adapters.memory import MemoryChannel
from replyd.adapters.twilio import TwilioChannel
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import OutboundPart, SentMessage
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Channel
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER

SENDER, RECIPIENT = f"whatsapp:{BUSINESS}", f"whatsapp:{CUSTOMER}"


@dataclass
class Memory:
    """The twin, and what the vendor can be made to do."""

    port: MemoryChannel = field(default_factory=lambda: MemoryChannel(seconds=0))

    def lose(self, *, accept: bool) -> None:
        self.port.failures.append(Ambiguous("twilio", "no answer"))
        self.port.arrivals.append(0 if accept else None)

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("twilio", "refused"))

    def refuse_list(self, kind: type[DependencyError]) -> None:
        self.port.list_failures.append(kind("twilio", "refused"))

    def recover(self) -> None:
        self.port.list_failures.clear()

    def date_back(self, sid: str, ms: int) -> None:
        place = int(sid.removeprefix("SM")) - 1
        self.port._times[place] = ms


# What Twilio says for each kind of error: status and code.
REFUSALS: dict[type[DependencyError], tuple[int, int]] = {
    Temporary: (400, 63012),
    Busy: (429, 20429),
    DependencyDown: (401, 20003),
    Permanent: (400, 63016),
}


@dataclass
class Real:
    """The adapter, and the double behind it."""

    port: TwilioChannel
    double: TwilioDouble

    def lose(self, *, accept: bool) -> None:
        self.double.drop_next(accept=accept)

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_next(status=status, code=code)

    def refuse_list(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_list_next(3, status=status, code=code)

    def recover(self) -> None:
        self.double.clear_faults()

    def date_back(self, sid: str, ms: int) -> None:
        created = datetime.fromtimestamp(ms / 1000, UTC)
        self.double._resources[sid]["date_created"] = format_datetime(created)


Vendor = Memory | Real


@pytest.fixture(params=["memory", "twilio"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    async with (
        TwilioDouble(account_sid=ACCOUNT, business=BUSINESS, callback_delays=(0, 0)) as double,
        aiohttp.ClientSession() as session,
    ):
        double.senders.add("+447700900101")
        accounts = {ACCOUNT: [double.auth_token]}
        adapter = TwilioChannel(
            session,
            accounts=accounts,
            base_url=double.base_url,
            sleep=lambda _seconds: asyncio.sleep(0),
        )
        yield Real(adapter, double)


@pytest.fixture
def channel(vendor: Vendor) -> Channel:
    return vendor.port


def part(text: str = "hello ☺", **changes: str) -> OutboundPart:
    fields = {"account_sid": ACCOUNT, "sender": SENDER, "recipient": RECIPIENT}
    return OutboundPart(text=text, **(fields | changes))


async def listed(channel: Channel, since: int = 0, **changes: str) -> list[SentMessage]:
    addresses = {"sender": SENDER, "recipient": RECIPIENT} | changes
    return list(await channel.sent_since(ACCOUNT, since=since, **addresses))


async def texts(channel: Channel, since: int = 0, **changes: str) -> list[str]:
    return [message.text for message in await listed(channel, since, **changes)]


async def test_what_is_sent_is_listed_with_its_sid_and_text(channel: Channel) -> None:
    assert await listed(channel) == []
    sid = await channel.send(part("Grüße + 1 & more ☺\n漢字"))
    (message,) = await listed(channel)
    assert (message.sid, message.text) == (sid, "Grüße + 1 & more ☺\n漢字")
    assert len(sid) == 34
    assert message.at % 1000 == 0


async def test_a_send_whose_answer_was_lost_is_listed(vendor: Vendor, channel: Channel) -> None:
    vendor.lose(accept=True)
    with pytest.raises(Ambiguous):
        await channel.send(part("perhaps"))
    assert await texts(channel) == ["perhaps"]


async def test_a_send_that_never_arrived_is_not(vendor: Vendor, channel: Channel) -> None:
    vendor.lose(accept=False)
    with pytest.raises(Ambiguous):
        await channel.send(part("never"))
    await channel.send(part("certainly"))
    assert await texts(channel) == ["certainly"]


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_is_refused_is_not_listed(
    vendor: Vendor, channel: Channel, kind: type[DependencyError]
) -> None:
    vendor.refuse(kind)
    with pytest.raises(DependencyError) as caught:
        await channel.send(part())
    assert type(caught.value) is kind
    assert await listed(channel) == []


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_list_that_is_refused_can_be_read_again(
    vendor: Vendor, channel: Channel, kind: type[DependencyError]
) -> None:
    await channel.send(part())
    vendor.refuse_list(kind)
    with pytest.raises(DependencyError) as caught:
        await listed(channel)
    assert type(caught.value) is kind
    vendor.recover()
    assert len(await listed(channel)) == 1


async def test_each_pair_of_addresses_has_a_list_of_its_own(channel: Channel) -> None:
    other_sender, other_recipient = "whatsapp:+447700900101", "whatsapp:US.ABC123"
    await channel.send(part("ours"))
    await channel.send(part("from another", sender=other_sender))
    await channel.send(part("to another", recipient=other_recipient))
    assert await texts(channel) == ["ours"]
    assert await texts(channel, sender=other_sender) == ["from another"]
    assert await texts(channel, recipient=other_recipient) == ["to another"]
    assert await texts(channel, sender=RECIPIENT, recipient=SENDER) == []


async def test_the_same_text_twice_is_listed_twice(channel: Channel) -> None:
    sids = [await channel.send(part("again")) for _ in range(2)]
    assert [message.sid for message in await listed(channel)] == sids


async def test_the_oldest_comes_first(vendor: Vendor, channel: Channel) -> None:
    sids = [await channel.send(part(str(number))) for number in range(4)]
    (first, *_) = await listed(channel)
    for earlier, sid in zip(itertools.count(-5), sids[:2], strict=False):
        vendor.date_back(sid, first.at + earlier * 1000)
    assert await texts(channel) == ["0", "1", "2", "3"]


async def test_what_is_not_older_is_always_there(vendor: Vendor, channel: Channel) -> None:
    old, young = [await channel.send(part(text)) for text in ("old", "young")]
    now = (await listed(channel))[-1].at
    vendor.date_back(old, now - 60_000)
    vendor.date_back(young, now)
    for since in (now - 60_000, now - 59_001):
        assert await texts(channel, since) == ["old", "young"]
    for since in (now - 1, now, now + 999):
        assert (await texts(channel, since))[-1] == "young"


async def test_a_message_may_be_listed_while_it_is_on_its_way(channel: Channel) -> None:
    """Whatever the state: nothing is filtered by the day on which it was sent."""
    for number in range(3):
        await channel.send(part(str(number)))
        assert len(await listed(channel)) == number + 1


async def test_an_account_that_nobody_knows(channel: Channel) -> None:
    assert channel.knows_account(ACCOUNT)
    assert not channel.knows_account("AC" + "9" * 32)


def test_the_twin_can_accept_a_part_after_its_error() -> None:
    async def late() -> None:
        channel = MemoryChannel(failures=[Ambiguous("twilio", "no answer")], arrivals=[30])
        with pytest.raises(Ambiguous):
            await channel.send(part("late"))
        await asyncio.sleep(29)
        assert await listed(channel) == []
        await asyncio.sleep(1)
        assert await texts(channel) == ["late"]
        (first,) = await listed(channel)
        await asyncio.sleep(1)
        assert await channel.send(part("after")) != first.sid
        assert await texts(channel, first.at + 1000) == ["after"]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(late())
