"""What every channel does. Real clocks and sockets here."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest

from replyd.adapters.memory import MemoryChannel
from replyd.adapters.twilio import TwilioChannel, listing
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.catch_up import Inbox
from replyd.domain.messages import OutboundPart, SentMessage
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Channel
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, message

TEMPLATE = "HX" + "a" * 32
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

    async def customer_writes(self) -> str:
        return "SM" + "a" * 32

    def refuse_typing(self, kind: type[DependencyError]) -> None:
        self.port.typing_failures.append(kind("twilio", "refused"))

    def typed(self) -> list[str]:
        return self.port.typing

    def recover(self) -> None:
        self.port.list_failures.clear()

    def date_back(self, sid: str, ms: int) -> None:
        place = int(sid.removeprefix("SM")) - 1
        self.port._times[place] = ms

    async def write(self, body: str, ago: float = 0, **changes: str) -> str:
        number = len(self.port.inbox) + 1
        fields = {"sender": RECIPIENT, "recipient": SENDER} | changes
        written = message(number, body, **fields)
        self.port.receive(written, self.port.clock.now() - round(ago * 1000))
        return written.sid

    def now(self) -> int:
        return self.port.clock.now()

    def cut_off(self) -> None:
        """The list no longer reaches back to where it should."""
        self.port.inbox_from = self.port.clock.now() - 60_000


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

    async def customer_writes(self) -> str:
        await self.double.receive(CUSTOMER)
        return self.double.transcript[-1].sid

    def refuse_typing(self, kind: type[DependencyError]) -> None:
        status, _ = REFUSALS[kind]
        # The beta publishes no codes of its own.
        self.double.typing_faults.append(503 if kind is Temporary else status)

    def typed(self) -> list[str]:
        return self.double.typing

    def recover(self) -> None:
        self.double.clear_faults()

    async def write(self, body: str, ago: float = 0, **changes: str) -> str:
        sender = changes.get("sender", RECIPIENT)
        delivery = await self.double.receive(sender, body, to=changes.get("recipient"))
        self.double.date_back(delivery.sid, ago)
        return delivery.sid

    def now(self) -> int:
        return round(time.time() * 1000)

    def cut_off(self) -> None:
        """The list no longer reaches back to where it should."""
        listing.MAX_PAGES, listing.PAGE_SIZE = 1, 2

    def date_back(self, sid: str, ms: int) -> None:
        created = datetime.fromtimestamp(ms / 1000, UTC)
        self.double._resources[sid]["date_created"] = format_datetime(created)


Vendor = Memory | Real


@asynccontextmanager
async def twilio() -> AsyncIterator[Real]:
    async with (
        TwilioDouble(account_sid=ACCOUNT, business=BUSINESS, callback_delays=(0, 0)) as double,
        aiohttp.ClientSession() as session,
    ):
        double.senders.add("+447700900101")
        double.templates[TEMPLATE] = "Hello {{1}}, our answer: {{2}}"
        accounts = {ACCOUNT: [double.auth_token]}
        adapter = TwilioChannel(
            session,
            accounts=accounts,
            base_url=double.base_url,
            sleep=lambda _seconds: asyncio.sleep(0),
        )
        yield Real(adapter, double)


@pytest.fixture(params=["memory", "twilio"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    async with twilio() as real:
        yield real


@pytest.fixture
def channel(vendor: Vendor) -> Channel:
    return vendor.port


def part(text: str = "hello ☺", **changes: Any) -> OutboundPart:
    fields: dict[str, Any] = {"account_sid": ACCOUNT, "sender": SENDER, "recipient": RECIPIENT}
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


async def test_a_template_is_listed_with_words_of_its_own(channel: Channel) -> None:
    variables = {"1": "Lee", "2": "yes ☺"}
    sid = await channel.send(part("yes ☺", content_sid=TEMPLATE, content_variables=variables))
    (message,) = await listed(channel)
    assert message.sid == sid
    assert message.text != "yes ☺"
    assert all(value in message.text for value in variables.values())


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


STATES = {"queued", "accepted", "sending", "sent", "delivered"}


async def test_a_message_tells_how_far_it_has_come(channel: Channel) -> None:
    sid = await channel.send(part())
    assert await channel.state_of(ACCOUNT, sid) in STATES


async def test_a_message_that_nobody_sent_has_no_state(channel: Channel) -> None:
    with pytest.raises(Permanent):
        await channel.state_of(ACCOUNT, "SM" + "9" * 32)


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_state_that_is_refused_can_be_read_again(
    vendor: Vendor, channel: Channel, kind: type[DependencyError]
) -> None:
    sid = await channel.send(part())
    vendor.refuse_list(kind)
    with pytest.raises(DependencyError) as caught:
        await channel.state_of(ACCOUNT, sid)
    assert type(caught.value) is kind
    vendor.recover()
    assert await channel.state_of(ACCOUNT, sid) in STATES


async def test_typing_is_shown_on_a_customers_message(vendor: Vendor, channel: Channel) -> None:
    sid = await vendor.customer_writes()
    await channel.show_typing(sid, ACCOUNT)
    await channel.show_typing(sid, ACCOUNT)
    assert vendor.typed() == [sid, sid]
    assert await listed(channel) == []


@pytest.mark.parametrize("kind", REFUSALS)
async def test_typing_that_is_refused_is_not_shown(
    vendor: Vendor, channel: Channel, kind: type[DependencyError]
) -> None:
    sid = await vendor.customer_writes()
    vendor.refuse_typing(kind)
    with pytest.raises(DependencyError) as caught:
        await channel.show_typing(sid, ACCOUNT)
    assert type(caught.value) is kind
    assert vendor.typed() == []
    await channel.show_typing(sid, ACCOUNT)
    assert vendor.typed() == [sid]


async def test_no_typing_for_an_account_that_nobody_knows(vendor: Vendor, channel: Channel) -> None:
    sid = await vendor.customer_writes()
    with pytest.raises(Permanent):
        await channel.show_typing(sid, "AC" + "9" * 32)
    assert vendor.typed() == []


async def received(vendor: Vendor, ago: float, until_ago: float = -10) -> Inbox:
    """What customers sent from so many seconds ago on."""
    now = vendor.now()
    since, until = now - round(ago * 1000), now - round(until_ago * 1000)
    return await vendor.port.received_since(ACCOUNT, since, until)


async def test_what_customers_send_is_listed_oldest_first(vendor: Vendor, channel: Channel) -> None:
    later = await vendor.write("later", ago=100)
    earlier = await vendor.write("earlier", ago=200)
    await channel.send(part("ours"))
    inbox = await received(vendor, ago=300)
    assert [(e.message.sid, e.message.body) for e in inbox.messages] == [
        (earlier, "earlier"),
        (later, "later"),
    ]
    first = inbox.messages[0]
    assert (first.message.sender, first.message.recipient) == (RECIPIENT, SENDER)
    assert first.message.account_sid == ACCOUNT
    assert first.at % 1000 == 0
    assert abs(vendor.now() - first.at - 200_000) < 10_000
    assert inbox.unreadable == 0


async def test_what_came_before_or_after_is_not_listed(vendor: Vendor) -> None:
    for body, ago in (("before", 500), ("within", 300), ("after", 100)):
        await vendor.write(body, ago=ago)
    inbox = await received(vendor, ago=400, until_ago=200)
    assert [e.message.body for e in inbox.messages] == ["within"]


async def test_a_list_without_messages_reaches_as_far_as_was_asked(vendor: Vendor) -> None:
    now = vendor.now()
    assert await vendor.port.received_since(ACCOUNT, now - 10_000, now) == Inbox((), now)


async def test_all_senders_and_numbers_of_the_account_are_in_one_list(vendor: Vendor) -> None:
    await vendor.write("id", sender="whatsapp:US.ABC123")
    await vendor.write("number", recipient="whatsapp:+447700900101")
    inbox = await received(vendor, ago=60)
    assert {e.message.sender for e in inbox.messages} == {"whatsapp:US.ABC123", RECIPIENT}
    assert {e.message.business for e in inbox.messages} == {BUSINESS, "+447700900101"}


async def test_a_list_that_is_cut_off_says_so(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", listing.MAX_PAGES)
    monkeypatch.setattr(listing, "PAGE_SIZE", listing.PAGE_SIZE)
    for number, ago in enumerate((300, 30, 20)):
        await vendor.write(str(number), ago=ago)
    since = vendor.now() - 400_000
    vendor.cut_off()
    inbox = await vendor.port.received_since(ACCOUNT, since, vendor.now())
    assert [e.message.body for e in inbox.messages] == ["1", "2"]
    assert inbox.until <= since


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_customers_sent_can_be_read_again_after_a_refusal(
    vendor: Vendor, kind: type[DependencyError]
) -> None:
    await vendor.write("hi")
    vendor.refuse_list(kind)
    with pytest.raises(DependencyError) as caught:
        await received(vendor, ago=60)
    assert type(caught.value) is kind
    vendor.recover()
    assert len((await received(vendor, ago=60)).messages) == 1


@pytest.fixture
async def real() -> AsyncIterator[Real]:
    async with twilio() as opened:
        yield opened


async def test_files_come_with_the_message_from_their_own_list(real: Real) -> None:
    url = real.double.add_media("image/jpeg", b"picture", message_sid="MM" + "1" * 32)
    await real.double.receive(
        RECIPIENT, "look", sid="MM" + "1" * 32, media=[(url, "image/jpeg")], ProfileName="Lee"
    )
    (listed_one,) = (await received(real, ago=60)).messages
    (file,) = listed_one.message.media
    assert (file.url, file.content_type) == (url, "image/jpeg")
    # The list does not tell it, and nothing is made up.
    assert listed_one.message.profile_name == ""
    assert listed_one.message.params["ReplydCatchUp"] == "true"


async def test_a_message_whose_files_are_gone_is_listed_without_them(real: Real) -> None:
    sid = await real.write("look")
    real.double._resources[sid]["num_media"] = "1"
    (listed_one,) = (await received(real, ago=60)).messages
    assert (listed_one.message.body, listed_one.message.media) == ("look", ())


async def test_the_inbox_ends_where_there_are_too_many_files(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_WITH_FILES", 1)
    url = real.double.add_media("image/jpeg", b"picture")
    for ago in (30, 20, 10):
        delivery = await real.double.receive(RECIPIENT, str(ago), media=[(url, "image/jpeg")])
        real.double.date_back(delivery.sid, ago)
    inbox = await received(real, ago=60)
    assert [e.message.body for e in inbox.messages] == ["30"]
    assert abs(real.now() - inbox.until - 20_000) < 5_000


async def test_a_row_that_names_no_message_is_counted(real: Real) -> None:
    broken, whole = await real.write("broken"), await real.write("whole")
    real.double._resources[broken]["from"] = None
    inbox = await received(real, ago=60)
    assert [e.message.sid for e in inbox.messages] == [whole]
    assert inbox.unreadable == 1


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
