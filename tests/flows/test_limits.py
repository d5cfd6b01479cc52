"""Budgets and loops: what the AI may use of a conversation, and what happens at the limit."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.events import TurnEnded
from replyd.errors import KeepsFailing, Temporary
from replyd.ports import ModelReply
from tests.support.world import World, message

ENOUGH = "That is all for today."
PRICE = {"input": 1, "cached_input": 0.1, "output": 10}
DAY = 24 * 60 * 60


def limited(**limits: Any) -> World:
    world = World(limits=limits, prices={"memory": PRICE, "gpt-6-luna": PRICE})
    world.converse()
    return world


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


async def write(world: World, count: int, *, apart: float = 60) -> None:
    """So many messages, each a turn of its own."""
    async with world.running() as worker:
        for number in range(1, count + 1):
            await worker.accept(message(number, f"question {number}"))
            await asyncio.sleep(apart)


async def test_the_record_the_log_and_the_history_tell_what_a_turn_has_cost() -> None:
    world = limited()
    world.model.answer = lambda _: ModelReply("Yes.", "resp_1", "memory-2026", 100, 20, 60)
    await write(world, 1)
    # 40 fresh and 60 cached tokens in, 20 out: 40 + 6 + 200 millionths of a dollar.
    reply = world.item()[record.MESSAGES][-1]
    assert (reply["input_tokens"], reply["cached_tokens"], reply["output_tokens"]) == (100, 60, 20)
    assert reply["microdollars"] == 246
    spent = {"turns": 1, "tokens": 120, "microdollars": 246}
    usage = world.item()[record.USAGE]
    assert (usage["today"], usage["total"], usage["counted"]) == (spent, spent, 0)
    ended = world.events(TurnEnded)[-1]
    assert (ended.input_tokens, ended.cached_tokens, ended.microdollars) == (100, 60, 246)


@pytest.mark.parametrize(
    "limits",
    [
        {"day_turns": 2},
        {"conversation_turns": 2},
        # 15 tokens a turn, and 20 are reserved for the next one.
        {"day_tokens": 49, "reserve_tokens": 20},
        {"conversation_tokens": 49, "reserve_tokens": 20},
        # 60 millionths a turn, 200 reserved.
        {"day_dollars": 0.00031, "reserve_tokens": 20},
        {"conversation_dollars": 0.00031, "reserve_tokens": 20},
    ],
    ids=lambda limits: next(iter(limits)),
)
async def test_at_a_limit_people_get_the_conversation(limits: dict[str, Any]) -> None:
    world = limited(**limits)
    await write(world, 4)
    assert len(texts(world)) == 2
    assert [b["handoff_reason"] for b in world.handed_over()] == ["over_limit"] * 2
    assert len(world.model.requests) == 2
    assert world.item()[record.STATUS] == "handed_to_human"
    assert "is used up" in world.item()[record.FAILURE]["detail"]
    # People may answer, and the AI goes on when there is something left.
    assert world.item()[record.HANDOFF] is False


async def test_a_new_day_has_a_new_budget_and_the_conversation_has_not() -> None:
    world = limited(day_turns=1, conversation_turns=2)
    await write(world, 3, apart=DAY)
    assert len(texts(world)) == 2
    assert world.item()[record.USAGE]["today"]["turns"] == 0 or len(world.handed_over()) == 1


async def test_the_text_is_sent_once_a_day_and_then_nothing() -> None:
    world = limited(day_turns=1, at_limit="text", text=ENOUGH)
    await write(world, 4)
    assert texts(world) == ["You said: question 1", ENOUGH]
    assert world.handed_over() == []
    assert world.item()[record.STATUS] == "reply_withheld"
    assert [c for role, c in world.history() if role == "user"] == [
        f"question {n}" for n in range(1, 5)
    ]
    assert world.outcomes() == ["replied", "replied", "withheld", "withheld"]
    assert world.queue.messages == {}


async def test_silence_settles_and_records_the_messages() -> None:
    world = limited(day_turns=1, at_limit="silence")
    await write(world, 2)
    assert texts(world) == ["You said: question 1"]
    assert world.handed_over() == []
    assert world.item()[record.PENDING] == []
    assert world.item()[record.FAILURE]["reason"] == "over_limit"
    assert world.history()[-1] == ("user", "question 2")


@pytest.mark.parametrize("error", [Temporary, KeepsFailing])
async def test_a_call_whose_answer_never_came_counts_as_what_was_reserved(
    error: type[Temporary],
) -> None:
    world = limited(reserve_tokens=500)
    world.model.failures = [error("openai", "no answer in time")]
    await write(world, 1)
    assert world.outcomes() == ["retry", "replied"]
    assert world.item()[record.USAGE]["total"] == {
        "turns": 1,
        "tokens": 515,
        "microdollars": 5060,
    }


async def test_a_worker_that_was_killed_counts_as_what_was_reserved() -> None:
    world = limited(reserve_tokens=500)
    world.model.seconds = 20
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(10)
        await world.crash(worker)
        world.worker().start()
        await asyncio.sleep(200)
    assert len(texts(world)) == 1
    assert world.item()[record.USAGE]["total"]["tokens"] == 515


async def test_a_conversation_with_people_costs_nothing() -> None:
    world = limited(day_turns=1)
    world.item()[record.HANDOFF] = True
    await write(world, 2)
    assert record.USAGE not in world.item()


async def test_two_bots_are_parted() -> None:
    world = limited(loop_turns=5, loop_seconds=300)
    await write(world, 10, apart=20)
    assert len(texts(world)) == 5
    assert world.handed_over()[0]["handoff_reason"] == "loop"
    assert world.item()[record.HANDOFF] is True
    # The flag is up: people have it until they hand it back.
    assert {b["handoff_reason"] for b in world.handed_over()[1:]} == {"requested"}


async def test_a_slow_talk_is_no_loop() -> None:
    world = limited(loop_turns=5, loop_seconds=300)
    await write(world, 10, apart=80)
    assert len(texts(world)) == 10


async def test_the_same_text_again_and_again_is_a_loop() -> None:
    world = limited(loop_repeats=4)
    async with world.running() as worker:
        for number in range(1, 7):
            await worker.accept(
                message(number, "I am away.", params={"MessageSid": f"SM{number:032x}"})
            )
            await asyncio.sleep(1000)
    assert len(texts(world)) == 3
    assert world.handed_over()[0]["handoff_reason"] == "loop"
