"""What every reply model does. Real clocks and sockets here."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import pytest

from replyd.adapters.memory import MemoryModel
from replyd.adapters.openai.assistants import OpenAIAssistants
from replyd.adapters.openai.chat import OpenAIChat
from replyd.adapters.openai.client import Client, create_client
from replyd.adapters.openai.responses import OpenAIResponses
from replyd.demo.openai_double import OpenAIDouble
from replyd.domain.tools import ToolCall, ToolResult, ToolSpec
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, Finish, Line, ModelReply, ModelRequest, ReplyModel

STOCK = ToolSpec(
    name="stock",
    description="How many crates are left.",
    parameters={
        "type": "object",
        "properties": {"fruit": {"type": "string"}},
        "required": ["fruit"],
    },
)
REQUEST = ModelRequest(
    turn="what did I say?",
    thread_id="",
    unseen=(),
    history=(Line("user", "first ☺"), Line("assistant", "second")),
    conversation_id="c-1",
    sids=("SM1",),
    customer="whatsapp:+15550001",
)
# Another turn: a turn is known by its messages.
NEXT = replace(REQUEST, turn="and now?", sids=("SM2",))
PHOTO = File("photo.png", "image/png", b"\x89PNG\x00")
# What OpenAI says for each kind of error: status and code.
REFUSALS: dict[type[DependencyError], tuple[int, str]] = {
    Temporary: (500, "server_error"),
    Busy: (429, "rate_limit_exceeded"),
    DependencyDown: (401, "invalid_api_key"),
    Permanent: (400, "invalid_prompt"),
}

# What a reply's thread_id is to the request's: the same, another each time, or always empty.
Threads = Literal["same", "new", "none"]


class Adapter(ReplyModel, Protocol):
    async def close(self) -> None: ...


class Memory:
    """The twin, and what the vendor can be made to do."""

    def __init__(self) -> None:
        self.port = MemoryModel(self._answer, seconds=0)
        self.threads: Threads = "new"
        self._with_turn: Callable[[str], str] = str
        self._next: list[ModelReply] = []
        self._read = 0

    def answer(self, with_turn: Callable[[str], str]) -> None:
        self._with_turn = with_turn

    def call(self, *fruits: str) -> None:
        """The next answer calls STOCK for each of these at once."""
        calls = (ToolCall(f"call_{fruit}", STOCK.name, arguments(fruit)) for fruit in fruits)
        self._next.append(ModelReply("", "resp_calls", "memory", 10, 5, calls=tuple(calls)))

    def end(self, finish: Finish) -> None:
        """How the next answer ends."""
        self._next.append(ModelReply("", "resp_end", "memory", 10, 5, finish=finish))

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("openai", "refused"))

    def lose(self) -> None:
        self.refuse(Temporary)

    def forget(self) -> None:
        """It knows no threads."""

    def told(self) -> str:
        """What the vendor was sent since this was last asked."""
        requests, self._read = self.port.requests[self._read :], len(self.port.requests)
        return repr(requests)

    def files(self) -> list[tuple[str, bytes]]:
        """The kinds and contents of the files that the model has seen."""
        return [(f.content_type, f.data) for r in self.port.requests for f in r.files]

    def _answer(self, request: ModelRequest) -> str | ModelReply:
        if self._next:
            return self._next.pop(0)
        if request.results:
            return "\n".join(result.output for result in request.results)
        return self._with_turn(request.turn)


@dataclass
class Real:
    """An adapter, and the double behind it."""

    port: Adapter
    double: OpenAIDouble
    threads: Threads
    _read: int = 0
    _logged: int = 0

    def answer(self, with_turn: Callable[[str], str]) -> None:
        self.double.replies = with_turn

    def call(self, *fruits: str) -> None:
        calls = [[(STOCK.name, {"fruit": fruit}) for fruit in fruits]]
        self.double.tool_rule = lambda *_: calls.pop() if calls else ()

    def end(self, finish: Finish) -> None:
        if finish == "refused":
            self.double.refuse_next()
        elif finish == "empty":
            self.double.replies = lambda _: ""
        else:
            reason = "max_output_tokens" if finish == "truncated" else "content_filter"
            self.double.finish_next(status="incomplete", reason=reason)

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_next(status=status, code=code)

    def lose(self) -> None:
        self.double.drop_next()

    def forget(self) -> None:
        self.double.forget()

    def told(self) -> str:
        sent = [*self.double.requests[self._read :], *self.double.assistants.log[self._logged :]]
        self._read, self._logged = len(self.double.requests), len(self.double.assistants.log)
        return json.dumps(sent, ensure_ascii=False)

    def files(self) -> list[tuple[str, bytes]]:
        return [(file.content_type, file.data) for file in self.double.files_seen]


Vendor = Memory | Real


# How each adapter is built on a client of the double's, and what its threads are.
SETTINGS: Any = {
    "model": "gpt-6-luna",
    "instructions": "Be brief.",
    "tools": [STOCK],
    "timeout_seconds": 5,
    "sleep": lambda _: asyncio.sleep(0),
}
ADAPTERS: dict[str, tuple[Callable[[Client], Adapter], Threads]] = {
    "responses": (lambda client: OpenAIResponses(client, **SETTINGS), "new"),
    "responses-stateless": (
        lambda client: OpenAIResponses(client, **SETTINGS, store=False),
        "none",
    ),
    "chat": (lambda client: OpenAIChat(client, **SETTINGS, identify=lambda _: ""), "none"),
    "assistants": (
        lambda client: OpenAIAssistants(client, assistant_id="asst_1", **SETTINGS),
        "same",
    ),
}


# Whose requests can go past the SDK.
DIRECT = ("responses", "chat")


@pytest.fixture(params=["memory", *ADAPTERS, *(f"{name} direct" for name in DIRECT)])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    name, _, direct = request.param.partition(" ")
    build, threads = ADAPTERS[name]
    async with OpenAIDouble() as double:
        url = double.api_url
        client = create_client("sk-any", base_url=url, timeout_seconds=5, direct=bool(direct))
        adapter = build(client)
        yield Real(adapter, double, threads)
        await adapter.close()


@pytest.fixture
def model(vendor: Vendor) -> ReplyModel:
    return vendor.port


def arguments(fruit: str) -> str:
    return json.dumps({"fruit": fruit})


# --- answers -------------------------------------------------------------------------------------


async def test_an_answer_and_what_it_cost(vendor: Vendor, model: ReplyModel) -> None:
    vendor.answer(lambda turn: f"You asked: {turn} ☺\n漢字")
    reply = await model.respond(REQUEST)
    assert reply.text == "You asked: what did I say? ☺\n漢字"
    assert (reply.finish, reply.calls) == ("complete", ())
    assert bool(reply.thread_id) == (vendor.threads != "none")
    assert reply.model
    assert reply.input_tokens > 0
    assert reply.output_tokens > 0
    assert 0 <= reply.cached_tokens <= reply.input_tokens


@pytest.mark.parametrize("finish", ["empty", "refused", "truncated", "filtered"])
async def test_an_answer_that_is_none_says_how_it_ended_and_what_it_cost(
    vendor: Vendor, model: ReplyModel, finish: Finish
) -> None:
    vendor.end(finish)
    reply = await model.respond(REQUEST)
    assert reply.finish == finish
    assert reply.calls == ()
    assert reply.input_tokens > 0
    vendor.answer(str.upper)
    after = await model.respond(replace(NEXT, thread_id=reply.thread_id))
    assert (after.text, after.finish) == ("AND NOW?", "complete")


async def test_a_file_goes_along(vendor: Vendor, model: ReplyModel) -> None:
    vendor.answer(str.upper)
    reply = await model.respond(replace(REQUEST, turn="file 1: an image", files=(PHOTO,)))
    assert reply.text == "FILE 1: AN IMAGE"
    assert vendor.files() == [("image/png", PHOTO.data)]


async def test_a_request_may_be_given_up(vendor: Vendor, model: ReplyModel) -> None:
    asked = asyncio.create_task(model.respond(REQUEST))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await model.respond(REQUEST)).text


async def test_many_at_once_keep_their_answers(vendor: Vendor, model: ReplyModel) -> None:
    vendor.answer(lambda turn: f"to {turn}")
    turns = [f"question {number}" for number in range(12)]
    replies = await asyncio.gather(
        *(model.respond(replace(REQUEST, turn=t, conversation_id=t, sids=(t,))) for t in turns)
    )
    assert [reply.text for reply in replies] == [f"to {turn}" for turn in turns]
    threads = {reply.thread_id for reply in replies}
    assert len(threads) == (1 if vendor.threads == "none" else 12)


# --- threads -------------------------------------------------------------------------------------


async def test_the_model_is_told_what_came_before(vendor: Vendor, model: ReplyModel) -> None:
    """By the thread, which then gets no more than it has not seen, or by the history."""
    first = await model.respond(REQUEST)
    unseen = (Line("assistant", "a colleague's words"),)
    history = (*REQUEST.history, *unseen)
    assert "first ☺" in vendor.told()
    second = await model.respond(
        replace(NEXT, thread_id=first.thread_id, unseen=unseen, history=history)
    )
    told = vendor.told()
    assert "a colleague's words" in told
    if vendor.threads == "none":
        assert second.thread_id == ""
        assert "first ☺" in told
    else:
        assert (second.thread_id == first.thread_id) == (vendor.threads == "same")
        # The twin is told both, as every model is, and a thread's owner sends one of them.
        assert "first ☺" not in told or isinstance(vendor, Memory)


async def test_a_thread_may_be_continued_twice_at_once(vendor: Vendor, model: ReplyModel) -> None:
    """A turn that is asked again must not disturb, or be disturbed by, the first asking."""
    first = await model.respond(REQUEST)
    continued = replace(NEXT, thread_id=first.thread_id, unseen=(Line("user", "and?"),))
    outcomes = await asyncio.gather(
        *(model.respond(continued) for _ in range(2)), return_exceptions=True
    )
    threads = [reply.thread_id for reply in outcomes if isinstance(reply, ModelReply)]
    if vendor.threads == "same":
        # One at a time, where a thread has no branches.
        assert all(isinstance(o, ModelReply | Temporary) for o in outcomes)
        assert threads
    else:
        assert len(threads) == 2
        assert len({first.thread_id, *threads}) == (3 if vendor.threads == "new" else 1)
    assert (await model.respond(replace(continued, again=True))).text


@pytest.mark.parametrize("thread", ["", "thread_abc", "resp_never", "conv_never", "anything"])
async def test_a_thread_that_nobody_knows_is_rebuilt_from_the_history(
    vendor: Vendor, model: ReplyModel, thread: str
) -> None:
    known = (await model.respond(REQUEST)).thread_id
    vendor.forget()
    vendor.told()
    reply = await model.respond(replace(NEXT, thread_id=thread or known))
    assert reply.text
    assert "first ☺" in vendor.told()
    assert reply.thread_id not in {"conv_never", "resp_never", known} - {""}
    after = await model.respond(replace(NEXT, thread_id=reply.thread_id, sids=("SM3",)))
    assert after.text


async def test_a_turn_that_is_asked_again(vendor: Vendor, model: ReplyModel) -> None:
    thread = (await model.respond(REQUEST)).thread_id
    turn = replace(NEXT, thread_id=thread)
    vendor.answer(str.upper)
    await model.respond(turn)
    reply = await model.respond(replace(turn, again=True))
    assert (reply.text, reply.finish) == ("AND NOW?", "complete")


# --- tools ---------------------------------------------------------------------------------------


async def test_the_model_sees_the_result_of_a_call(vendor: Vendor, model: ReplyModel) -> None:
    vendor.call("pears")
    waits = await model.respond(REQUEST)
    (call,) = waits.calls
    assert (call.name, json.loads(call.arguments)) == ("stock", {"fruit": "pears"})
    assert waits.text == ""
    result = ToolResult(call.id, "42 crates")
    reply = await model.respond(replace(REQUEST, state=waits.state, results=(result,)))
    assert (reply.text, reply.finish, reply.calls) == ("42 crates", "complete", ())
    assert reply.input_tokens > 0
    # The thread goes on as if there had been no tool.
    vendor.answer(str.upper)
    after = await model.respond(replace(NEXT, thread_id=reply.thread_id))
    assert after.text == "AND NOW?"


async def test_two_calls_at_once(vendor: Vendor, model: ReplyModel) -> None:
    vendor.call("pears", "figs")
    waits = await model.respond(REQUEST)
    pears, figs = waits.calls
    assert pears.id != figs.id
    assert [json.loads(call.arguments)["fruit"] for call in waits.calls] == ["pears", "figs"]
    results = (ToolResult(pears.id, "42 crates"), ToolResult(figs.id, "none"))
    reply = await model.respond(replace(REQUEST, state=waits.state, results=results))
    assert reply.text.split("\n") == ["42 crates", "none"]


async def test_results_may_be_sent_again_after_an_error(vendor: Vendor, model: ReplyModel) -> None:
    vendor.call("pears")
    waits = await model.respond(REQUEST)
    told = replace(
        REQUEST, state=waits.state, results=(ToolResult(waits.calls[0].id, "42 crates"),)
    )
    for fail in (partial(vendor.refuse, Temporary), partial(vendor.refuse, Busy), vendor.lose):
        fail()
        with pytest.raises(Temporary):
            await model.respond(told)
    assert (await model.respond(told)).text == "42 crates"


async def test_a_turn_may_start_over_after_its_calls(vendor: Vendor, model: ReplyModel) -> None:
    """The process that waited for the tool has died; the thread is where it was."""
    thread = (await model.respond(REQUEST)).thread_id
    turn = replace(NEXT, thread_id=thread)
    vendor.call("pears")
    assert (await model.respond(turn)).calls
    vendor.call("pears")
    waits = await model.respond(replace(turn, again=True))
    result = ToolResult(waits.calls[0].id, "42 crates")
    reply = await model.respond(replace(turn, again=True, state=waits.state, results=(result,)))
    assert reply.text == "42 crates"


async def test_a_thread_goes_on_after_a_call_that_nobody_answered(
    vendor: Vendor, model: ReplyModel
) -> None:
    vendor.call("pears")
    waits = await model.respond(REQUEST)
    vendor.answer(str.upper)
    reply = await model.respond(replace(NEXT, thread_id=waits.thread_id))
    assert (reply.text, reply.calls) == ("AND NOW?", ())


async def test_a_result_that_is_missing_is_never_taken(vendor: Vendor, model: ReplyModel) -> None:
    vendor.call("pears", "figs")
    waits = await model.respond(REQUEST)
    results = (ToolResult(waits.calls[0].id, "42 crates"),)
    with pytest.raises(Permanent):
        await model.respond(replace(REQUEST, state=waits.state, results=results))


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refusal_has_its_kind_and_hinders_nothing(
    vendor: Vendor, model: ReplyModel, kind: type[DependencyError]
) -> None:
    vendor.refuse(kind)
    with pytest.raises(DependencyError) as caught:
        await model.respond(REQUEST)
    assert type(caught.value) is kind
    assert REQUEST.turn not in str(caught.value)
    assert (await model.respond(REQUEST)).text


async def test_a_lost_answer_is_never_ambiguous(vendor: Vendor, model: ReplyModel) -> None:
    vendor.lose()
    with pytest.raises(DependencyError) as caught:
        await model.respond(REQUEST)
    assert not isinstance(caught.value, Ambiguous)
    assert isinstance(caught.value, Temporary)
    assert (await model.respond(REQUEST)).text
