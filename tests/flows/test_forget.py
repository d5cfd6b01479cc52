"""Erasing a customer, while everything else goes on."""

import asyncio
import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.record import OPTED_OUT
from replyd.errors import DependencyDown, Temporary
from replyd.flows.find_conversation import ALIAS_OF
from replyd.flows.forget.receipt import NOT_COMPLETE
from replyd.ports import Kept
from tests.support.forgetting import Office, stop
from tests.support.world import BUSINESS, CUSTOMER, KEY, World, message, received_file

ID = "US.ABC123"
OTHER = "+447700900002"
SECRET = "my card is 4929"


def shown_both(number: int, body: str) -> InboundMessage:
    params = {"MessageSid": message(number).sid, "ExternalUserId": ID}
    return message(number, body, params=params)


async def converse(world: World, office: Office) -> None:
    """A customer with two records, an archive, a large message, a voice note, two names, and a
    notice; and another customer."""
    world.converse(thread_id="resp_2", messages=[_said(n) for n in range(4)])
    world.converse(ConversationKey(CUSTOMER, "c-0"), created_at="2026-11-21T10:00:00.000Z")
    world.converse(ConversationKey(OTHER, "c-9"), messages=[{"content": "theirs"}])
    voice = world.put(received_file(7, "audio/ogg"))
    note = replace(message(103), sid=f"MM{103:032x}", media=(voice,))
    async with world.running() as worker:
        for one in (shown_both(101, SECRET), shown_both(102, SECRET * 900), note):
            await worker.accept(one)
        await asyncio.sleep(30)
    await world.store.once_per(f"notice#{CUSTOMER}", 1, 9)
    await world.store.once_per(f"notice#{OTHER}", 1, 9)
    for sid in (message(101).sid, message(102).sid, note.sid):
        office.keep(sid, files=int(sid == note.sid))
    for entry in world.item()[record.MESSAGES]:
        if entry["role"] == "assistant" and "message_id" in entry:
            office.keep(entry["message_id"], inbound=False)
    office.keep("SM" + "e" * 32, name=ID)
    office.keep("SM" + "f" * 32, name=OTHER)
    thread_id = world.item()[record.THREAD_ID]
    office.chain("resp_1", "resp_2", thread_id)


def _said(n: int) -> dict[str, Any]:
    return {"message_id": f"SM{n:x}" + "0" * 31, "role": "user", "content": f"{SECRET} {n}"}


@pytest.fixture
def world() -> World:
    return World(history={"keep_messages": 2}, voice={"enabled": True})


@pytest.fixture
def office(world: World) -> Office:
    return Office(world)


async def test_nothing_of_the_customer_stays(world: World, office: Office) -> None:
    await converse(world, office)
    assert any("archive#c-1" in name for name in world.store.side)
    assert any("heard#" in name for name in world.store.side)
    others = {k: v for k, v in world.store.items.items() if k.partition == OTHER}
    receipt = await office.forget()
    assert (receipt.left, receipt.refused) == ([], "")
    assert receipt.names == (CUSTOMER, ID)
    assert office.traces(CUSTOMER, ID, SECRET, KEY.sort + "#") == []
    # And nothing of anybody else's went.
    assert world.store.items == others
    assert list(world.store.side) == [f"notice#{OTHER}"]
    assert [m.sid for m in office.messages.messages[f"whatsapp:{OTHER}"]] == ["SM" + "f" * 32]
    counted = {(where, what): erased for where, what, _, erased, _ in receipt.rows()}
    assert counted[("table", "conversations")] == 2
    assert counted[("table", "aliases")] == 2
    assert counted[("table", "notices")] == 1
    assert counted[("table", "texts and words kept apart")] == 1
    assert counted[("openai", "responses")] == 3
    assert (await office.look()).nothing


async def test_an_id_leads_to_all_of_it(world: World, office: Office) -> None:
    await converse(world, office)
    receipt = await office.forget(ID)
    assert receipt.names == (ID, CUSTOMER)
    assert office.traces(CUSTOMER, ID, SECRET) == []


async def test_looking_changes_nothing_and_counts_the_same(world: World, office: Office) -> None:
    await converse(world, office)
    before = (dict(world.store.items), dict(world.store.side))
    seen = await office.look()
    assert (world.store.items, world.store.side) == before
    assert office.messages.erased == []
    assert office.threads.erased == []
    done = await office.forget()
    assert {(a, b): c for a, b, c, _, _ in seen.rows()} == {
        (a, b): erased + gone for a, b, _, erased, gone in done.rows()
    }


@pytest.mark.parametrize("name", [CUSTOMER, ID])
async def test_a_run_that_is_cut_off_anywhere_can_be_repeated(
    world: World, office: Office, name: str
) -> None:
    await converse(world, office)
    world.store.side[f"alias#{CUSTOMER}#GB.other"] = {}
    world.store.side["alias#GB.other"] = {ALIAS_OF: CUSTOMER}
    office.keep("SM" + "d" * 32, name="GB.other")
    before = copy.deepcopy(_everything(world, office))
    for place in itertools.count():
        for now, then in zip(_everything(world, office), copy.deepcopy(before), strict=True):
            now.clear()
            now.update(then)
        cut = _CutOff(world, place)
        try:
            await office.forget(name)
        except Temporary:
            pass
        else:
            break
        finally:
            cut.mended()
        # The lease of the run before has to end.
        await asyncio.sleep(70)
        assert (await office.forget(name)).left == []
        assert office.traces(CUSTOMER, ID, SECRET, "GB.other") == []
    assert place > 40


def _everything(world: World, office: Office) -> tuple[dict[Any, Any], ...]:
    kept = office.messages.messages, office.threads.threads
    return (world.store.items, world.store.side, *kept)


class _CutOff:
    """From its call number `place` on, the store does nothing any more."""

    METHODS = ("lookup", "apply", "erase", "get_side", "delete_side", "read")

    def __init__(self, world: World, place: int) -> None:
        self._store = world.store
        self._left = place
        for name in self.METHODS:
            setattr(world.store, name, self._counted(getattr(world.store, name)))

    def _counted(self, method: Any) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Temporary("dynamodb", "unreachable")
            return await method(*args, **named)

        return call

    def mended(self) -> None:
        for name in self.METHODS:
            delattr(self._store, name)


# --- what the vendors refuse ---------------------------------------------------------------------


async def test_the_record_stays_while_something_is_left_that_it_leads_to(
    world: World, office: Office
) -> None:
    await converse(world, office)
    office.threads.failures = [DependencyDown("openai", "the API key is refused")]
    receipt = await office.forget()
    (left,) = receipt.left
    assert (left.where, left.why) == ("openai", "the API key is refused")
    assert KEY in world.store.items
    assert record.LEASE not in world.item()
    assert f"alias#{ID}" in world.store.side
    assert (await office.forget()).left == []
    assert office.traces(CUSTOMER, ID, SECRET) == []


async def test_what_is_on_its_way_does_not_keep_the_record(world: World, office: Office) -> None:
    """Twilio's own list leads to it again, by all names."""
    await converse(world, office)
    sid = "SM" + "e" * 32
    office.messages.messages[f"whatsapp:{ID}"] = []
    office.keep(sid, inbound=False, name=ID)
    office.messages.in_progress = {sid}
    receipt = await office.forget()
    assert [left.what for left in receipt.left] == [NOT_COMPLETE]
    assert KEY not in world.store.items
    assert (await office.look()).names == (CUSTOMER, ID)
    office.messages.in_progress.clear()
    assert (await office.forget()).left == []
    assert office.traces(CUSTOMER, ID, SECRET) == []


async def test_a_customers_message_that_stays_keeps_the_record(
    world: World, office: Office
) -> None:
    """Without a record CATCH-UP could take it for new."""
    await converse(world, office)
    office.messages.in_progress = {message(101).sid}
    assert (await office.forget()).holds_back
    assert message(101).sid in world.item()[record.SEEN]


async def test_a_thread_is_looked_for_with_every_key(world: World, office: Office) -> None:
    """The conversation has changed its profile, or a key was replaced."""
    world.converse(thread_id="resp_9", ai_profile="none")
    office.other_threads.threads["resp_9"] = [Kept("response", "resp_9")]
    office.threads.failures = [DependencyDown("openai", "the API key is refused")]
    receipt = await office.forget()
    assert office.other_threads.erased == [Kept("response", "resp_9")]
    assert receipt.left == []


async def test_chains_that_were_given_up_are_found_by_the_history(
    world: World, office: Office
) -> None:
    said = [{"role": "assistant", "response_id": name} for name in ("resp_a2", "resp_b1")]
    world.converse(thread_id="resp_b2", messages=said)
    archived = {"messages": [{"role": "assistant", "response_id": "resp_0"}]}
    await world.store.put_side("archive#c-1", archived, None, part="2026")
    office.chain("resp_a1", "resp_a2")
    office.chain("resp_b1", "resp_b2")
    office.chain("resp_0")
    receipt = await office.forget()
    assert {what.id for what in office.threads.erased} == {
        *("resp_a1", "resp_a2", "resp_b1", "resp_b2", "resp_0")
    }
    assert receipt.erased["openai", "responses"] == 5
    # One that is known to be part of another is not looked up again.
    assert office.threads.asked.count("resp_b1") == 0


# --- STOP ----------------------------------------------------------------------------------------


async def test_a_stop_outlives_the_customer(world: World, office: Office) -> None:
    await converse(world, office)
    stop(world)
    receipt = await office.forget()
    assert (receipt.left, receipt.kept) == ([], 1)
    assert world.item() == {
        record.RECIPIENT_TEL: CUSTOMER,
        record.CONVERSATION_ID: KEY.sort,
        record.COMPANY_TEL: BUSINESS,
        record.CREATED_AT: "2026-11-22T10:00:00.000Z",
        OPTED_OUT: "2026-11-22T10:00:00.000Z",
    }
    assert office.traces(SECRET) == []
    again = await office.look()
    assert again.nothing
    assert again.kept == 1
    # Whoever starts another conversation, the AI is silent in it.
    world.model.requests.clear()
    world.converse(ConversationKey(CUSTOMER, "c-2"), created_at="2026-11-23T10:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(111))
        await asyncio.sleep(20)
    assert world.model.requests == []
    assert world.handed_over()[-1]["handoff_reason"] == "opted_out"


async def test_a_stop_is_forgotten_when_that_is_asked_for(world: World, office: Office) -> None:
    world.converse()
    stop(world)
    assert (await office.forget()).kept == 1
    assert (await office.forget(forget_opt_out=True)).kept == 0
    assert world.store.items == {}


# --- while everything else goes on ---------------------------------------------------------------


async def test_a_turn_under_way_is_waited_for(world: World, office: Office) -> None:
    world.converse()
    world.model.seconds = 20
    async with world.running() as worker:
        await worker.accept(message(101))
        await asyncio.sleep(10)
        receipt = await office.forget()
        assert receipt.refused == ""
        await asyncio.sleep(60)
    assert [p.text for p in world.channel.accepted] == ["You said: message 101"]
    assert world.store.items == {}


async def test_a_message_that_waits_is_answered_first(world: World, office: Office) -> None:
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(101))
        receipt = await office.forget(wait_seconds=1)
        assert "1 message waits for an answer" in receipt.refused
        assert office.messages.erased == []
        await asyncio.sleep(30)
    assert len(world.channel.accepted) == 1
    assert len(world.item()[record.MESSAGES]) == 2


async def test_or_it_goes_with_the_rest(world: World, office: Office) -> None:
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(101, SECRET * 900))
        receipt = await office.forget(even_unanswered=True)
        assert receipt.left == []
        await asyncio.sleep(60)
    assert world.channel.accepted == []
    assert world.handed_over() == []
    assert world.store.items == {}
    assert world.store.side == {}
    # Its wake-up is not left to go round for days.
    assert world.queue.messages == {}


async def test_a_message_that_comes_meanwhile_is_answered(world: World, office: Office) -> None:
    world.converse(thread_id="resp_1")
    office.chain("resp_1")
    async with world.running() as worker:
        arriving = asyncio.create_task(_when_told(office, worker.accept, message(101)))
        receipt = await office.forget()
        await arriving
        (left,) = receipt.left
        assert "a message came meanwhile" in left.why
        await asyncio.sleep(90)
    assert [p.text for p in world.channel.accepted] == ["You said: message 101"]
    assert (await office.forget()).left == []
    assert world.store.items == {}


async def _when_told(office: Office, accept: Any, arriving: InboundMessage) -> None:
    while not any(what == "erasing at OpenAI" for what, _, _ in office.told):
        await asyncio.sleep(0)
    await accept(arriving)


async def test_a_long_erasure_keeps_its_lease(world: World, office: Office) -> None:
    """Nobody answers from a record of which half is gone."""
    world.converse(thread_id="resp_1")
    office.chain("resp_1")
    office.threads.seconds = 40
    async with world.running() as worker:
        erasing = asyncio.create_task(office.forget())
        await asyncio.sleep(10)
        await worker.accept(message(101))
        assert (await erasing).left
        assert world.model.requests == []
        await asyncio.sleep(90)
    assert len(world.channel.accepted) == 1


async def test_a_late_roll_over_takes_its_archive_back(world: World, office: Office) -> None:
    """The process that puts the archive item had stood still while its record was erased."""
    world.converse(messages=[_said(n) for n in range(4)])
    put_side = world.store.put_side

    async def late(*args: Any, **named: Any) -> None:
        world.store.items.clear()
        await put_side(*args, **named)

    world.store.put_side = late  # type: ignore[method-assign]
    async with world.running() as worker:
        await worker.accept(message(101))
        await asyncio.sleep(20)
    assert world.store.side == {}
    assert world.store.items == {}


async def test_a_large_message_that_comes_too_late_leaves_no_text(world: World) -> None:
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(101))
        await asyncio.sleep(20)
        # The lookup still has the record.
        await worker.accept(message(102))
        world.store.items.clear()
        await worker.accept(message(103, SECRET * 900))
    assert world.store.side == {}


async def test_a_customer_who_comes_back_is_known_by_both_names_again(
    world: World, office: Office
) -> None:
    world.converse()
    async with world.running() as worker:
        await worker.accept(shown_both(101, "hi"))
        await asyncio.sleep(20)
        await office.forget()
        world.converse(ConversationKey(CUSTOMER, "c-2"))
        await worker.accept(shown_both(102, "hi"))
        await asyncio.sleep(20)
    assert f"alias#{ID}" in world.store.side


async def test_a_crash_in_the_midst_leaves_a_conversation_that_works(
    world: World, office: Office
) -> None:
    world.converse(thread_id="resp_1")
    office.chain("resp_1")
    task = asyncio.create_task(office.forget())
    while not office.threads.erased:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert record.LEASE not in world.item()
    async with world.running() as worker:
        await worker.accept(message(101))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1


async def test_nobody_has_nothing(world: World, office: Office) -> None:
    assert (await office.look()).nothing
    assert (await office.forget()).nothing
    assert world.store.applied == []
