"""Tools that the model calls: results, failures, and effects that happen at most once."""

import asyncio
from collections.abc import Callable

import pytest

from replyd.domain import record
from replyd.domain.events import ToolRan
from replyd.domain.tools import ToolCall
from replyd.errors import Ambiguous, Busy, Permanent, Temporary
from replyd.ports import ModelReply, ModelRequest
from tests.support.world import KEY, World, message

TOOLS = {
    "book": {"description": "Books a table.", "effects": True},
    "look": {"description": "Looks something up."},
}


def calling(*names: str, then: str = "Done.") -> Callable[[ModelRequest], ModelReply]:
    """A model that calls these tools at once, and answers when it has their results."""

    def answer(request: ModelRequest) -> ModelReply:
        if request.results:
            heard = " | ".join(result.output for result in request.results)
            return ModelReply(f"{then} {heard}", "resp_2", "memory", 20, 7)
        calls = tuple(ToolCall(f"call-{i}", name, "{}") for i, name in enumerate(names))
        return ModelReply("", "resp_1", "memory", 10, 5, calls=calls)

    return answer


def world_with_tools(**settings: object) -> World:
    world = World(tools=TOOLS, **settings)  # type: ignore[arg-type]
    world.converse()
    world.toolbox.functions = {
        "book": lambda *_: "table 4",
        "look": lambda *_: "we are open",
    }
    return world


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


def ran(world: World) -> list[str]:
    return [name for name, _, _ in world.toolbox.calls]


async def answered(world: World, seconds: float = 30) -> None:
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(seconds)


async def test_the_model_gets_the_results_in_the_order_of_its_calls() -> None:
    world = world_with_tools()
    world.model.answer = calling("look", "book", "look")
    await answered(world)
    assert texts(world) == ["Done. we are open | table 4 | we are open"]
    (question, reply) = world.item()[record.MESSAGES]
    assert [t["name"] for t in reply["tools"]] == ["look", "look", "book"]
    assert reply["tools"][-1] == {"name": "book", "outcome": "done", "result": "table 4"}
    assert (reply["input_tokens"], reply["output_tokens"]) == (30, 12)
    assert record.TOOLS not in world.item()
    assert "tools" not in question


async def test_a_tool_knows_for_whom_and_for_which_turn_it_runs() -> None:
    world = world_with_tools()
    world.model.answer = calling("book")
    await answered(world)
    ((_, _, call),) = world.toolbox.calls
    assert (call.conversation_id, call.customer) == (KEY.sort, KEY.partition)
    assert call.turn == message(1).sid


@pytest.mark.parametrize(
    ("failure", "outcome", "told"),
    [
        (Temporary("tools", "no answer in time"), "failed", "It failed: no answer in time."),
        (Permanent("tools", "the shop is closed"), "failed", "It failed: the shop is closed."),
        (Busy("tools", "too many calls", delay=9), "failed", "It failed: too many calls."),
    ],
)
async def test_a_tool_that_fails_is_told_to_the_model(
    failure: Temporary, outcome: str, told: str
) -> None:
    world = world_with_tools()
    world.model.answer = calling("look")
    world.toolbox.failures = [failure]
    await answered(world)
    assert texts(world) == [f"Done. {told}"]
    assert [e.outcome for e in world.events(ToolRan)] == [outcome]


async def test_a_tool_that_is_not_there_or_gets_wrong_arguments_is_told_to_the_model() -> None:
    world = world_with_tools()

    def answer(request: ModelRequest) -> ModelReply:
        if request.results:
            return ModelReply("Sorry.", "resp_2", "memory")
        calls = (ToolCall("a", "fly", "{}"), ToolCall("b", "book", "[broken"))
        return ModelReply("", "resp_1", "memory", calls=calls)

    world.model.answer = answer
    await answered(world)
    told = [r.output for r in world.model.requests[-1].results]
    assert all(text.startswith("Not called: ") for text in told)
    assert "fly" in told[0]
    assert world.toolbox.calls == []
    assert [e.tool for e in world.events(ToolRan)] == ["unknown", "book"]


async def test_a_model_that_never_stops_calling_gives_the_turn_to_people() -> None:
    world = world_with_tools(ai={"max_tool_rounds": 3})
    calls = (ToolCall("a", "look", "{}"),)
    world.model.answer = lambda _: ModelReply("", "resp_1", "memory", calls=calls)
    await answered(world)
    assert texts(world) == []
    assert ran(world) == ["look"] * 3
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "failed"
    assert "tools 3 times" in body["handoff_detail"]


# --- effects, at most once ----------------------------------------------------------------------


async def test_effects_happen_once_in_a_turn_whatever_the_model_asks() -> None:
    world = world_with_tools()
    world.model.answer = calling("book", "book")
    await answered(world)
    assert ran(world) == ["book"]
    assert texts(world) == [
        "Done. table 4 | It ran before for these messages and runs only once. table 4"
    ]


async def test_the_next_turn_may_have_them_again() -> None:
    world = world_with_tools()
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
        await worker.accept(message(2))
        await asyncio.sleep(30)
    assert ran(world) == ["book", "book"]


async def test_effects_do_not_happen_again_after_the_model_failed_behind_them() -> None:
    world = world_with_tools()
    failures = [Temporary("openai", "HTTP 500")]

    def answer(request: ModelRequest) -> ModelReply:
        if request.results and failures:
            raise failures.pop()
        return calling("book")(request)

    world.model.answer = answer
    await answered(world)
    assert ran(world) == ["book"]
    assert texts(world) == ["Done. It ran before for these messages and runs only once. table 4"]
    assert world.outcomes() == ["retry", "replied"]


async def test_effects_do_not_happen_again_when_newer_messages_restart_the_turn() -> None:
    world = world_with_tools()
    world.model.seconds = 5
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        # The window closes after 2 s, the model calls the tool after 5 more.
        await asyncio.sleep(9)
        assert ran(world) == ["book"]
        await worker.accept(message(2))
        await asyncio.sleep(60)
    assert ran(world) == ["book"]
    assert len(texts(world)) == 1
    assert world.item()[record.MESSAGES][-1]["turn_id"]


async def test_effects_of_a_worker_that_was_killed_do_not_happen_again() -> None:
    world = world_with_tools()
    world.toolbox.seconds = 5
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        # Window 2 s, model 1 s: the tool is under way.
        await asyncio.sleep(5)
        assert ran(world) == ["book"]
        await world.crash(worker)
        world.worker().start()
        await asyncio.sleep(180)
    assert ran(world) == ["book"]
    (text,) = texts(world)
    assert "It may have happened or not." in text


async def test_effects_that_may_have_happened_are_never_tried_again() -> None:
    world = world_with_tools()
    world.model.answer = calling("book", "book")
    world.toolbox.failures = [Ambiguous("tools", "no answer in time")]
    await answered(world)
    assert ran(world) == ["book"]
    assert [e.outcome for e in world.events(ToolRan)] == ["unknown", "repeated"]
    (text,) = texts(world)
    assert text.count("It may have happened or not.") == 2


async def test_what_has_begun_is_written_down_before_a_newer_message_restarts_the_turn() -> None:
    world = world_with_tools()
    world.toolbox.seconds = 4
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(5)
        assert ran(world) == ["book"]
        # The tool is under way, and its turn is of no use any more.
        await worker.accept(message(2))
        await asyncio.sleep(60)
    assert ran(world) == ["book"]
    assert texts(world) == ["Done. It ran before for these messages and runs only once. table 4"]


async def test_no_effects_once_people_have_taken_over() -> None:
    world = world_with_tools()
    world.model.seconds = 5
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        world.item()[record.HANDOFF] = True
        await asyncio.sleep(30)
    assert ran(world) == []
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["requested"]


async def test_people_learn_which_effects_there_were() -> None:
    world = world_with_tools()
    world.model.seconds = 5
    world.model.answer = calling("book")
    async with world.running() as worker:
        await worker.accept(message(1))
        # Called at 7 s, and its result is with the model.
        await asyncio.sleep(9)
        world.item()[record.HANDOFF] = True
        await asyncio.sleep(30)
    assert ran(world) == ["book"]
    (body,) = world.handed_over()
    assert body["handoff_summary"] == "The AI has called book: done."
    assert world.item()[record.MESSAGES][-1]["tools"][0]["name"] == "book"
    assert record.TOOLS not in world.item()
