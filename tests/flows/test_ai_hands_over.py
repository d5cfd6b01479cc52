"""The AI gives a conversation to people: once, with a farewell, and stays silent afterwards."""

import asyncio
from collections.abc import Callable

import pytest

from replyd.domain import record
from replyd.domain.expressions import Step, StepResult
from replyd.domain.messages import ConversationKey
from replyd.domain.tools import HAND_OVER, ToolCall
from replyd.errors import Permanent
from replyd.ports import ModelReply, ModelRequest
from tests.support.world import World, message

GOODBYE = "A colleague will write to you."
GIVEN = '{"reason": "wants a person", "summary": "Lee asks about an invoice."}'


def handing_over(text: str = GOODBYE, given: str = GIVEN) -> Callable[[ModelRequest], ModelReply]:
    calls = (ToolCall("call-1", HAND_OVER.name, given),)
    return lambda _: ModelReply(text, "resp_1", "memory", 10, 5, calls=calls)


def world_of(answer: Callable[[ModelRequest], ModelReply], **settings: object) -> World:
    world = World(**settings)  # type: ignore[arg-type]
    world.converse()
    world.model.answer = answer
    return world


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


async def test_the_customer_is_told_people_get_everything_and_the_ai_is_silent() -> None:
    world = world_of(handing_over())
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
        await worker.accept(message(2))
        await asyncio.sleep(30)
    assert texts(world) == [GOODBYE]
    first, second = world.handed_over()
    assert first["handoff_reason"] == "ai_handed_over"
    assert first["handoff_summary"] == "wants a person\n\nLee asks about an invoice."
    assert second["handoff_reason"] == "requested"
    assert len(world.model.requests) == 1
    assert world.item()[record.HANDOFF] is True
    assert world.item()[record.STATUS] == "handed_to_human"
    assert record.FAILURE not in world.item()
    assert world.history() == [
        ("assistant", GOODBYE),
        ("user", "message 1"),
        ("user", "message 2"),
    ]


async def test_without_words_nothing_is_sent() -> None:
    world = world_of(handing_over(""))
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ai_handed_over"]
    assert world.item()[record.HANDOFF] is True


@pytest.mark.parametrize("given", ["", "{}", "[broken", '{"reason": 7}'])
async def test_a_call_with_broken_arguments_is_meant_all_the_same(given: str) -> None:
    world = world_of(handing_over(given=given))
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ai_handed_over"]
    assert world.item()[record.HANDOFF] is True


class _KillsBehind:
    """Ends a worker right behind the step of this name."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.done = world, name, asyncio.Event()
        self.apply = world.store.apply

    async def __call__(self, key: ConversationKey, step: Step) -> StepResult:
        result = await self.apply(key, step)
        if step.name == self.name and not self.done.is_set():
            self.done.set()
            await asyncio.Event().wait()
        return result


@pytest.mark.parametrize("step", ["intend_reply", "commit_apology", "intend_handoff"])
async def test_a_kill_anywhere_loses_neither_reason_nor_flag(step: str) -> None:
    world = world_of(handing_over())
    killer = _KillsBehind(world, step)
    world.store.apply = killer  # type: ignore[method-assign]
    async with world.running() as worker:
        await worker.accept(message(1))
        await killer.done.wait()
        await world.crash(worker)
        world.worker().start()
        await asyncio.sleep(300)
    assert texts(world).count(GOODBYE) <= 1
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "ai_handed_over"
    assert body["handoff_summary"] == "wants a person\n\nLee asks about an invoice."
    assert world.item()[record.HANDOFF] is True
    assert len(world.model.requests) == 1


async def test_a_farewell_that_cannot_be_sent_keeps_nobody_from_people() -> None:
    world = world_of(handing_over())
    world.channel.failures = [Permanent("twilio", "the number is blocked")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ai_handed_over"]


async def test_other_tools_of_the_same_answer_run_first() -> None:
    def answer(_: ModelRequest) -> ModelReply:
        calls = (ToolCall("a", HAND_OVER.name, GIVEN), ToolCall("b", "book", "{}"))
        return ModelReply("", "resp_1", "memory", calls=calls)

    world = world_of(answer, tools={"book": {"description": "Books.", "effects": True}})
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert [name for name, _, _ in world.toolbox.calls] == ["book"]
    (body,) = world.handed_over()
    assert body["handoff_summary"].endswith("The AI has called book: done.")
