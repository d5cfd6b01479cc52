"""SMS: the same way as WhatsApp, under addresses without a prefix."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.routing import new_conversation_id
from replyd.domain.text import MAX_BODY
from replyd.errors import Ambiguous, Permanent
from replyd.flows.person_answer import Answered, Request
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, KEY, Worker, World, message

UNDERSTOOD = "You will get no more answers from us."
BLOCKED = Permanent("twilio", "the recipient has opted out (21610)", code="21610")


def sms(number: int, body: str = "", **params: str) -> InboundMessage:
    """As Twilio's webhook has it: no prefix, no name, no WhatsApp id."""
    known = message(number).params
    return message(
        number,
        body,
        sender=CUSTOMER,
        recipient=BUSINESS,
        profile_name="",
        params={**known, "From": CUSTOMER, "To": BUSINESS, **params},
    )


def world_of(**settings: dict[str, Any]) -> World:
    world = World(**settings)
    world.converse()
    return world


def routes(world: World) -> list[tuple[str, str]]:
    return [(part.sender, part.recipient) for part in world.channel.accepted]


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


BY_SMS = (BUSINESS, CUSTOMER)
BY_WHATSAPP = (f"whatsapp:{BUSINESS}", f"whatsapp:{CUSTOMER}")


async def test_an_sms_is_answered_by_sms_in_the_numbers_conversation() -> None:
    world = world_of(sending={"typing": True})
    async with world.running() as worker:
        await worker.accept(sms(1, "are you open?"))
        await asyncio.sleep(10)
    assert routes(world) == [BY_SMS]
    assert world.history() == [("user", "are you open?"), ("assistant", "You said: are you open?")]
    assert world.outcomes() == ["replied"]
    assert world.channel.typing == []


async def test_each_reply_goes_where_the_customer_wrote_last() -> None:
    world = world_of(sending={"typing": True})
    world.model.answer = lambda _: "**Open** until [six](https://x.y)"
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        await worker.accept(sms(2))
        await asyncio.sleep(10)
        await worker.accept(message(3))
        await worker.accept(sms(4))
        await asyncio.sleep(10)
    assert routes(world) == [BY_WHATSAPP, BY_SMS, BY_SMS]
    assert texts(world) == [
        "*Open* until six (https://x.y)",
        *["Open until six (https://x.y)"] * 2,
    ]
    # One conversation, whichever way it came.
    entries = [(e["role"], e.get(record.CHANNEL)) for e in world.item()[record.MESSAGES]]
    assert entries == [
        *(("user", None), ("assistant", None)),
        *(("user", "sms"), ("assistant", None)),
        *(("user", None), ("user", "sms"), ("assistant", None)),
    ]
    assert world.channel.typing == [message(1).sid]


async def test_a_profile_without_formatting_leaves_the_text_alone() -> None:
    world = world_of(ai={"formatting": "none"})
    world.model.answer = lambda _: "**Open**"
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(10)
    assert texts(world) == ["**Open**"]


async def test_a_farewell_has_no_marks_either() -> None:
    world = world_of(ai={"output": "json"})
    world.model.answer = lambda _: '{"content": "**One moment**", "handoff": true}'
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(10)
    assert texts(world) == ["One moment"]
    (body,) = world.handed_over()
    assert (body["handoff_reason"], body["message"]["from"]) == ("ai_handed_over", CUSTOMER)


async def test_a_long_reply_goes_out_in_parts_that_twilio_takes() -> None:
    world = world_of()
    world.model.answer = lambda _: "\n\n".join(f"**{n}** " + "word " * 250 for n in range(3))
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(30)
    assert routes(world) == [BY_SMS] * 3
    assert [text[0] for text in texts(world)] == ["0", "1", "2"]
    assert max(map(len, texts(world))) <= MAX_BODY
    assert world.outcomes() == ["replied"]


async def test_twilios_own_stop_silences_the_ai_and_nobody_confirms_it() -> None:
    world = world_of(opt_out={"stop_text": UNDERSTOOD})
    async with world.running() as worker:
        await worker.accept(sms(1, "QUIT", OptOutType="STOP"))
        await asyncio.sleep(10)
        # The number has opted out, not the channel.
        await worker.accept(message(2, "hello?"))
        await asyncio.sleep(10)
        assert texts(world) == []
        assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"] * 2
        await worker.accept(sms(3, "YES", OptOutType="START"))
        await asyncio.sleep(10)
    assert routes(world) == [BY_SMS]
    ledger = [(e["change"], e["by"]) for e in world.item()[record.CONSENT]]
    assert ledger == [("stop", "twilio"), ("start", "twilio")]


async def test_a_confirmation_that_twilio_blocks_is_tried_once() -> None:
    """Without Advanced Opt-Out Twilio answers STOP, and tells the webhook nothing of it."""
    world = world_of(opt_out={"stop_text": UNDERSTOOD})
    world.channel.failures = [BLOCKED]
    async with world.running() as worker:
        await worker.accept(sms(1, "STOP"))
        await asyncio.sleep(120)
    assert texts(world) == []
    assert world.channel.failures == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"]
    assert world.item()[record.PENDING] == []


async def report(worker: Worker, entry: dict[str, Any], status: str) -> None:
    params = {
        "MessageSid": entry["message_id"],
        "MessageStatus": status,
        "ErrorCode": "30003",
        "From": BUSINESS,
        "To": CUSTOMER,
    }
    query = {"p": KEY.partition, "s": KEY.sort, "turn": entry["turn_id"], "entry": "1"}
    await worker.track(params, query)


@pytest.mark.parametrize("status", ["delivered", "undelivered"])
async def test_a_delivery_callback_finds_its_part(status: str) -> None:
    world = world_of(delivery={"record": ["delivered", "undelivered"]})
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(10)
        await report(worker, world.item()[record.MESSAGES][-1], status)
    assert world.item()[record.MESSAGES][-1]["delivery"] == status
    told = [(b["handoff_reason"], b["message"]["from"]) for b in world.handed_over()]
    assert told == ([] if status == "delivered" else [("undelivered", CUSTOMER)])


async def test_an_unclear_send_is_looked_up_among_the_numbers_sms() -> None:
    world = world_of()
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(120)
    assert routes(world) == [BY_SMS]
    assert world.outcomes()[-1] == "replied"


async def test_an_unknown_sender_gets_a_conversation_that_both_channels_share() -> None:
    world = World(unknown={"policy": "create"})
    async with world.running() as worker:
        await worker.accept(sms(1))
        await asyncio.sleep(10)
        await worker.accept(message(2))
        await asyncio.sleep(10)
    key = ConversationKey(CUSTOMER, new_conversation_id(CUSTOMER, BUSINESS))
    assert list(world.store.items) == [key]
    assert len(world.history(key)) == 4
    assert routes(world) == [BY_SMS, BY_WHATSAPP]


async def test_the_notice_for_unknown_senders_goes_by_sms() -> None:
    world = World(unknown={"policy": "notify", "notice_text": "Please call us."})
    async with world.running() as worker:
        await worker.accept(sms(1))
    assert (routes(world), texts(world)) == ([BY_SMS], ["Please call us."])


@pytest.mark.parametrize("settled", [True, False])
async def test_a_persons_answer_goes_where_the_customer_wrote_last(settled: bool) -> None:
    world = world_of()
    request = Request("Ann here", "Ann", "k-1", ACCOUNT)
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        await worker.accept(sms(2))
        if settled:
            await asyncio.sleep(10)
        assert isinstance(await worker.people.reply(KEY, request), Answered)
    person = next(p for p in world.channel.accepted if p.text == "Ann here")
    assert (person.sender, person.recipient) == BY_SMS
