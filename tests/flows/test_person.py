"""A person answers: once, alone in the conversation, and told what became of it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from replyd.domain import record, steps
from replyd.domain.events import PersonActed
from replyd.domain.expressions import Append, ItemExists, Step, StepResult
from replyd.domain.messages import ConversationKey
from replyd.errors import Ambiguous, Permanent, Temporary
from replyd.flows.person_answer import Answered, Declined, Request
from tests.support.faults import FaultyStore
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, KEY, Worker, World, message

LONG = "\n\n".join(f"part {n} " + "more words " * 100 for n in range(3))


def asked(text: str = "hello, Ann here", key: str = "k-1", **changes: str) -> Request:
    values = {"text": text, "author": "Ann", "key": key, "account_sid": ACCOUNT} | changes
    return Request(**values)


async def reply(worker: Worker, request: Request | None = None) -> Answered | Declined:
    return await worker.people.reply(KEY, request or asked())


async def answered(worker: Worker, request: Request | None = None) -> Answered:
    answer = await reply(worker, request)
    assert isinstance(answer, Answered), answer
    return answer


def sent(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


def outcomes_of_people(world: World) -> list[tuple[str, str]]:
    return [(e.action, e.outcome) for e in world.events(PersonActed)]


async def test_an_answer_goes_out_and_people_have_the_conversation() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        answer = await answered(worker)
        (part,) = world.channel.accepted
        assert (part.sender, part.recipient) == (f"whatsapp:{BUSINESS}", f"whatsapp:{CUSTOMER}")
        assert (part.account_sid, part.text) == (ACCOUNT, "hello, Ann here")
        assert "turn=person-k-1" in part.status_callback
        assert (answer.delivery, answer.again) == ("accepted", False)
        item = world.item()
        (entry,) = item[record.MESSAGES]
        assert (entry["role"], entry["author"]) == ("human", "Ann")
        assert entry["message_id"] == answer.parts[0].sid
        assert (item[record.HANDOFF], item[record.STATUS]) == (True, "handed_to_human")
        assert not {record.LEASE, record.OUTBOX} & item.keys()
        assert outcomes_of_people(world) == [("reply", "accepted")]
        # From now on the AI is silent.
        await worker.accept(message(1))
        await asyncio.sleep(5)
        assert len(sent(world)) == 1
        assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]


async def test_the_ai_answers_again_once_it_is_released_and_knows_what_was_said() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await answered(worker)
        assert await worker.people.release(KEY, author="Ann")
        await worker.accept(message(1, "thanks"))
        await asyncio.sleep(10)
        assert sent(world) == ["hello, Ann here", "You said: thanks"]
        assert ("assistant", "hello, Ann here") in [
            (line.role, line.text) for line in world.model.requests[0].history
        ]


async def test_the_same_key_again_tells_and_sends_nothing() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        first = await answered(worker, asked(LONG))
        assert first.delivery == "accepted"
        again = await answered(worker, asked(LONG))
        assert again == replace(first, again=True)
        assert len(sent(world)) == len(first.parts) == 3
        assert outcomes_of_people(world) == [("reply", "accepted"), ("reply", "again")]
        other = await reply(worker, asked("something else"))
        assert isinstance(other, Declined)
        assert other.reason == "key_used"


async def test_two_at_once_with_one_key_send_once() -> None:
    world = World()
    world.converse()
    async with world.running(workers=2):
        first, second = await asyncio.gather(*(reply(w) for w in world.workers))
        assert isinstance(first, Answered)
        assert isinstance(second, Answered)
        assert {first.again, second.again} == {False, True}
        assert sent(world) == ["hello, Ann here"]


async def test_two_people_answer_one_after_the_other() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await asyncio.gather(
            answered(worker, asked("one", "k-1")), answered(worker, asked("two", "k-2"))
        )
        assert sorted(sent(world)) == ["one", "two"]
        assert sorted(text for _, text in world.history()) == ["one", "two"]


async def test_a_person_waits_for_the_ais_turn_to_end() -> None:
    world = World()
    world.converse()
    world.model.seconds = 8
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        await answered(worker)
        assert sent(world) == ["You said: message 1", "hello, Ann here"]
        assert [role for role, _ in world.history()] == ["user", "assistant", "human"]


async def test_a_person_does_not_wait_for_ever() -> None:
    world = World()
    world.converse()
    world.model.seconds = 50
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        before = world.clock.elapsed()
        busy = await reply(worker)
        assert isinstance(busy, Declined)
        assert busy.reason == "busy"
        assert 15 < world.clock.elapsed() - before <= 20
        assert not world.item()[record.HANDOFF]
        await asyncio.sleep(60)
        assert sent(world) == ["You said: message 1"]


async def test_what_is_pending_goes_to_people() -> None:
    world = World(window={"quiet_seconds": 5})
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        # The window is open, the account is the message's.
        await answered(worker, asked(account_sid=""))
        await asyncio.sleep(80)
        assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
        assert sent(world) == ["hello, Ann here"]
        assert [role for role, _ in world.history()] == ["human", "user"]
        assert record.PENDING not in world.item() or not world.item()[record.PENDING]


@pytest.mark.parametrize(
    ("attributes", "changes", "reason"),
    [
        ({record.OPTED_OUT: "2026-11-22T10:00:00.000Z"}, {}, "opted_out"),
        ({record.COMPANY_TEL: ""}, {}, "no_business_number"),
        ({}, {"account_sid": ""}, "unknown_account"),
        ({}, {"account_sid": "AC" + "1" * 32}, "unknown_account"),
    ],
)
async def test_who_cannot_be_answered(
    attributes: dict[str, Any], changes: dict[str, str], reason: str
) -> None:
    world = World()
    world.converse(**attributes)
    before = dict(world.item())
    async with world.running() as worker:
        declined = await reply(worker, asked(**changes))
        assert isinstance(declined, Declined)
        assert declined.reason == reason
        assert world.item() == before
        assert sent(world) == []


async def test_nobody_there() -> None:
    world = World()
    async with world.running() as worker:
        declined = await reply(worker)
        assert isinstance(declined, Declined)
        assert declined.reason == "no_conversation"
        assert not await worker.people.hand_off(KEY, author="Ann", reason="")
        assert not await worker.people.release(KEY, author="Ann")


async def test_a_refusal_of_twilios_is_shown_and_the_key_can_be_used_again() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Permanent("twilio", "more than 24 hours old (63016)", code="63016")]
    async with world.running() as worker:
        declined = await reply(worker)
        assert declined == Declined("not_sent", "more than 24 hours old (63016)", "63016")
        item = world.item()
        assert not {record.LEASE, record.OUTBOX} & item.keys()
        assert item[record.MESSAGES] == []
        assert item[record.HANDOFF] is True
        assert (await answered(worker)).delivery == "accepted"


async def test_what_cannot_be_sent_for_now_says_so() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Temporary("twilio", "no connection")]
    async with world.running() as worker:
        declined = await reply(worker)
        assert isinstance(declined, Declined)
        assert declined.reason == "try_again"
        assert (await answered(worker)).again is False
        assert sent(world) == ["hello, Ann here"]


async def test_a_send_without_an_answer_is_not_repeated() -> None:
    world = World(delivery={"record": ["delivered"]})
    world.converse()
    world.channel.failures = [None, Ambiguous("twilio", "no answer")]
    async with world.running() as worker:
        answer = await answered(worker, asked(LONG))
        assert answer.delivery == "unknown"
        assert [p.delivery for p in answer.parts] == ["accepted", "unknown", "not_sent"]
        again = await answered(worker, asked(LONG))
        assert [p.delivery for p in again.parts] == ["accepted", "unknown", "not_sent"]
        assert len(sent(world)) == 2
        assert [e["delivery"] for e in world.item()[record.MESSAGES]] == ["accepted", "unknown"]
        # The callback knows the part by its turn and place.
        await report(worker, "SM77", "delivered", entry=1)
        assert (await answered(worker, asked(LONG))).delivery == "partly_sent"


async def report(worker: Worker, sid: str, state: str, *, entry: int) -> None:
    params = {"MessageSid": sid, "MessageStatus": state, "ErrorCode": ""}
    query = {"p": KEY.partition, "s": KEY.sort, "turn": "person-k-1", "entry": str(entry)}
    await worker.track(params, query)


async def test_delivery_states_reach_the_record() -> None:
    world = World(delivery={"record": ["delivered", "undelivered", "failed"]})
    world.converse()
    async with world.running() as worker:
        answer = await answered(worker)
        await report(worker, answer.parts[0].sid, "undelivered", entry=0)
        assert world.item()[record.MESSAGES][0]["delivery"] == "undelivered"
        assert (await answered(worker)).delivery == "not_delivered"
        (body,) = world.handed_over()
        assert body["handoff_reason"] == "undelivered"
        assert body["handoff_summary"] == "hello, Ann here"


async def test_a_stop_between_two_parts_ends_the_answer() -> None:
    world = World()
    world.converse()
    world.channel.seconds = 2
    async with world.running() as worker:
        asking = asyncio.create_task(answered(worker, asked(LONG)))
        await asyncio.sleep(1)
        await world.store.apply(KEY, steps.mark_opt_out(0, opted_out=True))
        answer = await asking
        assert (answer.delivery, len(sent(world))) == ("partly_sent", 1)
        assert "opted out" in answer.why
        assert len(world.item()[record.MESSAGES]) == 1


async def crashed_while_sending(world: World) -> None:
    """A process ends right behind its send."""
    world.channel.seconds = 5
    world.channel.failures = [None, Ambiguous("twilio", "the process is gone")]
    worker = world.workers[0]
    asking = asyncio.create_task(reply(worker, asked(LONG)))
    await asyncio.sleep(7)
    worker.wires.cut = True
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await world.crash(worker)
    world.channel.seconds, world.channel.failures = 0.1, []
    assert world.item()[record.OUTBOX]["kind"] == "person"


async def test_after_a_crash_the_next_worker_writes_it_down_as_perhaps_sent() -> None:
    world = World()
    world.converse()
    async with world.running(workers=2):
        await crashed_while_sending(world)
        before = len(sent(world))
        (worker,) = world.workers
        await worker.accept(message(1))
        await asyncio.sleep(90)
        assert record.OUTBOX not in world.item()
        assert [role for role, _ in world.history()] == ["human"] * 3 + ["user"]
        assert len(sent(world)) == before
        assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
        assert (await answered(worker, asked(LONG))).delivery == "unknown"


async def test_after_a_crash_a_person_who_asks_again_is_told() -> None:
    world = World()
    world.converse()
    async with world.running(workers=2):
        await crashed_while_sending(world)
        before = len(sent(world))
        (worker,) = world.workers
        busy = await reply(worker, asked(LONG))
        assert isinstance(busy, Declined)
        await asyncio.sleep(60)
        again = await answered(worker, asked(LONG))
        assert (again.delivery, again.again) == ("unknown", True)
        assert len(sent(world)) == before
        assert record.OUTBOX not in world.item()
        # Another answer is not kept waiting by it.
        await answered(worker, asked("and another thing", "k-2"))


async def test_a_person_waits_for_the_handoff_that_was_announced() -> None:
    """Its turn is how the worker knows that the customer was told."""
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        world.item()[record.LAST_TURN] = f"apology-{message(1).sid}"
        answer = await answered(worker)
        assert answer.delivery == "accepted"
        assert [b["message"]["sid"] for b in world.handed_over()] == [message(1).sid]
        assert [role for role, _ in world.history()] == ["user", "human"]


class Meddled(FaultyStore):
    """Another tool writes into the history right before the first INTENT."""

    meddled = False

    async def apply(self, key: ConversationKey, step: Step) -> StepResult:
        if step.name == "intend_person" and not self.meddled:
            self.meddled = True
            by_hand = Append((record.MESSAGES,), ({"role": "human", "content": "by hand"},))
            await super().apply(key, Step("other", ItemExists(), (by_hand,)))
        return await super().apply(key, step)


async def test_what_other_tools_write_meanwhile_is_no_reason_to_refuse() -> None:
    world = World()
    world.store = Meddled()
    world.converse()
    async with world.running() as worker:
        assert (await answered(worker)).delivery == "accepted"
        assert [text for _, text in world.history()] == ["by hand", "hello, Ann here"]


async def test_lost_answers_of_the_table_do_not_send_twice() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        for name in ("take", "intend_person", "commit_person"):
            world.store.lose_after[name] = [Temporary("dynamodb", "no answer")]
        answer = await answered(worker)
        assert (answer.delivery, answer.again) == ("accepted", False)
        assert sent(world) == ["hello, Ann here"]
        assert len(world.item()[record.MESSAGES]) == 1


async def test_taking_over_silences_the_ai_and_says_who() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        assert await worker.people.hand_off(KEY, author="Ann", reason="a refund")
        await worker.accept(message(1))
        await asyncio.sleep(5)
        assert sent(world) == []
        assert world.item()[record.TAKEN_OVER]["author"] == "Ann"
        assert await worker.people.release(KEY, author="Ann")
        assert record.TAKEN_OVER not in world.item()
        assert outcomes_of_people(world) == [("handoff", "done"), ("release", "done")]


async def test_an_answer_that_the_table_could_not_take_is_found_by_the_next_one() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        world.store.fail_before["commit_person"] = [Temporary("dynamodb", "away")] * 30
        answer = await answered(worker)
        assert answer.delivery == "accepted"
        assert world.item()[record.OUTBOX]["turn_id"] == "person-k-1"
        world.store.fail_before["commit_person"] = []
        await asyncio.sleep(60)
        await reply(worker, asked("more", "k-2"))
        assert [text for _, text in world.history()] == ["hello, Ann here", "more"]
        assert sent(world) == ["hello, Ann here", "more"]
