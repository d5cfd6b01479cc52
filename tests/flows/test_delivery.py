"""Status callbacks: what became of the parts, whenever the news comes."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.events import DeliveryReported, DependencyFailed
from replyd.errors import Ambiguous, Permanent, Temporary
from tests.support.faults import FaultyHandoffs
from tests.support.world import BUSINESS, CUSTOMER, KEY, Worker, World, message

SID = "SM" + "c" * 32
REFUSED = Temporary("sqs", "throttled")


async def report(
    worker: Worker, turn_id: str, status: str = "delivered", entry: int = 1, sid: str = SID
) -> None:
    params = {
        "MessageSid": sid,
        "MessageStatus": status,
        "ErrorCode": "63016",
        "From": f"whatsapp:{BUSINESS}",
        "To": f"whatsapp:{CUSTOMER}",
    }
    query = {"p": KEY.partition, "s": KEY.sort, "turn": turn_id, "entry": str(entry)}
    await worker.track(params, query)


def last(world: World) -> dict[str, Any]:
    entry: dict[str, Any] = world.item()[record.MESSAGES][-1]
    return entry


async def report_last(world: World, worker: Worker, status: str) -> None:
    """Of the newest part in the history."""
    entry = last(world)
    await report(worker, entry["turn_id"], status, sid=entry["message_id"])


def recording() -> World:
    world = World(delivery={"record": ["sent", "delivered", "read"]})
    world.handoffs = FaultyHandoffs()
    world.converse()
    return world


def refusing(world: World) -> list[Any]:
    assert isinstance(world.handoffs, FaultyHandoffs)
    return world.handoffs.fail


async def replied(worker: Worker, *bodies: str) -> None:
    for number, body in enumerate(bodies or ("hello",), start=1):
        await worker.accept(message(number, body))
    await asyncio.sleep(20)


async def test_a_report_before_commit_comes_along() -> None:
    world = recording()
    world.channel.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await report(worker, world.item()[record.OUTBOX]["turn_id"])
        await asyncio.sleep(20)
    assert last(world)["delivery"] == "delivered"
    assert world.outcomes() == ["replied"]


async def test_a_report_after_commit_finds_the_entry() -> None:
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        await report_last(world, worker, "read")
    assert last(world)["delivery"] == "read"
    assert [e.recorded for e in world.events(DeliveryReported)] == [True]
    assert world.handed_over() == []


@pytest.mark.parametrize("when", ["before the look", "after the handoff"])
async def test_a_report_tells_what_became_of_an_unclear_send(when: str) -> None:
    world = recording()
    world.channel.seconds = 5
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    world.channel.list_failures = [Permanent("twilio", "the list cannot be read")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        turn_id = world.item()[record.OUTBOX]["turn_id"]
        if when == "before the look":
            await report(worker, turn_id)
        await asyncio.sleep(50)
        if when == "after the handoff":
            assert last(world)["delivery"] == "unknown"
            await report(worker, turn_id)
    told = [b["handoff_reason"] for b in world.handed_over()]
    assert told == (["ambiguous"] if when == "after the handoff" else [])
    assert (last(world)["delivery"], last(world)["message_id"]) == ("delivered", SID)


async def test_a_report_of_nobody_is_counted_and_changes_nothing() -> None:
    world = recording()
    async with world.running() as worker:
        before = dict(world.item())
        await report(worker, "no-such-turn")
        await report(worker, "", entry=-1)
        await worker.track({"MessageSid": SID, "MessageStatus": "failed"}, {})
        gone = {"p": "+15550000000", "s": "c-9", "turn": "t", "entry": "1"}
        await worker.track({"MessageSid": SID, "MessageStatus": "failed"}, gone)
    assert world.item() == before
    reports = world.events(DeliveryReported)
    assert [(e.recorded, e.people_told) for e in reports] == [(False, False)] * 4
    assert world.handed_over() == []


async def test_a_failure_of_a_part_that_the_record_does_not_have() -> None:
    """It is in the archive, or its COMMIT could not take texts: people are told all the same."""
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        world.item()[record.MESSAGES] = []
        before = dict(world.item())
        await report(worker, "settled-without-texts", "failed")
    assert world.item() == before
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "undelivered"
    assert SID in body["handoff_detail"]
    (told,) = world.events(DeliveryReported)
    assert (told.recorded, told.people_told) == (False, True)


# --- people hear of what was not delivered -------------------------------------------------------


async def test_people_get_the_message_that_was_answered_in_vain() -> None:
    world = recording()
    async with world.running() as worker:
        await replied(worker, "hello", "are you open?")
        await report_last(world, worker, "undelivered")
    entry = last(world)
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "undelivered"
    assert body["handoff_detail"] == (
        f"reply {entry['message_id']} was not delivered: the customer's last message is more than "
        "24 hours old: only a template may be sent (63016)"
    )
    assert body["handoff_summary"] == entry["content"]
    assert body["message"] | {"params": {}} == message(2, "are you open?").as_dict() | {
        "profile_name": "",
        "params": {},
    }
    assert body["seq"] == 2
    assert body["received_at"] == world.item()[record.MESSAGES][-2]["timestamp"]
    assert body["conversation"]["conversation_id"] == KEY.sort
    assert (entry["delivery"], entry["people_told"]) == ("undelivered", True)
    (event,) = world.events(DeliveryReported)
    assert (event.recorded, event.people_told) == (True, True)


@pytest.mark.parametrize("size", [10, 9_000])
async def test_while_the_turn_is_in_the_outbox_people_get_all_that_came(size: int) -> None:
    """A large message lies in an item of its own."""
    world = recording()
    world.channel.seconds = 5
    world.model.answer = lambda _: "Until six."
    question = message(1, "x" * size)
    async with world.running() as worker:
        await worker.accept(question)
        await asyncio.sleep(5)
        await report(worker, world.item()[record.OUTBOX]["turn_id"], "failed")
        assert "people_told" in world.item()[record.OUTBOX]["delivery"]["1"]
        await asyncio.sleep(20)
        await report_last(world, worker, "failed")
    (body,) = world.handed_over()
    assert body["message"] == question.as_dict()
    assert body["seq"] == 1
    assert (last(world)["delivery"], last(world)["people_told"]) == ("failed", True)
    assert world.outcomes() == ["replied"]


async def test_a_commit_between_queue_and_mark() -> None:
    world = recording()
    world.handoffs = FaultyHandoffs(seconds=8)
    world.channel.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await report(worker, world.item()[record.OUTBOX]["turn_id"], "failed")
        assert record.OUTBOX not in world.item()
        await report(worker, last(world)["turn_id"], "failed")
    assert len(world.handed_over()) == 1
    assert last(world)["people_told"] is True


async def test_what_the_queue_refused_comes_with_the_next_report() -> None:
    world = recording()
    refusing(world).append(REFUSED)
    async with world.running() as worker:
        await replied(worker)
        with pytest.raises(Temporary):
            await report_last(world, worker, "failed")
        assert last(world)["delivery"] == "failed"
        assert "people_told" not in last(world)
        await report_last(world, worker, "failed")
        await report_last(world, worker, "failed")
    assert len(world.handed_over()) == 1
    assert last(world)["people_told"] is True
    assert [(e.recorded, e.people_told) for e in world.events(DeliveryReported)] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert [e.operation for e in world.events(DependencyFailed)] == ["report"]


async def test_an_answer_of_the_table_that_is_lost() -> None:
    world = recording()
    world.store.lose_after["report_in_history"] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        await replied(worker)
        with pytest.raises(Temporary):
            await report_last(world, worker, "failed")
        await report_last(world, worker, "failed")
    assert len(world.handed_over()) == 1


async def test_without_the_mark_people_hear_of_it_again() -> None:
    """Rather twice than never; the bodies are alike."""
    world = recording()
    world.store.fail_before["people_told_in_history"] = [Temporary("dynamodb", "throttled")]
    async with world.running() as worker:
        await replied(worker)
        for _ in range(3):
            await report_last(world, worker, "failed")
    first, second = world.handed_over()
    assert first == second
    assert last(world)["people_told"] is True


async def test_the_same_report_at_two_instances() -> None:
    world = recording()
    async with world.running(2) as worker:
        await replied(worker)
        await asyncio.gather(*[report_last(world, w, "failed") for w in world.workers])
        told = world.handed_over()
        await report_last(world, worker, "failed")
    assert 1 <= len(told) <= 2
    assert all(last(world)["message_id"] in body["handoff_detail"] for body in told)
    assert world.handed_over() == told
    assert sum(e.recorded for e in world.events(DeliveryReported)) == 1


@pytest.mark.parametrize(
    "states",
    [
        ("undelivered", "failed"),
        ("failed", "undelivered"),
        ("failed", "sent", "delivered"),
        ("sent", "failed", "sent", "failed"),
    ],
)
async def test_in_any_order_people_hear_once(states: tuple[str, ...]) -> None:
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        for state in states:
            await report_last(world, worker, state)
    assert len(world.handed_over()) == 1
    assert last(world)["delivery"] == next(s for s in states if s in ("undelivered", "failed"))


async def test_each_part_counts_for_itself() -> None:
    world = recording()
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200])
    async with world.running() as worker:
        await replied(worker)
        parts = world.item()[record.MESSAGES][1:]
        for entry, part in enumerate(parts, start=1):
            await report(worker, part["turn_id"], "failed", entry, part["message_id"])
    told = world.handed_over()
    assert [b["handoff_summary"] for b in told] == [p["content"] for p in parts]
    assert len(told) == 2


async def test_people_who_have_the_conversation_hear_of_it_too() -> None:
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        world.item()[record.HANDOFF] = True
        await report_last(world, worker, "undelivered")
    assert [b["handoff_reason"] for b in world.handed_over()] == ["undelivered"]


async def test_an_unclear_send_that_failed() -> None:
    world = recording()
    world.channel.seconds = 5
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    world.channel.list_failures = [Permanent("twilio", "the list cannot be read")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(55)
        assert last(world)["delivery"] == "unknown"
        await report(worker, last(world)["turn_id"], "failed")
        await report(worker, last(world)["turn_id"], "failed")
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous", "undelivered"]
    assert last(world)["people_told"] is True


async def test_a_message_that_has_left_the_record() -> None:
    """People still learn that a reply did not arrive, with the newest message that is there."""
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        part = last(world)
        world.item()[record.MESSAGES] = [part]
        await report_last(world, worker, "failed")
    (body,) = world.handed_over()
    assert body["message"]["from"] == f"whatsapp:{CUSTOMER}"
    assert body["message"]["to"] == f"whatsapp:{BUSINESS}"
    assert body["message"]["body"] == "[a message whose text is no longer stored]"
    assert body["handoff_summary"] == part["content"]


async def test_a_state_that_is_none_keeps_nothing_from_people() -> None:
    """The record is shared: no condition takes this for a state, so the report is not written."""
    world = recording()
    async with world.running() as worker:
        await replied(worker)
        last(world)["delivery"] = 7
        for _ in range(2):
            await report_last(world, worker, "failed")
    assert [b["handoff_reason"] for b in world.handed_over()] == ["undelivered"]
    assert (last(world)["delivery"], last(world)["people_told"]) == (7, True)
