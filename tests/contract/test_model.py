"""What every reply model does. Real clocks and sockets here."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from replyd.adapters.memory import MemoryModel
from replyd.adapters.openai import OpenAIResponses, create_client
from replyd.demo.openai_double import OpenAIDouble
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Line, ModelRequest, ReplyModel

REQUEST = ModelRequest(
    turn="what did I say?",
    thread_id="",
    unseen=(),
    history=(Line("user", "first ☺"), Line("assistant", "second")),
    conversation_id="c-1",
)
# What OpenAI says for each kind of error: status and code.
REFUSALS: dict[type[DependencyError], tuple[int, str]] = {
    Temporary: (500, "server_error"),
    Busy: (429, "rate_limit_exceeded"),
    DependencyDown: (401, "invalid_api_key"),
    Permanent: (400, "invalid_prompt"),
}


@dataclass
class Memory:
    """The twin, and what the vendor can be made to do."""

    port: MemoryModel = field(default_factory=lambda: MemoryModel(seconds=0))

    def answer(self, with_turn: Callable[[str], str]) -> None:
        self.port.answer = lambda request: with_turn(request.turn)

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("openai", "refused"))

    def lose(self) -> None:
        self.refuse(Temporary)

    def forget(self) -> None:
        """It knows no threads."""


@dataclass
class Real:
    """The adapter, and the double behind it."""

    port: OpenAIResponses
    double: OpenAIDouble

    def answer(self, with_turn: Callable[[str], str]) -> None:
        self.double.replies = with_turn

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_next(status=status, code=code)

    def lose(self) -> None:
        self.double.drop_next()

    def forget(self) -> None:
        self.double.forget()


Vendor = Memory | Real


@pytest.fixture(params=["memory", "openai"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    async with OpenAIDouble() as double:
        client = create_client("sk-any", base_url=double.api_url, timeout_seconds=5)
        adapter = OpenAIResponses(
            client, model="gpt-6-luna", instructions="Be brief.", timeout_seconds=5
        )
        yield Real(adapter, double)
        await adapter.close()


@pytest.fixture
def model(vendor: Vendor) -> ReplyModel:
    return vendor.port


async def test_an_answer_and_what_it_cost(vendor: Vendor, model: ReplyModel) -> None:
    vendor.answer(lambda turn: f"You asked: {turn} ☺\n漢字")
    reply = await model.respond(REQUEST)
    assert reply.text == "You asked: what did I say? ☺\n漢字"
    assert reply.thread_id
    assert reply.model
    assert reply.input_tokens > 0
    assert reply.output_tokens > 0


async def test_a_thread_goes_on_under_another_name(model: ReplyModel) -> None:
    first = await model.respond(REQUEST)
    second = await model.respond(replace(REQUEST, thread_id=first.thread_id))
    assert second.thread_id not in ("", first.thread_id)


async def test_a_thread_may_be_continued_twice(model: ReplyModel) -> None:
    """A turn that is asked again must not disturb, or be disturbed by, the first asking."""
    first = await model.respond(REQUEST)
    continued = replace(REQUEST, thread_id=first.thread_id, unseen=(Line("user", "and?"),))
    replies = await asyncio.gather(*(model.respond(continued) for _ in range(2)))
    assert len({first.thread_id, *(reply.thread_id for reply in replies)}) == 3


async def test_a_thread_that_nobody_knows_any_more(vendor: Vendor, model: ReplyModel) -> None:
    first = await model.respond(REQUEST)
    vendor.forget()
    for thread in (first.thread_id, "thread_abc", "resp_never"):
        assert (await model.respond(replace(REQUEST, thread_id=thread))).text


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
    replies = await asyncio.gather(*(model.respond(replace(REQUEST, turn=t)) for t in turns))
    assert [reply.text for reply in replies] == [f"to {turn}" for turn in turns]
    assert len({reply.thread_id for reply in replies}) == 12
