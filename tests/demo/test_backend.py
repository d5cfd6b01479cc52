"""The demo without its page: what customers and people do, and what the page would show."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from replyd.demo import bakery, samples
from replyd.demo.backend import Backend
from replyd.demo.journeys import Journeys
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.openai_double.audio import ORDER
from replyd.demo.operator_client import OperatorClient, Refused
from replyd.demo.playground import PEOPLE, Playground, playground

LEE, ANA, MAYA = (person.address for person in PEOPLE)
# One of four things takes a second; a busy machine takes longer.
PATIENCE_SECONDS = 30

State = dict[str, Any]


class Demo:
    """Customers, people, and what the page would show, without the page."""

    def __init__(self, backend: Backend, place: Playground) -> None:
        self.backend = backend
        self.ops_port = place.supervisor.ops.port
        self.token = place.settings.ops.token.get_secret_value()
        self.news = asyncio.Event()

    async def until(self, holds: Callable[[State], bool]) -> State:
        """The first state of which it holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(state := self.backend.snapshot()):
                self.news.clear()
                await self.news.wait()
        return state

    async def answer(self, customer: str, text: str, kind: str = "text") -> str:
        """What the customer hears of a message once its turn is over."""
        before = len(heard(self.backend.snapshot(), customer))
        await self.backend.customer_says(customer, text, kind)
        state = await self.until(lambda s: turn(s, customer)["total_ms"] is not None)
        return "\n".join(heard(state, customer)[before:])


@pytest.fixture
def environment() -> Iterator[None]:
    """The demo points AWS's library at its own; afterwards all is as it was."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@asynccontextmanager
async def started() -> AsyncIterator[Demo]:
    journeys = Journeys()
    async with playground(quiet_seconds=0.2, max_wait_seconds=5, sinks=[journeys]) as place:
        backend = Backend(place, journeys)
        running = asyncio.create_task(place.supervisor.run())
        await place.supervisor.ready.wait()
        demo = Demo(backend, place)
        backend.on_change = journeys.on_change = place.twilio.on_change = demo.news.set
        place.twilio.deliver_to = f"http://127.0.0.1:{place.supervisor.webhooks.port}"
        watching = asyncio.create_task(backend.run())
        yield demo
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        place.supervisor.stop()
        await running


@pytest.fixture
async def demo(environment: None) -> AsyncIterator[Demo]:
    async with started() as demo:
        yield demo


def phone(state: State, customer: str) -> State:
    return next(c for c in state["customers"] if c["address"] == customer)


def heard(state: State, customer: str) -> list[str]:
    return [m["text"] for m in phone(state, customer)["messages"] if m["direction"] == "out"]


def turn(state: State, customer: str) -> State:
    """The customer's newest one."""
    none = {"total_ms": None}
    return next((j for j in state["journeys"] if j["customer"] == customer), none)


def read(state: State, customer: str) -> str:
    """What the record says that the newest message was, beyond its text."""
    return str(turn(state, customer)["messages"][-1].get("read", ""))


async def test_a_voice_note_is_answered_and_its_words_are_on_record(demo: Demo) -> None:
    assert "Two sourdough loaves come to £8.40" in await demo.answer(LEE, "", "voice")
    state = await demo.until(lambda s: read(s, LEE) != "")
    assert read(state, LEE) == f"[voice note] {ORDER}"
    # The customer has sent sounds, and sees them so.
    shown = phone(state, LEE)["messages"][1]
    assert (shown["kind"], shown["text"]) == ("voice", "Voice note")


async def test_a_picture_is_looked_at(demo: Demo) -> None:
    answer = await demo.answer(ANA, "do you sell this?", "image")
    assert answer == "I see your picture, 340 by 260 pixels: lovely!"
    state = await demo.until(lambda s: read(s, ANA) != "")
    assert read(state, ANA) == "[sent a picture (image/png): file 1]"


async def test_an_order_is_looked_up_with_the_tool(demo: Demo) -> None:
    answer = await demo.answer(MAYA, "Where is my order 1042?")
    assert answer == "Your order 1042, two sourdough loaves, is baked, and ready to collect."
    (model,) = (s for s in turn(demo.backend.snapshot(), MAYA)["steps"] if s["name"] == "model")
    assert model["tools"] == [{"name": "order_status", "outcome": "done"}]


async def test_the_ai_hands_over_and_is_silent_until_it_is_handed_back(demo: Demo) -> None:
    assert await demo.answer(LEE, "I want to talk to a person") == bakery.FAREWELL
    state = await demo.until(lambda s: phone(s, LEE)["handoff"] and bool(s["handoff_queue"]))
    (waiting,) = state["handoff_queue"]
    assert (waiting["name"], waiting["reason"]) == ("Lee", "ai_handed_over")
    assert waiting["summary"].startswith("The customer asks for a person.")
    assert "I want to talk to a person" in waiting["summary"]

    assert await demo.answer(LEE, "Hello?") == ""
    state = await demo.until(lambda s: len(s["handoff_queue"]) == 2)
    assert [w["body"] for w in state["handoff_queue"]] == ["Hello?", "I want to talk to a person"]

    await demo.backend.set_handoff(phone(state, LEE)["conversation_id"], up=False)
    assert "£2.10" in await demo.answer(LEE, "How much is a croissant?")


async def test_a_person_answers_in_what_the_ai_handed_over(demo: Demo) -> None:
    await demo.answer(LEE, "I want to talk to a person")
    state = await demo.until(lambda s: bool(s["waiting"]) and bool(s["waiting"][0]["summary"]))
    (waits,) = state["waiting"]
    assert (waits["address"], waits["answered"], waits["taken_by"]) == (LEE, False, "")
    assert (waits["reason"], waits["text"]) == ("ai_handed_over", "I want to talk to a person")
    assert waits["summary"].startswith("The customer asks for a person.")

    # What they write meanwhile is news of the customer, but not why people have it.
    assert await demo.answer(LEE, "Hello?") == ""
    state = await demo.until(lambda s: s["waiting"][0]["text"] == "Hello?")
    assert state["waiting"][0]["reason"] == "ai_handed_over"

    assert demo.token
    assert demo.token not in json.dumps(state)

    answer = await demo.backend.person_says("c-lee", "Ann here", "k-1")
    assert (answer["delivery"], answer["again"]) == ("accepted", False)
    again = await demo.backend.person_says("c-lee", "Ann here", "k-1")
    assert again["again"] is True
    state = await demo.until(
        lambda s: phone(s, LEE)["messages"][-1]["state"] == "read" and s["waiting"][0]["answered"]
    )
    assert heard(state, LEE)[1:] == [bakery.FAREWELL, "Ann here"]
    assert [m.get("person", "") for m in phone(state, LEE)["messages"]] == [*[""] * 4, "You"]

    await demo.backend.set_handoff("c-lee", up=False)
    assert demo.backend.snapshot()["waiting"] == []
    assert "£2.10" in await demo.answer(LEE, "How much is a croissant?")


async def test_those_a_person_has_taken_are_listed_newest_first(demo: Demo) -> None:
    await demo.backend.set_handoff("c-lee", up=True)
    await demo.backend.set_handoff("c-maya", up=True)
    for customer in (MAYA, LEE):
        assert await demo.answer(customer, f"{customer} here") == ""
        state = await demo.until(lambda s: s["waiting"][0]["text"] == f"{customer} here")  # noqa: B023
    assert [(w["address"], w["taken_by"]) for w in state["waiting"]] == [
        (LEE, "You"),
        (MAYA, "You"),
    ]


async def test_what_the_operator_api_says_no_to_is_refused_in_its_words(demo: Demo) -> None:
    await demo.answer(ANA, "STOP")
    with pytest.raises(Refused, match="the customer has opted out") as refused:
        await demo.backend.person_says("c-ana", "hello?", "k-1")
    assert refused.value.status == 409
    with pytest.raises(LookupError):
        await demo.backend.person_says("c-nobody", "hello?", "k-1")
    async with OperatorClient(lambda: demo.ops_port, "not-the-token-of-it") as stranger:
        with pytest.raises(Refused, match=re.escape("ops.token")):
            await stranger.release(ANA, "c-ana")
    async with OperatorClient(lambda: 1, "nobody-listens-there") as nowhere:
        with pytest.raises(Refused, match="does not answer") as refused:
            await nowhere.hand_off(ANA, "c-ana")
    assert refused.value.status == 503


@pytest.mark.usefixtures("environment")
async def test_with_a_key_openai_gets_the_picture_the_voice_note_and_the_tools() -> None:
    async with OpenAIDouble(api_key="sk-test") as openai:
        openai.tool_rule = bakery.calls
        os.environ |= {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": openai.api_url}
        async with started() as demo:
            await demo.answer(ANA, "", "image")
            await demo.answer(LEE, "", "voice")
            told = await demo.answer(MAYA, "Where is my order 1042?")
    assert [f.data for f in openai.files_seen] == [samples.picture(), samples.voice_note()]
    assert '"state": "baked' in told
