"""What fails: the model, the channel, the table, the queue."""

import asyncio
import json

import pytest

from replyd.domain import record
from replyd.domain.events import DependencyFailed, PoisonReceived
from replyd.errors import Busy, DependencyDown, Permanent, Temporary
from replyd.ports import ModelReply, ModelRequest
from tests.support.world import KEY, World, message, without_times


async def test_a_model_that_fails_for_now_is_asked_again() -> None:
    world = World()
    world.converse()
    world.model.failures = [Temporary("openai", "timeout"), Busy("openai", "throttled", delay=7)]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert world.outcomes() == ["retry", "retry", "replied"]
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_a_further_message_does_not_shorten_the_pause() -> None:
    world = World()
    world.converse()
    world.model.failures = [Busy("openai", "throttled", delay=20)]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        await worker.accept(message(2))
        await asyncio.sleep(10)
        assert len(world.model.requests) == 1
        await asyncio.sleep(20)
    assert without_times(world.model.requests[1].turn) == "message 1\nmessage 2"
    assert len(world.channel.accepted) == 1


async def test_after_the_last_attempt_people_get_it() -> None:
    world = World(turn={"max_attempts": 3})
    world.converse()
    world.model.failures = [Temporary("openai", "timeout")] * 10
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(120)
    assert len(world.model.requests) == 3
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "failed"
    assert world.item()[record.STATUS] == "reply_failed"
    assert world.queue.messages == {}


async def test_a_long_outage_hands_over_after_give_up_and_not_before() -> None:
    world = World()
    world.converse()
    world.model.failures = [DependencyDown("openai", "unreachable")] * 1000
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(170)
        assert world.handed_over() == []
        await asyncio.sleep(60)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["too_old"]
    assert world.queue.messages == {}


async def test_a_request_that_the_model_never_answers_goes_to_people_at_once() -> None:
    world = World()
    world.converse()
    world.model.failures = [Permanent("openai", "the model refused")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "failed"
    assert body["handoff_detail"] == "openai: the model refused"
    assert record.OUTBOX not in world.item()


async def test_a_send_that_is_refused_for_good_goes_to_people() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Permanent("twilio", "the customer has blocked us", code="63032")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
    assert world.channel.accepted == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]
    assert world.history() == [("user", "message 1")]
    assert record.THREAD_ID in world.item()
    assert world.item()[record.THREAD_ID] == ""


async def test_a_throttled_first_part_is_sent_later_without_asking_the_model_again() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Busy("twilio", "throttled", delay=4)] * 2
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert len(world.model.requests) == 1
    assert len(world.channel.accepted) == 1
    assert world.outcomes() == ["retry", "retry", "replied"]
    assert world.queue.messages == {}


@pytest.mark.parametrize("step", ["stage", "claim", "intend_reply", "commit"])
async def test_a_step_whose_answer_is_lost_happens_once(step: str) -> None:
    world = World()
    world.converse()
    world.store.lose_after[step] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        try:
            await worker.accept(message(1))
        except Temporary:
            await worker.accept(message(1))
        await asyncio.sleep(200)
    assert len(world.channel.accepted) == 1
    assert world.history() == [("user", "message 1"), ("assistant", "You said: message 1")]
    assert not {record.LEASE, record.OUTBOX} & world.item().keys()
    assert world.queue.messages == {}


@pytest.mark.parametrize(
    "step", ["stage", "claim", "intend_reply", "arm", "commit", "intend_handoff", "release"]
)
async def test_a_step_that_a_retry_sends_twice_happens_once(step: str) -> None:
    world = World()
    world.converse()
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200])
    if step == "release":
        world.model.failures = [Temporary("openai", "timeout")]
    if step == "intend_handoff":
        world.model.failures = [Permanent("openai", "the model refused")]
    world.store.repeat[step] = 1
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert world.store.repeat[step] == 0
    assert world.item()[record.PENDING] == []
    assert not {record.LEASE, record.OUTBOX} & world.item().keys()
    assert world.queue.messages == {}
    if step == "intend_handoff":
        assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]
    else:
        assert [p.text.split()[0] for p in world.channel.accepted] == ["first", "second"]
        assert len(world.history()) == 3
        assert "lease_lost" not in world.outcomes()


@pytest.mark.parametrize("step", ["claim", "intend_reply", "commit"])
async def test_a_step_that_fails_for_now_is_tried_again(step: str) -> None:
    world = World()
    world.converse()
    world.store.fail_before[step] = [DependencyDown("dynamodb", "unreachable")] * 2
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(200)
    assert len(world.channel.accepted) == 1
    assert len(world.history()) == 2
    assert world.queue.messages == {}


async def test_a_commit_that_the_table_finds_invalid_is_made_without_texts() -> None:
    world = World()
    world.converse(messages="not a list")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert len(world.channel.accepted) == 1
    assert world.item()[record.MESSAGES] == "not a list"
    assert world.item()[record.PENDING] == []
    assert [e.operation for e in world.events(DependencyFailed)] == ["commit"]
    assert world.queue.messages == {}


async def test_a_wakeup_that_cannot_be_sent_is_not_acknowledged_but_answered() -> None:
    world = World()
    world.converse()
    world.queue.fail["send"] = [DependencyDown("sqs", "unreachable")]
    async with world.running() as worker:
        with pytest.raises(DependencyDown):
            await worker.accept(message(1))
        await asyncio.sleep(20)
        assert len(world.channel.accepted) == 1
        # Twilio delivers it again.
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_a_stage_whose_answer_is_lost_is_answered_though_nobody_delivers_it_again() -> None:
    world = World()
    world.converse()
    world.store.lose_after["stage"] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        with pytest.raises(Temporary):
            await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1


async def test_a_stage_that_did_not_happen_leaves_nothing_behind() -> None:
    world = World()
    world.converse()
    world.store.fail_before["stage"] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        with pytest.raises(Temporary):
            await worker.accept(message(1))
        await asyncio.sleep(20)
        assert worker.buffer.held == 0
    assert world.channel.accepted == []


async def test_a_webhook_that_is_cut_off_before_its_wakeup_is_answered() -> None:
    world = World()
    world.converse()
    world.queue.send_seconds = 60
    async with world.running() as worker:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await worker.accept(message(1))
        world.queue.send_seconds = 0
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1


async def test_a_drain_does_not_wait_for_the_pause_of_a_failed_turn() -> None:
    world = World()
    world.converse()
    world.model.seconds = 3
    world.model.failures = [Busy("openai", "throttled", delay=60)]
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    await asyncio.sleep(4)
    assert worker.buffer.running == 1
    started = asyncio.get_running_loop().time()
    await worker.stop(grace_seconds=75)
    ended = asyncio.get_running_loop().time()
    assert ended - started < 10
    assert [m.visible_at <= ended for m in world.queue.messages.values()] == [True]


async def test_a_wakeup_of_an_earlier_life_of_the_record_ends() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await worker.accept(message(2))
        world.store.items.clear()
        world.converse()
        await worker.accept(message(3))
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_the_tokens_of_a_kept_draft_are_recorded() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Busy("twilio", "throttled")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    reply = world.item()[record.MESSAGES][1]
    assert (reply["model"], reply["input_tokens"], reply["output_tokens"]) == ("memory", 10, 5)


async def test_a_receive_that_fails_is_tried_again() -> None:
    world = World()
    world.converse()
    world.queue.fail["receive"] = [Temporary("sqs", "broken")] * 3
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(40)
    assert len(world.channel.accepted) == 1


async def test_a_delete_that_fails_costs_time_only() -> None:
    world = World()
    world.converse()
    world.queue.fail["delete"] = [Temporary("sqs", "broken")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(90)
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_a_poison_body_ends_in_the_dead_letter_queue() -> None:
    world = World()
    async with world.running():
        await world.queue.send("not json", 0)
        await asyncio.sleep(600)
    assert world.queue.dead == ["not json"]
    reports = world.events(PoisonReceived)
    assert [r.receives for r in reports] == list(range(1, 11))


async def test_a_body_of_a_two_lambda_handler_is_staged_and_answered() -> None:
    world = World()
    world.converse()
    params = {
        "MessageSid": [message(1).sid],
        "From": ["whatsapp:" + KEY.partition],
        "To": "whatsapp:+447700900100",
        "Body": ["from the old handler"],
        "AccountSid": message(1).account_sid,
    }
    body = {"twilio_message": params, "conversation_id": "c-1", "channel": "whatsapp"}
    async with world.running():
        await world.queue.send(json.dumps(body), 0)
        await asyncio.sleep(30)
    assert world.history()[0] == ("user", "from the old handler")
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_a_large_message_lies_apart_until_it_is_settled() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "x" * 9000))
        (pending,) = world.item()[record.PENDING]
        assert pending["body_ref"] == f"inbound#{message(1).sid}"
        assert "message" not in pending
        await asyncio.sleep(20)
    assert world.history()[0] == ("user", "x" * 9000)
    assert world.store.side == {}


async def test_one_conversation_that_cannot_be_read_stops_no_other() -> None:
    world = World()
    world.converse()
    world.converse(KEY.__class__("+447700900002", "c-2"))
    answer = world.model.answer

    def broken(request: ModelRequest) -> str | ModelReply:
        if request.conversation_id == "c-1":
            raise ZeroDivisionError
        return answer(request)

    world.model.answer = broken
    async with world.running() as worker:
        await worker.accept(message(1))
        await worker.accept(message(2, sender="whatsapp:+447700900002"))
        await asyncio.sleep(30)
        assert [p.recipient for p in world.channel.accepted] == ["whatsapp:+447700900002"]
    assert sorted(set(world.outcomes())) == ["bug", "replied"]
