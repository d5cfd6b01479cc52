"""What the model reads, how its answer ends, and what the customer and people get of it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.events import TurnEnded
from replyd.domain.tools import ToolCall
from replyd.errors import DependencyError, Permanent, Temporary
from replyd.ports import Finish, Line, ModelReply, ModelRequest
from tests.support.world import BUSINESS, CUSTOMER, KEY, Worker, World, message

FALLBACK = "I cannot answer this. Please call us."
DOWN = Temporary("openai", "no answer in time")


def said(text: str = "", finish: Finish = "complete", *calls: ToolCall) -> ModelReply:
    return ModelReply(text, "resp_x", "memory", 10, 5, finish=finish, calls=calls)


def in_turn(*replies: ModelReply | str) -> Callable[[ModelRequest], ModelReply | str]:
    """Answers, one for each request; there must be no further one."""
    left = list(replies)
    return lambda _: left.pop(0)


async def answered(world: World, *bodies: str, **attributes: Any) -> None:
    """One turn of these messages."""
    world.converse(**attributes)
    async with world.running() as worker:
        for number, body in enumerate(bodies or ("hello",), start=1):
            await worker.accept(message(number, body))
        await asyncio.sleep(100)


def texts(world: World) -> list[str]:
    """What the customer got."""
    return [part.text for part in world.channel.accepted]


def handed(world: World) -> tuple[str, str, str]:
    """Reason, detail and summary of the one handoff."""
    (body,) = world.handed_over()
    return (
        body["handoff_reason"],
        body.get("handoff_detail", ""),
        body.get("handoff_summary", ""),
    )


# --- what the model reads ----------------------------------------------------------------------


async def test_a_burst_tells_its_order_and_times() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        for number, body in enumerate(("one", "two\nlines", "three"), start=1):
            await worker.accept(message(number, body))
            await asyncio.sleep(1.5)
        await asyncio.sleep(20)
    (request,) = world.model.requests
    times = [m["timestamp"][11:19] for m in world.item()[record.MESSAGES][:3]]
    assert len(set(times)) == 3
    assert request.turn == f"[{times[0]}] one\n[{times[1]}] two\nlines\n[{times[2]}] three"
    assert request.sids == tuple(message(n).sid for n in (1, 2, 3))
    # The history keeps what was said, without the times.
    assert [text for _, text in world.history()[:3]] == ["one", "two\nlines", "three"]


async def test_a_message_alone_is_put_as_it_was_typed() -> None:
    world = World()
    await answered(world, "hello")
    assert world.model.requests[0].turn == "hello"


def quoting(number: int, sid: str, body: str) -> Any:
    one = message(number, body)
    return replace(one, params={**one.params, "OriginalRepliedMessageSid": sid})


async def test_a_quoted_message_of_the_history_is_named_shortened() -> None:
    world = World()
    entry = {"role": "assistant", "content": "Shall\nwe? " + "x" * 400, "message_id": "SM-old"}
    world.converse(messages=[entry])
    async with world.running() as worker:
        await worker.accept(quoting(1, "SM-old", "yes"))
        await asyncio.sleep(20)
    (request,) = world.model.requests
    quote, text = request.turn.splitlines()
    assert quote == '[in reply to "Shall we? ' + "x" * 290 + '…"]'
    assert text == "yes"
    assert world.history()[1] == ("user", request.turn)


async def test_a_quoted_reply_of_the_ai_is_found_by_its_sid() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "two loaves"))
        await asyncio.sleep(20)
        sid = world.item()[record.MESSAGES][-1]["message_id"]
        await worker.accept(quoting(2, sid, "no, three"))
        await asyncio.sleep(20)
    assert world.model.requests[1].turn == '[in reply to "You said: two loaves"]\nno, three'


async def test_a_quoted_message_of_the_same_burst() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1, "two loaves"))
        await worker.accept(quoting(2, message(1).sid, "for Saturday"))
        await asyncio.sleep(20)
    assert '[in reply to "two loaves"]\nfor Saturday' in world.model.requests[0].turn


async def test_a_quoted_message_that_nobody_knows() -> None:
    world = World()
    world.converse()
    async with world.running() as worker:
        await worker.accept(quoting(1, "SM-gone", "yes"))
        await asyncio.sleep(20)
    assert world.model.requests[0].turn == '[in reply to "an earlier message"]\nyes'


EARLIER = [
    {"role": role, "content": f"{role} {n}", "message_id": f"SM-{role}-{n}"}
    for n in range(3)
    for role in ("user", "assistant")
]


@pytest.mark.parametrize("kept", [0, 1, 4, 6, 50])
async def test_the_rebuilt_history_is_as_long_as_it_may_be(kept: int) -> None:
    world = World(ai={"history_messages": kept})
    await answered(world, "hello", messages=EARLIER)
    expected = [Line(e["role"], e["content"]) for e in EARLIER]
    assert list(world.model.requests[0].history) == expected[max(0, 6 - kept) :]


async def test_what_people_said_is_new_to_the_thread_however_short_the_history() -> None:
    world = World(ai={"history_messages": 0})
    people = [
        {"role": "assistant", "content": "a", "turn_id": "t1", "response_id": "resp_1"},
        {"role": "user", "content": "q", "turn_id": "t2"},
        {"role": "human", "content": "I am on it"},
    ]
    await answered(world, "hello", messages=people, thread_id="resp_1")
    (request,) = world.model.requests
    assert request.history == ()
    assert request.unseen == (Line("user", "q"), Line("assistant", "I am on it"))


# --- what was delivered ------------------------------------------------------------------------


async def report(worker: Worker, entry: dict[str, Any], status: str, place: int) -> None:
    params = {
        "MessageSid": entry["message_id"],
        "MessageStatus": status,
        "ErrorCode": "63016",
        "From": f"whatsapp:{BUSINESS}",
        "To": f"whatsapp:{CUSTOMER}",
    }
    query = {"p": KEY.partition, "s": KEY.sort, "turn": entry["turn_id"], "entry": str(place)}
    await worker.track(params, query)


@pytest.mark.parametrize("status", ["undelivered", "failed"])
async def test_the_model_learns_that_a_part_of_its_answer_was_not_delivered(status: str) -> None:
    world = World()
    world.model.answer = in_turn(f"{'a' * 1500}\n\n{'b' * 1500}", "sorry", "fine")
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        _, _, second = world.item()[record.MESSAGES]
        await report(worker, second, status, 2)
        await worker.accept(message(2, "and?"))
        await asyncio.sleep(20)
        await worker.accept(message(3, "ok"))
        await asyncio.sleep(20)
    _, again, later = world.model.requests
    assert again.thread_id == "resp_1"
    assert again.unseen == (
        Line("user", "[of your last answer, this was never delivered to the customer: "
             f"{'b' * 1500}]"),
    )  # fmt: skip
    assert again.history[1:] == (
        Line("assistant", "a" * 1500),
        Line("assistant", "b" * 1500 + "\n[this was never delivered to the customer]"),
    )
    # The thread knows it by now.
    assert later.unseen == ()
    assert later.history[2].text.endswith("[this was never delivered to the customer]")


async def test_a_part_that_arrived_is_nothing_to_talk_about() -> None:
    world = World(delivery={"record": ["delivered", "read"]})
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        await report(worker, world.item()[record.MESSAGES][-1], "read", 1)
        await worker.accept(message(2))
        await asyncio.sleep(20)
    assert world.model.requests[1].unseen == ()
    assert world.model.requests[1].history[-1] == Line("assistant", "You said: message 1")


async def test_the_thread_does_not_go_on_from_an_answer_that_was_sent_in_part() -> None:
    world = World()
    world.model.answer = in_turn(f"{'a' * 1500}\n\n{'b' * 1500}", "fine")
    world.channel.failures = [None, Permanent("twilio", "refused")]
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        await worker.accept(message(2, "and?"))
        await asyncio.sleep(20)
    assert world.outcomes() == ["partly_sent", "replied"]
    (_, second) = world.model.requests
    # What the model reads is what the customer has.
    assert second.thread_id == ""
    assert second.history[1:] == (Line("assistant", "a" * 1500),)


# --- how an answer ends ------------------------------------------------------------------------

ENDS: list[tuple[Finish, str]] = [
    ("empty", ""),
    ("refused", "I cannot help with that"),
    ("truncated", "It is important to"),
    ("filtered", "It is"),
]
each_end = pytest.mark.parametrize(("finish", "text"), ENDS)


def with_remedy(finish: str, remedy: str) -> World:
    fallback = FALLBACK if remedy == "text" else ""
    return World(ai={f"on_{finish}": remedy, "fallback_text": fallback})


@each_end
async def test_retry_asks_once_more(finish: Finish, text: str) -> None:
    world = with_remedy(finish, "retry")
    world.model.answer = in_turn(said(text, finish), said("good"))
    await answered(world)
    assert texts(world) == ["good"]
    first, second = world.model.requests
    assert second == replace(first, again=True)
    (ended,) = world.events(TurnEnded)
    assert (ended.outcome, ended.input_tokens, ended.output_tokens) == ("replied", 20, 10)
    assert world.item()[record.MESSAGES][-1]["input_tokens"] == 20


@each_end
async def test_retry_hands_over_when_it_ends_so_again(finish: Finish, text: str) -> None:
    world = with_remedy(finish, "retry")
    world.model.answer = in_turn(said(text, finish), said(text, finish))
    await answered(world)
    assert texts(world) == []
    assert handed(world) == ("failed", f"the model's answer was {finish}", "")
    assert world.item()[record.HANDOFF] is False


@each_end
async def test_handoff_gives_the_messages_to_people(finish: Finish, text: str) -> None:
    world = with_remedy(finish, "handoff")
    world.model.answer = in_turn(said(text, finish))
    await answered(world)
    assert texts(world) == []
    assert handed(world) == ("failed", f"the model's answer was {finish}", "")
    assert world.item()[record.STATUS] == record.REPLY_FAILED


@each_end
async def test_text_sends_the_fallback(finish: Finish, text: str) -> None:
    world = with_remedy(finish, "text")
    world.model.answer = in_turn(said(text, finish), "good")
    await answered(world)
    assert texts(world) == [FALLBACK]
    assert world.handed_over() == []
    # The answer that the customer did not see is in no thread that goes on.
    assert world.item()[record.THREAD_ID] == ""


async def test_another_bad_end_after_a_retry_has_its_own_remedy() -> None:
    world = World(ai={"on_empty": "retry", "on_refused": "text", "fallback_text": FALLBACK})
    world.model.answer = in_turn(said(finish="empty"), said("no", "refused"))
    await answered(world)
    assert texts(world) == [FALLBACK]


async def test_each_profile_has_its_own_remedies() -> None:
    own = {"on_refused": "text", "fallback_text": "Ask the shop."}
    world = World(ai={"profiles": {"shop": own}})
    world.model.answer = in_turn(said("no", "refused"))
    await answered(world, ai_profile="shop")
    assert texts(world) == ["Ask the shop."]


async def test_an_apology_goes_ahead_of_the_handoff() -> None:
    world = World(turn={"apology_text": "A colleague will answer."})
    world.model.answer = in_turn(said("no", "refused"))
    await answered(world)
    assert texts(world) == ["A colleague will answer."]
    assert handed(world)[0] == "failed"


@pytest.mark.parametrize("text", ["", " \n", "> ", "\u2028"])
async def test_an_answer_of_which_nothing_is_left_counts_as_empty(text: str) -> None:
    world = World()
    world.model.answer = in_turn(said(text), said("good"))
    await answered(world)
    assert texts(world) == ["good"]
    assert [e.attempt for e in world.events(TurnEnded)] == [1]


@pytest.mark.parametrize(
    ("formatting", "expected"),
    [("whatsapp", "*Open* until _six_"), ("none", "**Open** until *six*")],
)
async def test_markdown_is_sent_as_the_profile_wants(formatting: str, expected: str) -> None:
    world = World(ai={"formatting": formatting})
    world.model.answer = in_turn("**Open** until *six*")
    await answered(world)
    assert texts(world) == [expected]
    # The history holds what the customer saw.
    assert world.history()[-1] == ("assistant", expected)


# --- structured answers ------------------------------------------------------------------------


def structured(content: str = "", *, handoff: bool = False, **more: str) -> str:
    empty = {"handoff_reason": "", "handoff_summary": ""}
    return json.dumps({"content": content, "handoff": handoff} | empty | more)


async def test_of_a_structured_answer_the_content_is_sent() -> None:
    world = World(ai={"output": "json"})
    world.model.answer = in_turn(structured("We are **open**."))
    await answered(world)
    assert texts(world) == ["We are *open*."]
    assert world.handed_over() == []
    assert world.item()[record.HANDOFF] is False


async def test_a_structured_answer_can_hand_over_with_a_farewell() -> None:
    world = World(ai={"output": "json"}, turn={"apology_text": "Sorry."})
    why = {"handoff_reason": "a refund", "handoff_summary": "Wants 12 back for order 7."}
    world.model.answer = in_turn(structured("A **colleague** will write.", handoff=True, **why))
    await answered(world)
    assert texts(world) == ["A *colleague* will write."]
    # Why is in the model's words, which may quote the customer: for people only.
    assert handed(world) == ("ai_handed_over", "", "a refund\n\nWants 12 back for order 7.")
    assert world.item()[record.HANDOFF] is True
    assert world.item()[record.STATUS] == record.HANDED_TO_HUMAN
    assert sorted(world.history()) == [
        ("assistant", "A *colleague* will write."),
        ("user", "hello"),
    ]


async def test_a_handoff_needs_no_farewell() -> None:
    world = World(ai={"output": "json"}, turn={"apology_text": "Sorry."})
    world.model.answer = in_turn(structured(handoff=True, handoff_reason="a refund"))
    await answered(world)
    assert texts(world) == []
    assert handed(world) == ("ai_handed_over", "", "a refund")
    assert world.item()[record.HANDOFF] is True


async def test_after_the_handoff_people_keep_the_conversation() -> None:
    world = World(ai={"output": "json"})
    world.model.answer = in_turn(structured("Bye.", handoff=True))
    world.converse()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
        await worker.accept(message(2))
        await asyncio.sleep(20)
    assert texts(world) == ["Bye."]
    assert [b["handoff_reason"] for b in world.handed_over()] == ["ai_handed_over", "requested"]


BROKEN = '{"content": "We are op'


async def test_a_broken_structured_answer_never_reaches_the_customer() -> None:
    world = World(ai={"output": "json"})
    world.model.answer = in_turn(BROKEN, BROKEN)
    await answered(world)
    assert texts(world) == []
    assert handed(world)[:2] == ("failed", "the model's answer was empty")


async def test_a_broken_structured_answer_is_asked_for_once_more() -> None:
    world = World(ai={"output": "json"})
    world.model.answer = in_turn(BROKEN, structured("We are open."))
    await answered(world)
    assert texts(world) == ["We are open."]


async def test_a_structured_answer_that_was_cut_off_ends_as_such() -> None:
    world = World(ai={"output": "json", "on_truncated": "handoff"})
    world.model.answer = in_turn(said(BROKEN, "truncated"))
    await answered(world)
    assert texts(world) == []
    assert handed(world)[1] == "the model's answer was truncated"


async def test_plain_text_instead_of_a_structured_answer_is_sent() -> None:
    world = World(ai={"output": "json"})
    world.model.answer = in_turn("We are open.")
    await answered(world)
    assert texts(world) == ["We are open."]


async def test_without_structured_output_an_object_is_text() -> None:
    world = World()
    world.model.answer = in_turn(structured("x", handoff=True))
    await answered(world)
    assert texts(world) == [structured("x", handoff=True)]
    assert world.handed_over() == []


# --- moderation --------------------------------------------------------------------------------

SORRY = "We do not talk about this."


def moderated(**rules: str) -> World:
    text = SORRY if "text" in rules.values() else ""
    world = World(moderation={"text": text, **rules})
    world.moderator.rule = lambda text: ("violence", "hate") if "bad" in text else ()
    return world


async def test_a_flagged_message_is_given_to_people_and_no_model_sees_it() -> None:
    world = moderated(input="handoff")
    await answered(world, "hello", "bad words")
    assert world.model.requests == []
    assert texts(world) == []
    reasons = {(b["handoff_reason"], b["handoff_detail"]) for b in world.handed_over()}
    assert reasons == {("moderation", "input: hate, violence")}
    assert len(world.handed_over()) == 2
    assert world.item()[record.STATUS] == record.HANDED_TO_HUMAN
    assert world.item()[record.HANDOFF] is False


async def test_a_flagged_message_is_answered_with_the_fixed_text() -> None:
    world = moderated(input="text")
    await answered(world, "bad words")
    assert world.model.requests == []
    assert texts(world) == [SORRY]
    assert world.outcomes() == ["replied"]


async def test_a_flagged_answer_is_not_sent() -> None:
    world = moderated(output="handoff")
    world.model.answer = in_turn("bad words")
    await answered(world)
    assert texts(world) == []
    assert handed(world) == ("moderation", "output: hate, violence", "")
    assert world.item()[record.THREAD_ID] == ""


async def test_the_fixed_text_is_sent_instead_of_a_flagged_answer() -> None:
    world = moderated(output="text")
    world.model.answer = in_turn("bad words")
    await answered(world)
    assert texts(world) == [SORRY]
    assert world.item()[record.THREAD_ID] == ""


@pytest.mark.parametrize("rules", [{"input": "handoff"}, {"output": "handoff"}])
async def test_only_what_is_wanted_is_looked_at(rules: dict[str, str]) -> None:
    world = moderated(**rules)
    await answered(world, "hello")
    assert texts(world) == ["You said: hello"]
    assert world.moderator.texts == (["hello"] if "input" in rules else ["You said: hello"])


def by_tool(words: str) -> tuple[World, ModelReply]:
    call = ToolCall("1", "hand_over", '{"reason": "a refund", "summary": "Order 7."}')
    return moderated(output="handoff"), said(words, "complete", call)


def by_structure(words: str) -> tuple[World, ModelReply]:
    why = {"handoff_reason": "a refund", "handoff_summary": "Order 7."}
    world = World(ai={"output": "json"}, moderation={"output": "handoff"})
    world.moderator.rule = lambda text: ("hate",) if "bad" in text else ()
    return world, said(structured(words, handoff=True, **why))


each_way = pytest.mark.parametrize("way", [by_tool, by_structure])


@each_way
async def test_a_flagged_farewell_is_not_sent_and_people_are_told(
    way: Callable[[str], tuple[World, ModelReply]],
) -> None:
    world, reply = way("bad words")
    world.model.answer = in_turn(reply)
    await answered(world)
    assert texts(world) == []
    reason, _, summary = handed(world)
    assert reason == "ai_handed_over"
    why, what, told = summary.split("\n\n")
    assert (why, what) == ("a refund", "Order 7.")
    assert told.startswith("What the AI wrote to the customer was not sent: hate")
    assert world.item()[record.HANDOFF] is True


@each_way
async def test_a_harmless_farewell_is_sent(
    way: Callable[[str], tuple[World, ModelReply]],
) -> None:
    world, reply = way("A colleague will write.")
    world.model.answer = in_turn(reply)
    await answered(world)
    assert texts(world) == ["A colleague will write."]
    assert handed(world) == ("ai_handed_over", "", "a refund\n\nOrder 7.")


async def test_the_fixed_text_is_sent_instead_of_a_flagged_farewell() -> None:
    world = moderated(output="text")
    world.model.answer = in_turn(by_tool("bad words")[1])
    await answered(world)
    assert texts(world) == [SORRY]
    assert handed(world)[0] == "ai_handed_over"


@pytest.mark.parametrize("rules", [{"input": "handoff"}, {"output": "handoff"}])
async def test_while_moderation_fails_nothing_is_sent_and_the_turn_comes_back(
    rules: dict[str, str],
) -> None:
    world = moderated(**rules)
    world.moderator.failures = [DOWN, DOWN]
    await answered(world)
    assert texts(world) == ["You said: hello"]
    assert world.outcomes() == ["retry", "retry", "replied"]
    assert len(world.moderator.texts) == 3


async def test_when_moderation_fails_for_good_people_get_the_messages_unanswered() -> None:
    world = moderated(output="text")
    failure: DependencyError = Permanent("openai", "the model does not exist")
    world.moderator.failures = [failure]
    await answered(world)
    assert texts(world) == []
    assert handed(world)[0] == "failed"


# --- who answers -------------------------------------------------------------------------------

NAMED = {
    "profiles": {"sales": {}, "support": {}},
    "assistants": {"map": {"asst_1": "support"}},
}


@pytest.mark.parametrize(
    ("attributes", "profile"),
    [
        ({}, ""),
        ({"ai_profile": "sales"}, "sales"),
        ({"ai_profile": "unknown"}, ""),
        ({"ai_profile": 7}, ""),
        ({"assistant_id": "asst_1"}, "support"),
        ({"assistant_id": "asst_2"}, ""),
        ({"ai_profile": "sales", "assistant_id": "asst_1"}, "sales"),
        ({"ai_profile": "unknown", "assistant_id": "asst_1"}, "support"),
    ],
)
async def test_the_record_says_who_answers(attributes: dict[str, Any], profile: str) -> None:
    world = World(ai=NAMED)
    await answered(world, **attributes)
    assert [request.profile for request in world.model.requests] == [profile]
    assert [e.profile for e in world.events(TurnEnded)] == [profile]


async def test_the_attributes_names_are_settings() -> None:
    assistants = {"attribute": "bot", "map": {"asst_1": "support"}}
    world = World(ai={**NAMED, "assistants": assistants, "profile_attribute": "agent"})
    await answered(world, agent="unknown", bot="asst_1", ai_profile="sales")
    assert world.model.requests[0].profile == "support"
