"""RECOVER: sends without an answer, and workers that end while they send."""

import asyncio

import pytest

from replyd.domain import record
from replyd.domain.events import SendReconciled, TurnEnded
from replyd.domain.messages import OutboundPart
from replyd.errors import Ambiguous, DependencyDown, Permanent, Temporary
from replyd.ports import ModelRequest
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, KEY, World, message

UNCLEAR = Ambiguous("twilio", "no answer in time")
# `twilio.timeout_seconds` is 10, and the grace twice that.
GRACE = 20
PARTS = ("first " * 200, "second " * 200, "third " * 200)


def long_answer(request: ModelRequest) -> str:
    return "\n\n".join(part.strip() for part in PARTS)


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


def reconciled(world: World) -> list[tuple[int, int, str]]:
    return [(e.accepted, e.parts, e.outcome) for e in world.events(SendReconciled)]


async def test_an_accepted_send_without_an_answer_is_found_in_the_list() -> None:
    world = World()
    world.converse()
    world.channel.failures = [UNCLEAR]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        assert record.OUTBOX in world.item()
        await asyncio.sleep(GRACE)
    assert texts(world) == ["You said: message 1"]
    reply = world.item()[record.MESSAGES][-1]
    assert (reply["message_id"], reply["delivery"]) == (f"SM{1:032d}", "accepted")
    assert world.item()[record.STATUS] == "ai_response_sent"
    assert world.item()[record.THREAD_ID] == "resp_1"
    assert world.handed_over() == []
    assert reconciled(world) == [(1, 1, "accepted")]
    assert world.queue.messages == {}


async def test_a_dropped_send_goes_out_again_with_the_same_draft() -> None:
    world = World()
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == ["You said: message 1"]
    assert len(world.model.requests) == 1
    assert world.history() == [("user", "message 1"), ("assistant", "You said: message 1")]
    assert len({m["turn_id"] for m in world.item()[record.MESSAGES]}) == 1
    assert reconciled(world) == [(0, 1, "sent_again")]


async def test_a_send_that_arrives_late_is_not_repeated() -> None:
    world = World()
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [GRACE - 1.0]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == ["You said: message 1"]
    assert world.outcomes() == ["replied"]


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "dropped"])
async def test_a_reply_in_parts_resumes_at_the_first_that_was_not_accepted(accepted: bool) -> None:
    world = World()
    world.converse()
    world.model.answer = long_answer
    world.channel.failures = [None, UNCLEAR]
    world.channel.arrivals = [0 if accepted else None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == [part.strip() for part in PARTS]
    assert [text for _, text in world.history()[1:]] == texts(world)
    assert [m["message_id"] for m in world.item()[record.MESSAGES][1:]] == [
        f"SM{n:032d}" for n in (1, 2, 3)
    ]
    assert reconciled(world) == [(2 if accepted else 1, 3, "resumed")]


async def test_two_parts_with_the_same_text_are_two_messages() -> None:
    world = World()
    world.converse()
    same = "the same " * 100
    world.model.answer = lambda _: f"{same}\n\n{same}"
    world.channel.failures, world.channel.arrivals = [None, UNCLEAR], [None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == [same.strip()] * 2


async def test_people_who_take_over_meanwhile_stop_what_was_not_sent() -> None:
    world = World()
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        world.item()[record.HANDOFF] = True
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
    assert world.history() == [("user", "message 1")]


async def test_people_who_take_over_meanwhile_stop_the_other_parts() -> None:
    world = World()
    world.converse()
    world.model.answer = long_answer
    world.channel.failures, world.channel.arrivals = [None, UNCLEAR], [None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        world.item()[record.HANDOFF] = True
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == [PARTS[0].strip()]
    assert [text for _, text in world.history()] == ["message 1", PARTS[0].strip()]
    assert world.item()[record.FAILURE]["reason"] == "partly_sent"
    assert world.outcomes() == ["partly_sent"]


async def test_newer_messages_replace_a_draft_that_was_not_sent() -> None:
    world = World()
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        await worker.accept(message(2))
        await asyncio.sleep(10 + GRACE)
    assert len(texts(world)) == 1
    assert "message 2" in texts(world)[0]
    assert [role for role, _ in world.history()] == ["user", "user", "assistant"]


async def test_a_worker_that_dies_while_sending_is_replaced_and_nothing_goes_out_twice() -> None:
    for accepted in (True, False):
        world = World()
        world.converse()
        world.channel.seconds = 5
        async with world.running(workers=2):
            first, second = world.workers
            await first.accept(message(1))
            await asyncio.sleep(7 if accepted else 4)
            assert world.item()[record.OUTBOX]["kind"] == "reply"
            running = first if first.buffer.running else second
            sending = world.channel.accepted
            if accepted:
                # It arrives, and its answer does not.
                world.store.fail_before["commit"] = [Temporary("dynamodb", "no answer")] * 20
                await asyncio.sleep(3)
                assert len(sending) == 1
            await world.crash(running)
            world.store.fail_before["commit"].clear()
            world.channel.seconds = 0.1
            await asyncio.sleep(60 + 2 + GRACE + 20)
        assert texts(world) == ["You said: message 1"]
        assert world.history() == [("user", "message 1"), ("assistant", "You said: message 1")]
        assert world.handed_over() == []
        assert world.queue.messages == {}


async def test_a_list_that_cannot_be_read_for_now_is_read_later() -> None:
    world = World()
    world.converse()
    world.channel.failures = [UNCLEAR]
    world.channel.list_failures = [Temporary("twilio", "no answer in time")] * 2
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + 3 * GRACE + 30)
    assert texts(world) == ["You said: message 1"]
    assert world.outcomes() == ["retry", "retry", "replied"]
    assert world.handed_over() == []


async def test_a_list_that_can_never_be_read_leaves_it_to_people() -> None:
    world = World()
    world.converse()
    world.channel.failures = [UNCLEAR]
    world.channel.list_failures = [Permanent("twilio", "HTTP 403")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(300)
    assert len(texts(world)) == 1
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "ambiguous"
    assert "You said: message 1" in body["handoff_summary"]
    assert "may have reached the customer" in body["handoff_summary"]
    assert world.item()[record.STATUS] == "reply_failed"
    assert world.item()[record.FAILURE]["reason"] == "ambiguous"
    assert world.item()[record.MESSAGES][-1]["delivery"] == "unknown"
    assert world.queue.messages == {}


async def test_a_list_that_can_never_be_read_and_resend() -> None:
    world = World(turn={"on_ambiguous": "resend"})
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [None]
    world.channel.list_failures = [Permanent("twilio", "HTTP 403")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == ["You said: message 1"]
    assert reconciled(world) == [(0, 1, "sent_again_unsure")]
    assert world.outcomes() == ["replied"]


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "dropped"])
async def test_a_message_that_nobody_knows_may_be_the_reply(accepted: bool) -> None:
    """Another tool's, or ours with its text changed on the way: never sent on a guess."""
    world = World()
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR], [0 if accepted else None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(8)
        other = OutboundPart(ACCOUNT, f"whatsapp:{BUSINESS}", f"whatsapp:{CUSTOMER}", "Our offer")
        await world.channel.send(other)
        await asyncio.sleep(10 + GRACE)
    reasons = [b["handoff_reason"] for b in world.handed_over()]
    if accepted:
        assert (reasons, texts(world)) == ([], ["You said: message 1", "Our offer"])
    else:
        assert (reasons, texts(world)) == (["ambiguous"], ["Our offer"])


async def test_an_outage_of_the_channel_ends_at_people() -> None:
    """Everything that is sent may have arrived, and nothing can be read: the customer does not
    wait longer than `turn.give_up_after_seconds` and a grace."""
    world = World()
    world.converse()
    world.channel.failures = [UNCLEAR]
    world.channel.list_failures = [DependencyDown("twilio", "unreachable")] * 100
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(180 + GRACE + 60)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous"]
    assert len(texts(world)) == 1


async def test_attempts_used_up_over_an_unsent_reply_end_at_people() -> None:
    world = World(turn={"max_attempts": 2, "give_up_after_seconds": 1000})
    world.converse()
    world.channel.failures, world.channel.arrivals = [UNCLEAR] * 9, [None] * 9
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(500)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]
    assert world.history() == [("user", "message 1")]
    assert [e.outcome for e in world.events(SendReconciled)][-1] == "handed_over"


async def test_attempts_used_up_over_a_reply_sent_in_part() -> None:
    """People get to know which parts the customer has."""
    world = World(turn={"max_attempts": 2, "give_up_after_seconds": 1000})
    world.converse()
    world.model.answer = long_answer
    world.channel.failures, world.channel.arrivals = [None, *[UNCLEAR] * 9], [None] * 9
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(500)
    assert texts(world) == [PARTS[0].strip()]
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "ambiguous"
    assert body["handoff_detail"].startswith("1 of 3 parts of the reply were sent")
    assert "This has not been sent:\nsecond" in body["handoff_summary"]
    assert [text for _, text in world.history()] == ["message 1", PARTS[0].strip()]


async def test_a_callback_spares_the_list() -> None:
    world = World(delivery={"record": ["sent"]})
    world.converse()
    world.channel.failures = [UNCLEAR]
    world.channel.list_failures = [Permanent("twilio", "HTTP 403")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        outbox = world.item()[record.OUTBOX]
        sid = f"SM{1:032d}"
        params = {"MessageSid": sid, "MessageStatus": "sent"}
        query = {"p": KEY.partition, "s": KEY.sort, "turn": outbox["turn_id"], "entry": "1"}
        await worker.track(params, query)
        await asyncio.sleep(10 + GRACE)
    assert world.channel.list_failures != []
    reply = world.item()[record.MESSAGES][-1]
    assert (reply["message_id"], reply["delivery"]) == (sid, "sent")
    assert world.handed_over() == []


async def test_an_arm_whose_answers_get_lost_is_repeated() -> None:
    world = World()
    world.converse()
    world.model.answer = long_answer
    world.store.lose_after["arm"] = [Temporary("dynamodb", "no answer in time")] * 2
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert texts(world) == [part.strip() for part in PARTS]
    assert world.outcomes() == ["replied"]


async def test_arms_that_cannot_be_written_leave_the_rest_to_recover() -> None:
    world = World()
    world.converse()
    world.model.answer = long_answer
    world.store.fail_before["arm"] = [Temporary("dynamodb", "no answer in time")] * 3
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30 + GRACE)
    assert texts(world) == [part.strip() for part in PARTS]
    assert world.outcomes() == ["retry", "replied"]
    assert len(world.model.requests) == 1


async def test_a_drain_while_a_send_is_looked_up_leaves_it_to_the_next() -> None:
    world = World()
    world.converse()
    world.channel.failures = [UNCLEAR]
    async with world.running(workers=2):
        await world.workers[0].accept(message(1))
        await asyncio.sleep(8)
        running = next(w for w in world.workers if w.buffer.running)
        world.workers.remove(running)
        await running.stop(grace_seconds=1)
        assert record.OUTBOX in world.item()
        await asyncio.sleep(10 + GRACE)
    assert texts(world) == ["You said: message 1"]
    assert [e.outcome for e in world.events(TurnEnded)] == ["retry", "replied"]


async def test_an_outbox_without_parts_is_left_to_people() -> None:
    """Another version, or another writer."""
    world = World()
    world.converse()
    world.item()[record.OUTBOX] = {"turn_id": "t", "kind": "reply", "seqs": [1], "entries": []}
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ambiguous"]
    assert record.OUTBOX not in world.item()
    assert world.queue.messages == {}
