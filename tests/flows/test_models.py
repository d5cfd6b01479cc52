"""The router of models, on virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from replyd.adapters.memory import LoopClock, MemoryModel
from replyd.domain.breaker import BreakerPolicy
from replyd.domain.tools import ToolCall, ToolResult
from replyd.errors import (
    Busy,
    DependencyDown,
    DependencyError,
    KeepsFailing,
    Permanent,
    Temporary,
)
from replyd.flows.models import GONE, Backend, Models
from replyd.flows.pacing import KeyPace
from replyd.ports import File, Line, ModelReply, ModelRequest

HISTORY = (Line("user", "hello"), Line("assistant", "good morning"), Line("user", "hm"))
REQUEST = ModelRequest(
    turn="what now?",
    thread_id="resp_0",
    unseen=HISTORY[2:],
    history=HISTORY,
    conversation_id="c-1",
    business="+447700900100",
    again=True,
)
TIMEOUT = Temporary("openai", "no answer in time", code="timeout")
DOWN = DependencyDown("openai", "the API key is refused", code="invalid_api_key")
BUSY = Busy("openai", "throttled", delay=7)
REFUSED = Permanent("openai", "the request is refused")
OFF = DependencyDown("openai", "the Assistants API was shut down", code=GONE)
POLICY = BreakerPolicy(failures=3, seconds=30)


def answers(name: str, *, tools: bool) -> Callable[[ModelRequest], str | ModelReply]:
    """With `tools` it wants one first, whose call bears its name."""

    def answer(request: ModelRequest) -> str | ModelReply:
        if tools and not request.results:
            return ModelReply("", "resp_tool", "memory", calls=(ToolCall(name, "look", "{}"),))
        return f"{name}: {request.turn}" + "".join(r.output for r in request.results)

    return answer


@dataclass
class Office:
    """Some profiles, a model each, and what was told of them."""

    fallbacks: dict[str, str] = field(default_factory=dict)
    on_gone: dict[str, str] = field(default_factory=dict)
    tools: bool = False
    names: str = "abc"
    concurrency: int = 10
    keys: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[str, bool, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.of = {name: MemoryModel(answers(name, tools=self.tools)) for name in self.names}
        keys = dict(zip(self.names, self.keys or self.names, strict=True))
        clock = LoopClock()
        self.paces = {
            key: KeyPace("openai", clock, concurrency=self.concurrency, **self.limits)
            for key in keys.values()
        }
        self.models = Models(
            {
                name: Backend(
                    model, keys[name], self.fallbacks.get(name, ""), self.on_gone.get(name, "")
                )
                for name, model in self.of.items()
            },
            default="a",
            paces=self.paces,
            policy=POLICY,
            clock=clock,
            on_change=self.tell,
        )

    def tell(self, profile: str, open: bool, reason: str) -> None:  # noqa: A002
        self.told.append((profile, open, reason))

    def fail(self, name: str, *errors: DependencyError) -> None:
        self.of[name].failures += errors

    def asked(self) -> dict[str, int]:
        return {name: len(m.requests) for name, m in self.of.items() if m.requests}

    async def ask(self, **changes: Any) -> ModelReply:
        return await self.models.respond(replace(REQUEST, **changes))

    async def error(self, kind: type[DependencyError] = DependencyError, **changes: Any) -> Any:
        with pytest.raises(kind) as caught:
            await self.ask(**changes)
        assert type(caught.value) is kind or kind is DependencyError
        assert caught.value.__cause__ is caught.value.__context__ is None
        return caught.value


# --- whose model -------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "name"), [("", "a"), ("a", "a"), ("b", "b"), ("zz", "a")])
async def test_a_profile_has_its_own_model(profile: str, name: str) -> None:
    office = Office()
    reply = await office.ask(profile=profile)
    assert reply.text == f"{name}: what now?"
    assert reply.thread_id == "resp_1"
    assert office.asked() == {name: 1}
    (request,) = office.of[name].requests
    assert request == replace(REQUEST, profile=profile)
    assert office.told == []


async def test_without_a_replacement_what_is_gone_is_for_people_at_once() -> None:
    """Coming back would find it gone again, and use up the customer's time."""
    office = Office()
    office.fail("a", OFF)
    error = await office.error(Permanent)
    assert (error.code, error.reason) == (GONE, OFF.reason)


@pytest.mark.parametrize("error", [TIMEOUT, BUSY, DOWN, REFUSED])
async def test_without_a_fallback_its_error_goes_through(error: DependencyError) -> None:
    office = Office()
    office.fail("a", error)
    assert await office.error() is error
    assert office.asked() == {"a": 1}


async def test_nobody_can_be_replaced_by_nobody() -> None:
    missing = {"a": "x", "b": "y"}
    with pytest.raises(ValueError, match="no such profile: x, y"):
        Office(fallbacks=missing)
    with pytest.raises(ValueError, match="no such profile: x, y"):
        Office(on_gone=missing)


# --- the breaker -------------------------------------------------------------------------------


async def test_a_model_that_is_down_is_not_asked_until_its_time() -> None:
    office = Office()
    office.fail("a", DOWN)
    assert await office.error(DependencyDown) is DOWN
    await asyncio.sleep(10)
    error = await office.error(DependencyDown)
    assert (error.dependency, error.reason, error.code) == (DOWN.dependency, DOWN.reason, DOWN.code)
    assert error.delay == 20
    assert office.asked() == {"a": 1}
    assert office.told == [("a", True, DOWN.reason)]


async def test_it_recovers_by_itself() -> None:
    office = Office()
    office.fail("a", TIMEOUT, TIMEOUT, TIMEOUT, DOWN)
    for _ in range(2):
        await office.error(Temporary)
    last = await office.error(KeepsFailing)
    assert (last.reason, last.code, last.delay) == (TIMEOUT.reason, TIMEOUT.code, 30)
    assert (await office.error(DependencyDown)).reason == TIMEOUT.reason
    await asyncio.sleep(30)
    # The first trial fails, the second does not.
    assert await office.error(DependencyDown) is DOWN
    assert (await office.error(DependencyDown)).reason == DOWN.reason
    await asyncio.sleep(30)
    await office.ask()
    await office.ask()
    assert office.asked() == {"a": 6}
    assert office.told == [("a", True, TIMEOUT.reason), ("a", False, "")]


async def test_one_trial_at_a_time() -> None:
    office = Office()
    office.fail("a", DOWN)
    await office.error()
    await asyncio.sleep(30)
    results = await asyncio.gather(*(office.ask() for _ in range(5)), return_exceptions=True)
    answers = [r for r in results if isinstance(r, ModelReply)]
    refused = [r for r in results if isinstance(r, DependencyDown)]
    assert (len(answers), len(refused)) == (1, 4)
    assert {r.delay for r in refused} == {None}
    assert office.asked() == {"a": 2}
    await office.ask()


async def test_a_trial_that_is_cancelled_or_ends_with_a_bug_makes_room_for_another() -> None:
    office = Office()
    office.fail("a", DOWN)
    await office.error()
    await asyncio.sleep(30)
    trial = asyncio.create_task(office.ask())
    await asyncio.sleep(0.5)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    office.of["a"].answer = lambda _: str(1 // 0)
    with pytest.raises(ZeroDivisionError):
        await office.ask()
    office.of["a"].answer = lambda _: "at last"
    assert (await office.ask()).text == "at last"


async def test_profiles_fail_each_for_itself() -> None:
    office = Office(keys="kkk")
    office.fail("a", DOWN)
    await office.error()
    assert (await office.ask(profile="b")).text == "b: what now?"


async def test_who_waits_for_a_slot_of_a_model_that_breaks_is_not_sent_to_it() -> None:
    office = Office(concurrency=1)
    office.fail("a", DOWN)
    results = await asyncio.gather(*(office.ask() for _ in range(4)), return_exceptions=True)
    assert [type(r) for r in results] == [DependencyDown] * 4
    assert office.asked() == {"a": 1}


async def test_nobody_waits_for_a_slot_of_a_model_that_is_down() -> None:
    office = Office(keys="kkk", concurrency=1)
    office.fail("a", DOWN)
    await office.error()
    other = asyncio.create_task(office.ask(profile="b"))
    await asyncio.sleep(0.5)
    assert (await office.error(DependencyDown)).delay == 29.5
    await other


# --- the fallback ------------------------------------------------------------------------------


async def test_a_fallback_answers_the_same_turn_and_those_that_follow() -> None:
    office = Office({"a": "b"})
    office.fail("a", DOWN)
    assert (await office.ask()).text == "b: what now?"
    assert (await office.ask()).text == "b: what now?"
    assert office.asked() == {"a": 1, "b": 2}
    await asyncio.sleep(30)
    reply = await office.ask()
    assert (reply.text, reply.thread_id) == ("a: what now?", "resp_2")
    assert office.told == [("a", True, DOWN.reason), ("a", False, "")]


async def test_the_failure_that_opens_the_breaker_is_answered_by_the_fallback() -> None:
    office = Office({"a": "b"})
    office.fail("a", TIMEOUT, TIMEOUT, TIMEOUT)
    assert await office.error() is TIMEOUT
    assert await office.error() is TIMEOUT
    assert office.asked() == {"a": 2}
    assert (await office.ask()).text == "b: what now?"


@pytest.mark.parametrize("error", [BUSY, REFUSED])
async def test_what_is_no_outage_is_not_the_fallbacks(error: DependencyError) -> None:
    office = Office({"a": "b"})
    office.fail("a", error)
    assert await office.error() is error
    assert office.asked() == {"a": 1}


async def test_a_trial_that_meets_throttling_comes_back_and_is_no_failure() -> None:
    office = Office({"a": "b"})
    office.fail("a", DOWN)
    await office.ask()
    await asyncio.sleep(30)
    office.fail("a", BUSY)
    assert await office.error() is BUSY
    await asyncio.sleep(7)
    assert (await office.ask()).text == "a: what now?"


async def test_a_fallback_knows_no_thread_and_starts_none() -> None:
    """So the conversation goes on in its own thread, which is told what it has missed."""
    office = Office({"a": "b"})
    office.fail("a", DOWN)
    reply = await office.ask()
    assert reply.thread_id == ""
    (request,) = office.of["b"].requests
    assert request == replace(REQUEST, thread_id="", unseen=HISTORY, again=False)


async def test_fallbacks_have_fallbacks() -> None:
    office = Office({"a": "b", "b": "c"})
    office.fail("a", DOWN)
    office.fail("b", DOWN)
    assert (await office.ask()).text == "c: what now?"
    assert (await office.ask()).text == "c: what now?"
    assert office.asked() == {"a": 1, "b": 1, "c": 2}


@pytest.mark.parametrize("circle", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "b"}])
async def test_a_circle_of_fallbacks_has_an_end(circle: dict[str, str]) -> None:
    office = Office(circle)
    office.fail("a", DOWN)
    office.fail("b", DOWN)
    await office.error(DependencyDown)
    assert set(office.asked().values()) == {1}


@pytest.mark.parametrize(
    ("second", "reason", "delay"),
    [
        (TIMEOUT, "fallback: no answer in time", None),
        (BUSY, "fallback: throttled", 7),
        # People must not get what the profile's own model may answer yet.
        (REFUSED, "fallback: the request is refused", 20),
    ],
)
async def test_a_fallback_that_fails_makes_it_no_worse(
    second: DependencyError, reason: str, delay: float | None
) -> None:
    office = Office({"a": "b"})
    office.fail("a", DOWN)
    await office.ask()
    office.fail("b", second)
    await asyncio.sleep(9)
    error = await office.error(DependencyDown)
    assert error.reason == f"{DOWN.reason}; {reason}"
    assert error.delay == delay
    assert error.code == DOWN.code


async def test_a_fallback_on_the_same_key_does_not_wait_for_itself() -> None:
    office = Office({"a": "b"}, keys="kkk", concurrency=1)
    office.fail("a", DOWN)
    assert (await office.ask()).text == "b: what now?"
    assert asyncio.get_running_loop().time() == 2


# --- tools -------------------------------------------------------------------------------------


def results(reply: ModelReply) -> dict[str, Any]:
    return {"state": reply.state, "results": (ToolResult(reply.calls[0].id, " snow"),)}


async def test_results_go_to_whoever_asked_for_them() -> None:
    office = Office(tools=True)
    asked = await office.ask(profile="b")
    reply = await office.ask(profile="b", **results(asked))
    assert (reply.text, reply.thread_id) == ("b: what now? snow", "resp_2")
    assert office.asked() == {"b": 2}


async def test_results_go_to_the_fallback_that_asked_even_if_the_model_is_back() -> None:
    office = Office({"a": "b"}, tools=True)
    office.fail("a", DOWN)
    asked = await office.ask()
    await asyncio.sleep(30)
    reply = await office.ask(**results(asked))
    assert (reply.text, reply.thread_id) == ("b: what now? snow", "")
    assert office.asked() == {"a": 1, "b": 2}


async def test_who_fails_between_tools_fails_the_turn() -> None:
    office = Office({"a": "b"}, tools=True)
    asked = await office.ask()
    office.fail("a", DOWN)
    assert await office.error(**results(asked)) is DOWN
    assert (await office.error(**results(asked))).delay == 30
    assert office.asked() == {"a": 2}
    # The turn starts over.
    again = await office.ask()
    assert (await office.ask(**results(again))).text == "b: what now? snow"


# --- gone for good -----------------------------------------------------------------------------


async def test_who_is_gone_is_replaced_for_good_and_this_is_told_once() -> None:
    office = Office(on_gone={"a": "b"})
    office.fail("a", OFF, OFF)
    replies = await asyncio.gather(office.ask(), office.ask())
    assert [r.text for r in replies] == ["b: what now?"] * 2
    assert office.told == [("a", True, OFF.reason)]
    await asyncio.sleep(10_000)
    reply = await office.ask()
    assert (reply.text, reply.thread_id) == ("b: what now?", "resp_3")
    assert office.asked() == {"a": 2, "b": 3}
    # A thread of the API that is gone is not shown to the other at once, its own are later.
    assert [r.thread_id for r in office.of["b"].requests] == ["", "", "resp_0"]
    assert all(r.thread_id for r in replies)


async def test_who_is_gone_is_no_fallback_any_more() -> None:
    office = Office({"c": "a"}, on_gone={"a": "b"})
    office.fail("a", OFF)
    await office.ask()
    office.fail("c", DOWN)
    assert (await office.ask(profile="c")).text == "b: what now?"
    assert office.asked() == {"a": 1, "b": 2, "c": 1}


async def test_the_error_of_a_replacement_is_the_profiles_own() -> None:
    office = Office(on_gone={"a": "b"})
    office.fail("a", OFF)
    office.fail("b", REFUSED)
    assert await office.error() is REFUSED


async def test_a_replacement_may_have_a_fallback() -> None:
    office = Office({"b": "c"}, on_gone={"a": "b"})
    office.fail("a", OFF)
    office.fail("b", DOWN)
    reply = await office.ask()
    assert (reply.text, reply.thread_id) == ("c: what now?", "")


async def test_a_fallback_may_be_gone() -> None:
    office = Office({"a": "b"}, on_gone={"b": "c"})
    office.fail("a", DOWN)
    office.fail("b", OFF)
    reply = await office.ask()
    assert (reply.text, reply.thread_id) == ("c: what now?", "")


async def test_without_a_replacement_the_fallback_answers() -> None:
    office = Office({"a": "b"})
    office.fail("a", OFF)
    assert (await office.ask()).text == "b: what now?"
    await asyncio.sleep(30)
    assert (await office.ask()).text == "a: what now?"


async def test_a_circle_of_replacements_has_an_end() -> None:
    office = Office(on_gone={"a": "b", "b": "a"})
    office.fail("a", OFF)
    office.fail("b", OFF)
    assert (await office.error(Permanent)).code == GONE
    assert (await office.ask()).text == "b: what now?"
    assert office.told == [("a", True, OFF.reason)]


async def test_who_is_gone_between_tools_is_replaced_when_the_turn_starts_over() -> None:
    office = Office(on_gone={"a": "b"}, tools=True)
    asked = await office.ask()
    office.fail("a", OFF, OFF)
    assert await office.error(**results(asked)) is OFF
    again = await office.ask()
    assert (await office.ask(**results(again))).text == "b: what now? snow"


# --- the key -----------------------------------------------------------------------------------


async def test_profiles_of_one_key_share_its_slots_fairly() -> None:
    office = Office(keys="kkk", concurrency=1)
    flood = [asyncio.create_task(office.ask()) for _ in range(4)]
    await asyncio.sleep(1.5)
    await office.ask(profile="b", business="+447700900200")
    assert asyncio.get_running_loop().time() == 3
    await asyncio.gather(*flood)


async def test_a_throttled_key_is_busy_for_all_its_profiles_and_breaks_none() -> None:
    office = Office({"a": "c"}, keys="kkx")
    office.fail("a", Busy("openai", "throttled", delay=20))
    await office.error(Busy)
    for name in "ab":
        error = await office.error(Busy, profile=name)
        assert error.delay == 20
    assert office.asked() == {"a": 1}
    assert office.told == []
    assert (await office.ask(profile="c")).text == "c: what now?"


async def test_tokens_are_estimated_before_and_booked_after() -> None:
    office = Office(limits={"tokens_per_minute": 60_000})
    large = {"history": (Line("user", "x" * 8_000),), "files": (File("f", "image/png", b""),) * 2}
    # About 5,000 tokens by the look of it, 15 in fact.
    both = await asyncio.gather(office.ask(**large), office.ask(**large), return_exceptions=True)
    assert [type(r) for r in both] == [ModelReply, ModelReply]
    assert asyncio.get_running_loop().time() == 2
