"""What comes between: newer messages, people, opt-outs, other workers, crashes."""

import asyncio

import pytest

from replyd.domain import record
from replyd.domain import steps as protocol
from replyd.errors import Permanent, Temporary
from tests.support.world import KEY, World, message, without_times


async def test_a_redelivered_webhook_changes_nothing() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await worker.accept(message(1))
        await asyncio.sleep(20)
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert world.item()[record.SEQ] == 1
    assert len(world.history()) == 2
    assert world.queue.messages == {}


async def test_a_duplicated_wakeup_changes_nothing() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        body, delay = world.queue.sent[0]
        await world.queue.send(body, delay)
        await world.queue.send(body, delay + 15)
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 1
    assert len(world.model.requests) == 1
    assert world.queue.messages == {}


async def test_two_workers_answer_a_burst_once() -> None:
    world = World()
    world.converse()
    async with world.running(workers=2):
        for number in range(1, 5):
            await world.workers[number % 2].accept(message(number))
            await asyncio.sleep(0.5)
        await asyncio.sleep(300)
    assert len(world.channel.accepted) == 1
    assert [role for role, _ in world.history()] == ["user"] * 4 + ["assistant"]
    assert world.queue.messages == {}


async def test_a_message_during_the_model_call_is_answered_with_the_first() -> None:
    world = World()
    world.converse()
    world.model.seconds = 3
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(3.5)
        await worker.accept(message(2))
        await asyncio.sleep(30)
    assert [without_times(r.turn) for r in world.model.requests] == [
        "message 1",
        "message 1\nmessage 2",
    ]
    assert [without_times(p.text.removeprefix("You said: ")) for p in world.channel.accepted] == [
        "message 1\nmessage 2"
    ]
    assert [role for role, _ in world.history()] == ["user", "user", "assistant"]
    assert world.queue.messages == {}


async def test_after_the_last_restart_the_reply_goes_out_and_the_rest_is_another_turn() -> None:
    world = World(window={"max_restarts": 1})
    world.converse()
    world.model.seconds = 3
    async with world.running() as worker:
        await worker.accept(message(1))
        for number in (2, 3):
            await asyncio.sleep(3.2)
            await worker.accept(message(number))
        await asyncio.sleep(30)
    assert [without_times(r.turn) for r in world.model.requests] == [
        "message 1",
        "message 1\nmessage 2",
        "message 3",
    ]
    assert [role for role, _ in world.history()] == [
        "user",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert world.queue.messages == {}


async def test_a_person_who_takes_over_during_the_model_call_silences_it() -> None:
    world = World()
    world.converse()
    world.model.seconds = 3
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        await world.store.apply(KEY, protocol.set_handoff(True))
        await asyncio.sleep(20)
        assert world.channel.accepted == []
        assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
        await world.store.apply(KEY, protocol.set_handoff(False))
        await worker.accept(message(2))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    # What people got is new to the thread at the vendor, or to the rebuilt context.
    assert [line.text for line in world.model.requests[-1].history] == ["message 1"]


async def test_stop_silences_and_start_resumes() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "hello"))
        await worker.accept(message(2, " stop. "))
        await asyncio.sleep(10)
        assert world.channel.accepted == []
        assert record.OPTED_OUT in world.item()
        assert [b["handoff_reason"] for b in world.handed_over()] == ["opted_out"] * 2
        await worker.accept(message(3, "are you there?"))
        await asyncio.sleep(10)
        assert world.channel.accepted == []
        await worker.accept(message(4, "Start"))
        await asyncio.sleep(10)
    assert record.OPTED_OUT not in world.item()
    assert len(world.channel.accepted) == 1


async def test_stop_during_the_model_call_stops_the_reply() -> None:
    world = World()
    world.converse()
    world.model.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        await worker.accept(message(2, "STOP"))
        await asyncio.sleep(20)
    assert world.channel.accepted == []
    assert {b["handoff_reason"] for b in world.handed_over()} == {"opted_out"}
    assert world.queue.messages == {}


async def test_a_worker_that_dies_in_the_model_call_is_replaced_after_its_lease() -> None:
    world = World()
    world.converse()
    world.model.seconds = 5
    async with world.running(workers=2):
        await world.workers[0].accept(message(1))
        await asyncio.sleep(4)
        running = next(w for w in world.workers if w.buffer.running)
        await world.crash(running)
        world.model.seconds = 1
        await asyncio.sleep(100)
    assert len(world.channel.accepted) == 1
    assert world.history() == [("user", "message 1"), ("assistant", "You said: message 1")]
    assert world.queue.messages == {}


async def test_a_handoff_whose_worker_died_is_repeated() -> None:
    world = World()
    world.converse(handoff_to_human=True)
    world.store.lose_after["intend_handoff"] = [Temporary("dynamodb", "lost")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(100)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]
    assert world.history() == [("user", "message 1")]
    assert world.queue.messages == {}


async def test_a_model_call_longer_than_the_lease_keeps_the_conversation() -> None:
    world = World(turn={"give_up_after_seconds": 600})
    world.converse()
    world.model.seconds = 150
    async with world.running(workers=2):
        await world.workers[0].accept(message(1))
        await asyncio.sleep(10)
        # Somebody else asks meanwhile.
        await world.queue.send(world.queue.sent[0][0], 0)
        await asyncio.sleep(100)
        assert world.item()[record.LEASE]["expires_at"] > world.clock.now() + 10_000
        await asyncio.sleep(200)
    assert len(world.model.requests) == 1
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


@pytest.mark.parametrize(("visibility", "heartbeat"), [(30, 10), (30, 29), (10, 9), (60, 1)])
@pytest.mark.parametrize("arrives_after", [0, 4, 8])
async def test_a_wakeup_stays_hidden_for_as_long_as_it_is_held(
    visibility: int, heartbeat: int, arrives_after: int
) -> None:
    world = World(
        turn={"give_up_after_seconds": 600},
        queues={"visibility_seconds": visibility, "heartbeat_seconds": heartbeat},
    )
    world.converse()
    world.model.seconds = 100
    async with world.running(workers=2):
        await asyncio.sleep(arrives_after)
        await world.workers[0].accept(message(1))
        await asyncio.sleep(90)
        assert [m.receives for m in world.queue.messages.values()] == [1]
        await asyncio.sleep(60)
    assert world.queue.messages == {}


async def test_a_worker_whose_lease_was_taken_sends_nothing() -> None:
    world = World(turn={"give_up_after_seconds": 600})
    world.converse()
    world.model.seconds = 100
    async with world.running(workers=2):
        first, second = world.workers
        await first.accept(message(1))
        await asyncio.sleep(5)
        slow, other = (first, second) if first.buffer.running else (second, first)
        # Its renewals do not arrive, and it does not notice.
        world.store.fail_before["renew"] = [Temporary("dynamodb", "broken")] * 1000
        await asyncio.sleep(70)
        assert slow.buffer.running
        world.model.seconds = 1
        await other.answer(KEY, 1)
        assert len(world.channel.accepted) == 1
        world.store.fail_before.clear()
        await asyncio.sleep(300)
    assert len(world.channel.accepted) == 1
    assert len(world.history()) == 2
    assert "lease_lost" in world.outcomes()
    assert world.queue.messages == {}


async def test_the_wakeup_of_a_message_outside_the_turn_is_kept() -> None:
    world = World(window={"max_restarts": 0})
    world.converse()
    world.model.seconds = 6
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(3)
        await worker.accept(message(2))
        # The first turn has ended, the second runs: were this worker to die now, its wake-up
        # is all that tells of message 2.
        await asyncio.sleep(8)
        assert len(world.history()) == 2
        assert len(world.queue.messages) == 1
        await asyncio.sleep(20)
    assert len(world.history()) == 4
    assert world.queue.messages == {}


async def test_what_a_stopping_worker_still_receives_is_given_back_at_once() -> None:
    world = World()
    worker = world.worker()
    worker.start()
    await asyncio.sleep(1)
    worker.consumer.stop()
    await world.queue.send("{}", 0)
    await worker.stop()
    ((_, queued),) = world.queue.messages.items()
    assert queued.visible_at <= asyncio.get_running_loop().time()


async def test_what_only_waits_does_not_hold_up_a_drain() -> None:
    world = World(window={"quiet_seconds": 60, "max_wait_seconds": 60, "max_messages": 9})
    world.converse()
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    # An early wake-up, held for the rest of the window.
    await world.queue.send(world.queue.sent[0][0], 0)
    await asyncio.sleep(2)
    assert worker.buffer.held == 1
    started = asyncio.get_running_loop().time()
    await worker.stop(grace_seconds=60)
    assert asyncio.get_running_loop().time() - started <= world.queue.wait_seconds
    assert min(m.visible_at for m in world.queue.messages.values()) <= started + 5


async def test_a_long_reply_is_sent_in_parts_and_recorded_part_by_part() -> None:
    world = World()
    world.converse()
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200])
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert [p.text.split()[0] for p in world.channel.accepted] == ["first", "second"]
    entries = world.item()[record.MESSAGES]
    assert [e["message_id"] for e in entries[1:]] == [f"SM{n:032d}" for n in (1, 2)]
    assert [e["delivery"] for e in entries[1:]] == ["accepted"] * 2
    assert ["input_tokens" in e for e in entries] == [False, True, False]
    assert world.store.applied.count("arm") == 1


async def test_a_person_who_takes_over_between_parts_stops_the_rest() -> None:
    world = World()
    world.converse()
    world.channel.seconds = 2
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200, "third " * 200])
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        await world.store.apply(KEY, protocol.set_handoff(True))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert world.item()[record.STATUS] == "reply_failed"
    assert len(world.history()) == 2
    assert world.outcomes() == ["partly_sent"]
    assert world.queue.messages == {}


async def test_a_second_part_that_is_refused_for_now_is_tried_again() -> None:
    world = World()
    world.converse()
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200])
    world.channel.failures = [None, Temporary("twilio", "throttled", delay=3)]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert [p.text.split()[0] for p in world.channel.accepted] == ["first", "second"]
    assert world.outcomes() == ["replied"]


async def test_a_second_part_that_is_refused_for_good_leaves_the_first_recorded() -> None:
    world = World()
    world.converse()
    world.model.answer = lambda _: "\n\n".join(["first " * 200, "second " * 200])
    world.channel.failures = [None, Permanent("twilio", "the customer has blocked us")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert len(world.history()) == 2
    assert world.item()[record.STATUS] == "reply_failed"
    assert world.outcomes() == ["partly_sent"]


async def test_a_full_window_closes_at_once() -> None:
    world = World(window={"quiet_seconds": 8, "max_wait_seconds": 30, "max_messages": 3})
    world.converse()
    async with world.running() as worker:
        for number in (1, 2, 3):
            await worker.accept(message(number))
        await asyncio.sleep(3)
        assert len(world.channel.accepted) == 1
        await asyncio.sleep(30)
    assert len(world.history()) == 4


async def test_a_customer_who_never_stops_typing_is_answered_after_max_wait() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        for number in range(1, 9):
            await worker.accept(message(number))
            await asyncio.sleep(1.5)
        await asyncio.sleep(30)
    first = next(e for e in world.telemetry.events if type(e).__name__ == "TurnClaimed")
    assert first.window_wait_ms <= 10_100  # type: ignore[union-attr]
    assert [role for role, _ in world.history()].count("user") == 8
    assert world.queue.messages == {}


async def test_a_drain_gives_back_what_waits_and_finishes_what_runs() -> None:
    world = World()
    world.converse()
    other = KEY.__class__("+447700900002", "c-2")
    world.converse(other)
    world.model.seconds = 5
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    await asyncio.sleep(3)
    assert worker.buffer.running == 1
    await worker.accept(message(2, sender="whatsapp:+447700900002"))
    await worker.stop()
    assert len(world.channel.accepted) == 1
    async with world.running():
        await asyncio.sleep(30)
    assert len(world.channel.accepted) == 2
    assert world.queue.messages == {}


async def test_a_drain_that_runs_out_of_time_gives_the_turn_to_another_at_once() -> None:
    world = World()
    world.converse()
    world.model.seconds = 50
    worker = world.worker()
    worker.start()
    await worker.accept(message(1))
    await asyncio.sleep(5)
    await worker.stop(grace_seconds=1)
    world.workers.clear()
    item = world.item()
    assert record.LEASE not in item
    assert item[record.ATTEMPTS] == 0
    world.model.seconds = 1
    async with world.running():
        await asyncio.sleep(5)
        assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_the_window_of_a_start_message_is_not_closed_by_the_opt_out_it_ends() -> None:
    world = World()
    world.converse(reply_opted_out="2026-11-22T10:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1, "START"))
        # Early, where the opt-out would have it at once.
        assert world.queue.sent[0][1] == 1
        await asyncio.sleep(20)
    assert world.store.applied == ["stage", "claim", "intend_reply", "commit"]
