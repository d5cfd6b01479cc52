"""Outside WhatsApp's 24-hour window."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.content_template import MAX_VALUES
from replyd.domain.events import SendReconciled
from replyd.domain.messages import OutboundPart
from replyd.domain.text import units
from replyd.errors import Ambiguous
from replyd.flows.person_answer import Answered, Declined, Request
from tests.flows.test_catch_up import Late
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, KEY, Worker, World, message

DAY = 24 * 60 * 60
SID = "HX" + "a" * 32
TEMPLATE = {"template_sid": SID, "template_variables": {"1": "{name}", "2": "{text}"}}
BY_AI = TEMPLATE | {"outside_window": "template"}
PATIENT = {"give_up_after_seconds": 2 * DAY, "apology_text": "Sorry."}
UNCLEAR = Ambiguous("twilio", "no answer in time")


def patient(**settings: Any) -> World:
    """The AI may answer for two days."""
    catchup = {"max_age_seconds": 2 * DAY, "look_back_seconds": 3 * DAY}
    world = World(turn=PATIENT | settings.pop("turn", {}), catchup=catchup, **settings)
    world.converse()
    return world


async def arrives_late(world: World, worker: Worker, seconds: float = DAY, **changes: Any) -> None:
    """A message is staged, and no worker takes it for so long."""
    await world.webhook()(message(1, **changes))
    await asyncio.sleep(seconds)
    worker.start()
    await asyncio.sleep(60)


def sent(world: World) -> list[tuple[str, str, dict[str, str]]]:
    return [(p.text, p.content_sid, dict(p.content_variables)) for p in world.channel.accepted]


# --- the AI --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sending", [{}, TEMPLATE])
async def test_people_get_what_the_ai_may_not_answer_any_more(sending: dict[str, Any]) -> None:
    world = patient(sending=sending)
    worker = world.worker()
    await arrives_late(world, worker)
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "window_closed"
    assert "24 hours" in body["handoff_detail"]
    # The model is not asked, and no apology is tried.
    assert (world.model.requests, sent(world)) == ([], [])
    assert world.item()[record.STATUS] == record.REPLY_FAILED
    assert world.outcomes() == ["handed_over"]
    await worker.stop()


async def test_within_the_window_an_answer_is_free_text() -> None:
    world = patient(sending=BY_AI)
    worker = world.worker()
    await arrives_late(world, worker, DAY - 600)
    assert sent(world) == [("You said: message 1", "", {})]
    await worker.stop()


async def test_an_sms_has_no_window() -> None:
    world = patient(sending=BY_AI)
    worker = world.worker()
    await arrives_late(world, worker, sender=CUSTOMER, recipient=BUSINESS)
    assert sent(world) == [("You said: message 1", "", {})]
    await worker.stop()


async def test_an_answer_goes_out_as_the_template() -> None:
    world = patient(sending=BY_AI)
    worker = world.worker()
    await arrives_late(world, worker)
    variables = {"1": "Lee", "2": "You said: message 1"}
    assert sent(world) == [("You said: message 1", SID, variables)]
    entry = world.item()[record.MESSAGES][-1]
    assert (entry["content"], entry["role"]) == ("You said: message 1", "assistant")
    assert entry["template"] == {"sid": SID, "variables": variables}
    assert (entry["delivery"], entry["response_id"]) == ("accepted", "resp_1")
    assert world.item()[record.THREAD_ID] == "resp_1"
    assert world.outcomes() == ["replied"]
    await worker.stop()


async def test_a_long_answer_is_one_shortened_message_and_its_thread_ends() -> None:
    world = patient(sending=BY_AI)
    world.model.answer = lambda _: "\n\n".join("word " * 300 for _ in range(3))
    worker = world.worker()
    await arrives_late(world, worker)
    ((text, sid, variables),) = sent(world)
    assert (sid, variables["2"]) == (SID, text)
    assert text.endswith("word…")
    assert units(text) <= MAX_VALUES
    assert world.history()[-1] == ("assistant", text)
    assert world.item()[record.THREAD_ID] == ""
    await worker.stop()


async def test_an_apology_that_would_not_arrive_is_not_sent() -> None:
    world = World(turn={"apology_text": "Sorry."})
    world.converse()
    worker = world.worker()
    await arrives_late(world, worker)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["too_old"]
    assert sent(world) == []
    await worker.stop()


@pytest.mark.parametrize("turn", [{}, {"on_ambiguous": "resend"}], ids=["handoff", "resend"])
async def test_a_template_without_an_answer_is_not_taken_for_unsent(turn: dict[str, Any]) -> None:
    world = patient(sending=BY_AI, turn=turn)
    # It was accepted, and the list shows it with words that are not ours.
    world.channel.failures = [UNCLEAR]
    worker = world.worker()
    await arrives_late(world, worker)
    (looked,) = world.events(SendReconciled)
    if turn:
        assert (looked.outcome, len(sent(world))) == ("sent_again_unsure", 2)
    else:
        assert (looked.accepted, looked.outcome, len(sent(world))) == (0, "handed_over", 1)
        assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous"]
    await worker.stop()


async def test_a_template_that_the_list_does_not_have_goes_out_again_as_it_was() -> None:
    world = patient(sending=BY_AI)
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    worker = world.worker()
    await arrives_late(world, worker)
    (looked,) = world.events(SendReconciled)
    assert looked.outcome == "sent_again"
    assert sent(world) == [("You said: message 1", SID, {"1": "Lee", "2": "You said: message 1"})]
    assert len(world.model.requests) == 1
    await worker.stop()


async def test_a_template_is_not_matched_by_its_text() -> None:
    """Another tool has sent the same words."""
    world = patient(sending=BY_AI)
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    worker = world.worker()
    sender, recipient = f"whatsapp:{BUSINESS}", f"whatsapp:{CUSTOMER}"
    other = OutboundPart(ACCOUNT, sender, recipient, "You said: message 1")
    await world.webhook()(message(1))
    await asyncio.sleep(DAY)
    worker.start()
    await asyncio.sleep(10)
    await world.channel.send(other)
    await asyncio.sleep(60)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous"]
    assert len(sent(world)) == 1
    await worker.stop()


async def test_a_reply_that_was_not_sent_in_time_goes_to_people() -> None:
    """Its worker ended while sending; nobody took it up until the window had closed."""
    world = patient()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    await asyncio.sleep(5)
    assert world.item()[record.OUTBOX]["kind"] == "reply"
    await world.crash(worker)
    await asyncio.sleep(DAY)
    async with world.running():
        await asyncio.sleep(120)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["window_closed"]
    assert sent(world) == []
    assert not {record.OUTBOX, record.LEASE} & world.item().keys()


@pytest.mark.parametrize("ago", [DAY, DAY - 600])
async def test_what_catch_up_has_found_is_as_old_as_the_customer_knows(ago: float) -> None:
    ages = ("max_age_seconds", "first_look_back_seconds", "look_back_seconds")
    world = Late(dict.fromkeys(ages, 3 * DAY))
    turn = world.settings.turn.model_copy(update=PATIENT)
    world.settings = world.settings.model_copy(update={"turn": turn})
    world.converse()
    world.writes(message(1), ago=ago)
    async with world.catching_up():
        await asyncio.sleep(120)
    reasons = [b["handoff_reason"] for b in world.handed_over()]
    assert (reasons, len(sent(world))) == ((["window_closed"], 0) if ago == DAY else ([], 1))


# --- people --------------------------------------------------------------------------------------


async def answer(worker: Worker, text: str = "Ann here", key: str = "k-1") -> Answered | Declined:
    return await worker.people.reply(KEY, Request(text, "Ann", key, ACCOUNT))


async def of_yesterday(world: World, worker: Worker) -> None:
    """The customer's last message was answered a day ago."""
    await worker.accept(message(1))
    await asyncio.sleep(DAY)
    world.channel.accepted.clear()


async def test_a_person_is_told_what_to_do_when_there_is_no_template() -> None:
    world = patient()
    async with world.running() as worker:
        await of_yesterday(world, worker)
        before = dict(world.item())
        declined = await answer(worker)
        assert isinstance(declined, Declined)
        assert declined.reason == "window_closed"
        assert "sending.template_sid" in declined.text
        assert (world.item(), sent(world)) == (before, [])
        # As soon as the customer writes, it can be sent.
        await worker.accept(message(2))
        await asyncio.sleep(20)
        assert isinstance(await answer(worker), Answered)
        assert sent(world)[-1] == ("Ann here", "", {})


@pytest.mark.parametrize("sending", [TEMPLATE, BY_AI])
async def test_a_persons_answer_goes_out_as_the_template_once(sending: dict[str, Any]) -> None:
    world = patient(sending=sending)
    async with world.running() as worker:
        await of_yesterday(world, worker)
        first = await answer(worker, "Ann\nhere")
        assert isinstance(first, Answered)
        assert first.delivery == "accepted"
        # Nobody knows the name any more: the template has a default.
        assert sent(world) == [("Ann\nhere", SID, {"2": "Ann here"})]
        entry = world.item()[record.MESSAGES][-1]
        assert (entry["role"], entry["content"]) == ("human", "Ann\nhere")
        assert entry["template"] == {"sid": SID, "variables": {"2": "Ann here"}}
        again = await answer(worker, "Ann\nhere")
        assert isinstance(again, Answered)
        assert (again.again, again.parts, len(sent(world))) == (True, first.parts, 1)


async def test_a_persons_answer_within_the_window_is_free_text() -> None:
    world = patient(sending=TEMPLATE)
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(DAY - 600)
        assert isinstance(await answer(worker), Answered)
        assert sent(world)[-1] == ("Ann here", "", {})


async def test_a_persons_sms_has_no_window() -> None:
    world = patient()
    async with world.running() as worker:
        await worker.accept(message(1, sender=CUSTOMER, recipient=BUSINESS))
        await asyncio.sleep(DAY)
        assert isinstance(await answer(worker), Answered)
        assert sent(world)[-1] == ("Ann here", "", {})


@pytest.mark.parametrize("text", ["x" * 901, "long " * 600])
async def test_a_persons_answer_is_not_cut(text: str) -> None:
    world = patient(sending=TEMPLATE)
    async with world.running() as worker:
        await of_yesterday(world, worker)
        declined = await answer(worker, text)
        assert isinstance(declined, Declined)
        assert (declined.reason, sent(world)) == ("window_closed", [])
        assert "at most 900 characters" in declined.text
        assert isinstance(await answer(worker, "x" * 900), Answered)


async def test_after_63016_people_know_what_they_can_do_and_the_template_goes_out() -> None:
    world = patient(sending=TEMPLATE)
    async with world.running() as worker:
        # Nothing tells when the customer wrote: free text is tried.
        first = await answer(worker)
        assert isinstance(first, Answered)
        (part,) = first.parts
        params = {"MessageSid": part.sid, "MessageStatus": "undelivered", "ErrorCode": "63016"}
        query = {"p": KEY.partition, "s": KEY.sort, "turn": first.turn_id, "entry": "0"}
        await worker.track(params, query)
        (body,) = world.handed_over()
        assert body["handoff_reason"] == "undelivered"
        assert body["handoff_detail"].endswith("; a person's answer goes out as the template")
        assert isinstance(await answer(worker, key="k-2"), Answered)
        assert [sid for _, sid, _ in sent(world)] == ["", SID]
