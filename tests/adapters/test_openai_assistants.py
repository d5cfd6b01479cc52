"""The Assistants adapter: the real SDK on loopback against the double, sleeps that take no time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from replyd.adapters.openai.assistants import GONE, OpenAIAssistants
from replyd.adapters.openai.client import create_client
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.openai_double.assistants_wire import text_of
from replyd.demo.openai_double.threads import ACTIVE, Thread
from replyd.domain.tools import HAND_OVER, ToolResult, ToolSpec
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, Line, ModelReply, ModelRequest

KEY = "sk-secret"
ASSISTANT = "asst_bakery"
SECRET_TEXT = "a text that no error may quote"
TOOL = ToolSpec("look_up", "Looks something up.", {"type": "object", "properties": {}})

Make = Callable[..., OpenAIAssistants]


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def double() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble(api_key=KEY) as double:
        double.replies = lambda text: f"to {text}"
        yield double


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def make(double: OpenAIDouble, naps: Naps) -> AsyncIterator[Make]:
    made: list[OpenAIAssistants] = []

    def build(*, key: str = KEY, url: str = "", **options: Any) -> OpenAIAssistants:
        client = create_client(key, base_url=url or double.api_url, timeout_seconds=5)
        given = {"assistant_id": ASSISTANT, "timeout_seconds": 5, "sleep": naps, **options}
        made.append(OpenAIAssistants(client, **given))
        return made[-1]

    yield build
    for adapter in made:
        await adapter.close()


@pytest.fixture
def adapter(make: Make) -> OpenAIAssistants:
    return make()


FIRST = ModelRequest(
    turn="first question",
    thread_id="",
    unseen=(),
    history=(Line("user", "hello"), Line("assistant", "hi"), Line("user", " ")),
    conversation_id="c-1",
    sids=("SM1",),
)


async def follow_up(adapter: OpenAIAssistants) -> ModelRequest:
    """A second turn, in the thread that a first one has made."""
    first = await adapter.respond(FIRST)
    return replace(
        FIRST,
        turn="second question",
        thread_id=first.thread_id,
        unseen=(Line("assistant", "a person's answer"), Line("user", "thanks")),
        sids=("SM2", "SM3"),
    )


async def failure(call: Awaitable[object]) -> DependencyError:
    """The error of a call that must fail, checked for what no error may show or carry along."""
    with pytest.raises(DependencyError) as caught:
        await call
    error = caught.value
    assert error.dependency == "openai"
    assert SECRET_TEXT not in str(error)
    assert KEY not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


def only(double: OpenAIDouble) -> Thread:
    (thread,) = double.assistants.threads.values()
    return thread


def lines(thread: Thread) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in thread.messages]


def operations(double: OpenAIDouble, *names: str) -> list[str]:
    return [name for name, _ in double.assistants.log if name in names]


def statuses(thread: Thread) -> list[str]:
    return [run["status"] for run in thread.runs]


OPENING = [("user", "hello"), ("assistant", "hi"), ("user", "first question")]
FIRST_ANSWER = ("assistant", "to first question")
UNSEEN = [("assistant", "a person's answer"), ("user", "thanks")]
SECOND = [("user", "second question"), ("assistant", "to second question")]


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", ["", "resp_abc", "conv_abc"])
async def test_without_a_thread_one_is_made_from_the_history(
    double: OpenAIDouble, adapter: OpenAIAssistants, thread: str
) -> None:
    reply = await adapter.respond(replace(FIRST, thread_id=thread, conversation_id="c" * 600))
    made = only(double)
    assert lines(made) == [*OPENING, FIRST_ANSWER]
    assert made.body["metadata"] == {"conversation_id": "c" * 512}
    assert reply.text == "to first question"
    assert reply.thread_id == made.body["id"]
    assert reply.model == "gpt-6-luna"
    assert reply.input_tokens > reply.output_tokens > 0
    assert reply.finish == "complete"
    assert operations(double, "list_runs") == []


async def test_a_history_that_is_too_long_for_one_request(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    history = tuple(Line("user", f"line {number}") for number in range(40))
    await adapter.respond(replace(FIRST, history=history))
    expected = [*(("user", f"line {number}") for number in range(40)), OPENING[-1], FIRST_ANSWER]
    assert lines(only(double)) == expected


async def test_a_thread_gets_what_it_has_not_seen_and_the_turn(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    reply = await adapter.respond(request)
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]
    assert only(double).messages[-2]["metadata"] == {"turn": "SM2", "upto": "SM3"}
    assert only(double).runs[-1]["metadata"] == {"turn": "SM2", "upto": "SM3"}
    assert (reply.text, reply.thread_id) == ("to second question", request.thread_id)


async def test_a_thread_that_is_gone_is_rebuilt(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    double.assistants.forget()
    reply = await adapter.respond(request)
    assert lines(only(double)) == [*OPENING[:2], *SECOND]
    assert reply.thread_id != request.thread_id


async def test_another_server_s_words_for_a_missing_thread(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    double.assistants.fail_next("list_runs", status=404, message="Not Found")
    assert (await adapter.respond(request)).thread_id != request.thread_id


async def test_a_server_that_deletes_no_messages_gets_a_new_thread(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    double.assistants.fail_next("delete_message", status=405)
    reply = await adapter.respond(replace(request, turn="more", sids=("SM2", "SM4")))
    assert reply.thread_id != request.thread_id
    made = double.assistants.threads[reply.thread_id]
    assert lines(made) == [*OPENING[:2], ("user", "more"), ("assistant", "to more")]


@pytest.mark.parametrize("operation", ["list_messages", "create_message", "create_run"])
async def test_a_thread_that_vanishes_while_it_is_continued_is_rebuilt(
    double: OpenAIDouble, adapter: OpenAIAssistants, operation: str
) -> None:
    request = await follow_up(adapter)
    message = "Thread thread_1 not found."
    double.assistants.fail_next(operation, status=404, message=message)
    reply = await adapter.respond(request)
    assert reply.thread_id != request.thread_id
    made = double.assistants.threads[reply.thread_id]
    assert lines(made) == [*OPENING[:2], *SECOND]


async def test_a_run_that_vanishes_is_no_reason_to_leave_its_thread(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    double.assistants.fail_next("retrieve_run", status=404, message="Run run_1 not found.")
    error = await failure(adapter.respond(request))
    assert type(error) is Temporary
    assert error.code == "run_gone"
    assert len(double.assistants.threads) == 1


async def test_blank_lines_and_long_silences(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    unseen = tuple(Line("user", f"line {n}" if n else " ") for n in range(120))
    request = replace(request, unseen=unseen[:40])
    double.assistants.pass_next("create_message", 30)
    double.assistants.fail_next("create_message", status=500)
    await failure(adapter.respond(request))
    await adapter.respond(request)
    expected = [("user", f"line {n}") for n in range(1, 40)]
    assert lines(only(double))[4:] == [*expected, *SECOND]
    request = replace(request, unseen=unseen, sids=("SM7",))
    assert (await adapter.respond(request)).text == "to second question"


async def test_a_thread_that_vanishes_while_it_is_asked_is_temporary(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.fail_next("retrieve_run", status=404, message="No thread found with id 'x'.")
    error = await failure(adapter.respond(FIRST))
    assert type(error) is Temporary
    assert error.code == "thread_gone"


async def test_a_turn_without_sids_is_answered_and_never_known_again(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = replace(await follow_up(adapter), sids=(), unseen=())
    await adapter.respond(request)
    await adapter.respond(request)
    assert lines(only(double))[4:] == [*SECOND, *SECOND]


# --- runs ----------------------------------------------------------------------------------------


async def test_nothing_is_overridden_unless_given(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    await adapter.respond(FIRST)
    (body,) = double.requests
    assert body == {"assistant_id": ASSISTANT, "metadata": {"turn": "SM1", "upto": "SM1"}}


async def test_overrides(double: OpenAIDouble, make: Make) -> None:
    adapter = make(model="gpt-6-sol", instructions="Be brief.", tools=[TOOL], max_output_tokens=300)
    reply = await adapter.respond(FIRST)
    (body,) = double.requests
    assert body["model"] == reply.model == "gpt-6-sol"
    assert body["instructions"] == "Be brief."
    assert body["max_completion_tokens"] == 300
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "look_up",
                "description": "Looks something up.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]


async def test_tools_do_not_take_away_those_that_run_at_the_vendor(
    double: OpenAIDouble, make: Make
) -> None:
    own = {"type": "function", "function": {"name": "nobody_here_runs_it"}}
    search = {"type": "file_search", "file_search": {"max_num_results": 7}}
    double.assistants.assistants[ASSISTANT] = {"tools": [search, own]}
    await make(tools=[TOOL]).respond(FIRST)
    assert [tool["type"] for tool in double.requests[0]["tools"]] == ["file_search", "function"]
    assert double.requests[0]["tools"][0] == search
    assert double.requests[0]["tools"][1]["function"]["name"] == "look_up"


async def test_pauses_grow_up_to_a_limit(
    double: OpenAIDouble, adapter: OpenAIAssistants, naps: Naps
) -> None:
    double.assistants.polls = 9
    await adapter.respond(FIRST)
    assert naps.taken[:3] == [0.25, 0.375, 0.5625]
    assert naps.taken == sorted(naps.taken)
    assert naps.taken[-2:] == [3.0, 3.0]
    assert len(naps.taken) == 9


async def test_a_poll_that_fails_is_repeated_and_honours_the_delay(
    double: OpenAIDouble, adapter: OpenAIAssistants, naps: Naps
) -> None:
    double.assistants.fail_next("retrieve_run", status=502)
    double.assistants.fail_next("retrieve_run", status=429, headers={"retry-after": "7"})
    assert (await adapter.respond(FIRST)).text == "to first question"
    assert naps.taken == [0.25, 0.375, 7.0]
    assert len(double.requests) == 1


async def test_polls_that_fail_now_and_then_are_no_reason_to_give_up(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.polls = 2
    double.assistants.fail_next("retrieve_run", 2, status=502)
    double.assistants.pass_next("retrieve_run")
    double.assistants.fail_next("retrieve_run", 2, status=502)
    assert (await adapter.respond(FIRST)).text == "to first question"


async def test_polls_that_keep_failing_end_the_attempt(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.fail_next("retrieve_run", 3, status=502)
    assert type(await failure(adapter.respond(FIRST))) is Temporary
    assert operations(double, "retrieve_run") == ["retrieve_run"] * 3


async def test_a_key_that_is_refused_meanwhile_ends_the_attempt_at_once(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.fail_next("retrieve_run", status=401)
    assert type(await failure(adapter.respond(FIRST))) is DependencyDown
    assert operations(double, "retrieve_run") == ["retrieve_run"]


async def test_after_the_deadline_no_run_stays_active(double: OpenAIDouble, make: Make) -> None:
    double.assistants.stuck = True
    error = await failure(make(timeout_seconds=0.3).respond(FIRST))
    assert type(error) is Temporary
    assert error.code == "timeout"
    assert statuses(only(double)) == ["cancelling"]


async def test_a_call_given_up_leaves_no_run_active(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.stuck = True
    asked = asyncio.create_task(adapter.respond(FIRST))
    while not operations(double, "retrieve_run"):
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert statuses(only(double)) == ["cancelling"]


async def test_giving_up_twice_does_not_stop_the_withdrawal(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.stuck = True
    asked = asyncio.create_task(adapter.respond(FIRST))
    while not operations(double, "retrieve_run"):
        await asyncio.sleep(0)
    asked.cancel()
    # Listing the runs is the first thing that a withdrawal does.
    while not operations(double, "list_runs"):
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert operations(double, "cancel_run") == []
    await adapter.close()
    assert statuses(only(double)) == ["cancelling"]


async def test_a_run_whose_creation_was_not_heard_of_is_withdrawn_too(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(timeout_seconds=0.3)
    request = await follow_up(adapter)
    double.assistants.stuck = True
    double.assistants.lose_next("create_run")
    assert (await failure(adapter.respond(request))).code == "disconnected"
    assert statuses(only(double))[-1] == "queued"
    # Adopted, and given up at the deadline.
    assert (await failure(adapter.respond(request))).code == "timeout"
    assert statuses(only(double))[-1] == "cancelling"


# --- what earlier attempts have left -------------------------------------------------------------


@pytest.mark.parametrize("operation", ["create_message", "create_run", "list_messages"])
async def test_after_a_lost_answer_nothing_is_added_twice(
    double: OpenAIDouble, adapter: OpenAIAssistants, operation: str
) -> None:
    request = await follow_up(adapter)
    double.assistants.lose_next(operation)
    assert type(await failure(adapter.respond(request))) is Temporary
    assert (await adapter.respond(request)).text == "to second question"
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]
    assert len(only(double).runs) == 2


async def test_each_of_the_messages_may_be_the_one_whose_answer_is_lost(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    for _ in range(3):
        double.assistants.lose_next("create_message")
        await failure(adapter.respond(request))
    await adapter.respond(request)
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]


async def test_a_burst_that_has_grown_replaces_its_message_and_the_answer(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    grown = replace(request, turn="second question\nand a third", sids=("SM2", "SM3", "SM4"))
    assert (await adapter.respond(grown)).text == "to second question\nand a third"
    assert lines(only(double)) == [
        *OPENING,
        FIRST_ANSWER,
        *UNSEEN,
        ("user", "second question\nand a third"),
        ("assistant", "to second question\nand a third"),
    ]


async def test_an_answer_that_is_deleted_already(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    double.assistants.lose_next("delete_message")
    grown = replace(request, turn="more", sids=("SM2", "SM4"))
    await failure(adapter.respond(grown))
    message = "No message found with id 'msg_1'."
    double.assistants.fail_next("delete_message", status=404, message=message)
    await adapter.respond(grown)
    assert lines(only(double))[-2:] == [("user", "more"), ("assistant", "to more")]


async def test_another_turn_that_ends_with_the_same_message_is_another_turn(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    other = replace(request, turn="other", unseen=(), sids=("SM3",))
    assert (await adapter.respond(other)).text == "to other"
    assert lines(only(double))[-4:] == [*SECOND, ("user", "other"), ("assistant", "to other")]


async def test_an_answer_that_was_paid_for_is_used(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    first = await adapter.respond(request)
    again = await adapter.respond(replace(request, again=True))
    assert again == first
    assert len(only(double).runs) == 2


@pytest.mark.parametrize("ending", ["refused", "incomplete"])
async def test_an_answer_that_was_not_complete_is_asked_for_again(
    double: OpenAIDouble, adapter: OpenAIAssistants, ending: str
) -> None:
    request = await follow_up(adapter)
    double.finish_next(status=ending, reason="max_output_tokens")
    assert (await adapter.respond(request)).finish != "complete"
    assert (await adapter.respond(request)).text == "to second question"
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]


async def test_an_answer_of_another_assistant_is_not_used(
    double: OpenAIDouble, adapter: OpenAIAssistants, make: Make
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    await make(assistant_id="asst_other").respond(request)
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]
    assert [run["assistant_id"] for run in only(double).runs][1:] == [ASSISTANT, "asst_other"]


async def test_an_answer_that_somebody_has_written_after_is_not_used(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await adapter.respond(request)
    newer = double.assistants.threads[request.thread_id].messages[3]
    only(double).messages.append(newer | {"id": "msg_other", "run_id": None})
    await adapter.respond(request)
    assert len(only(double).runs) == 3


async def crash(double: OpenAIDouble, adapter: OpenAIAssistants, request: ModelRequest) -> None:
    """The run is created and begun, and nobody hears of it."""
    polls, double.assistants.polls = double.assistants.polls, 99
    double.assistants.fail_next("retrieve_run", 3, status=500)
    await failure(adapter.respond(request))
    double.assistants.polls = polls


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_an_active_run_of_the_same_turn_is_adopted(
    double: OpenAIDouble, adapter: OpenAIAssistants, status: str
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    only(double).runs[-1]["status"] = status
    assert (await adapter.respond(request)).text == "to second question"
    assert statuses(only(double)) == ["completed", "completed"]
    assert operations(double, "cancel_run") == []


async def test_an_adopted_run_may_end_in_any_way(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    double.refuse_next()
    assert (await adapter.respond(request)).finish == "refused"
    assert len(only(double).runs) == 2


@pytest.mark.parametrize("status", ACTIVE)
async def test_an_active_run_of_a_smaller_burst_is_cancelled_first(
    double: OpenAIDouble, adapter: OpenAIAssistants, status: str
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    only(double).runs[-1]["status"] = status
    grown = replace(request, turn="more", sids=("SM2", "SM4"))
    assert (await adapter.respond(grown)).text == "to more"
    assert statuses(only(double)) == ["completed", "cancelled", "completed"]
    # Half an answer, which the cancelled run had left, is not there either.
    more = [("user", "more"), ("assistant", "to more")]
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *more]


@pytest.mark.parametrize("status", ["requires_action", "cancelling"])
async def test_a_run_of_the_same_turn_that_cannot_go_on_is_ended_first(
    double: OpenAIDouble, adapter: OpenAIAssistants, status: str
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    only(double).runs[-1]["status"] = status
    assert (await adapter.respond(request)).text == "to second question"
    assert statuses(only(double)) == ["completed", "cancelled", "completed"]
    assert lines(only(double)) == [*OPENING, FIRST_ANSWER, *UNSEEN, *SECOND]


async def test_a_run_of_another_turn_is_cancelled_with_what_it_wrote(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    only(double).runs[-1]["status"] = "in_progress"
    third = replace(request, turn="third", unseen=(), sids=("SM9",))
    await adapter.respond(third)
    expected = [("user", "third"), ("assistant", "to third")]
    assert lines(only(double))[6:] == [SECOND[0], *expected]


async def test_a_run_that_ends_before_it_can_be_cancelled(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    await crash(double, adapter, request)
    double.assistants.fail_next("cancel_run", status=400, message="Cannot cancel run.")
    grown = replace(request, turn="more", sids=("SM2", "SM4"))
    assert (await adapter.respond(grown)).text == "to more"
    more = [("user", "more"), ("assistant", "to more")]
    assert lines(only(double))[4:] == [*UNSEEN, *more]


async def test_a_run_that_became_active_meanwhile_is_temporary(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = await follow_up(adapter)
    for operation, message in (
        ("create_message", "Can't add messages to thread_1 while a run run_1 is active."),
        ("create_run", "Thread thread_1 already has an active run run_1."),
    ):
        double.assistants.fail_next(operation, status=400, message=message)
        error = await failure(adapter.respond(request))
        assert type(error) is Temporary
        assert error.code == "run_active"


# --- tools ---------------------------------------------------------------------------------------


async def ask_for_tool(double: OpenAIDouble, adapter: OpenAIAssistants) -> ModelReply:
    double.call_next("look_up", {"what": "cake"})
    return await adapter.respond(FIRST)


def told(reply: ModelReply, *outputs: str) -> ModelRequest:
    results = [ToolResult(c.id, o) for c, o in zip(reply.calls, outputs, strict=True)]
    return replace(FIRST, state=reply.state, results=tuple(results))


async def test_calls_and_what_comes_of_them(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[TOOL, HAND_OVER])
    double.tool_replies = lambda text, outputs: f"{text}: {outputs}"
    reply = await ask_for_tool(double, adapter)
    (call,) = reply.calls
    assert (call.name, call.arguments) == ("look_up", '{"what": "cake"}')
    thread = only(double)
    assert reply.state == (thread.body["id"], thread.runs[0]["id"])
    assert reply.text == ""
    answer = await adapter.respond(told(reply, "£28"))
    assert answer.text == "first question: ['£28']"
    assert answer.thread_id == reply.thread_id
    assert answer.calls == ()
    assert len(only(double).runs) == 1


async def test_a_state_that_was_stored_as_json(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    request = replace(told(reply, "£28"), state=list(reply.state))
    assert (await adapter.respond(request)).text == "£28"


async def test_a_second_round_of_calls(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    double.call_next("look_up", "{broken")
    second = await adapter.respond(told(reply, "one"))
    assert second.calls[0].arguments == "{broken"
    assert (await adapter.respond(told(second, "two"))).text == "one\ntwo"


async def test_results_whose_taking_was_not_heard_of_are_taken_once(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    double.assistants.lose_next("submit_tool_outputs")
    request = told(reply, "£28")
    assert type(await failure(adapter.respond(request))) is Temporary
    assert (await adapter.respond(request)).text == "£28"


async def test_results_for_a_run_that_has_expired_are_temporary(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    double.assistants.expire(reply.thread_id)
    error = await failure(adapter.respond(told(reply, "£28")))
    assert type(error) is Temporary
    assert error.code == "run_expired"


async def test_results_for_a_thread_that_is_gone_are_temporary(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    double.assistants.forget()
    error = await failure(adapter.respond(told(reply, "£28")))
    assert type(error) is Temporary
    assert error.code == "thread_gone"


async def test_results_that_are_refused_are_permanent(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[TOOL])
    reply = await ask_for_tool(double, adapter)
    request = replace(told(reply, "£28"), results=(ToolResult("call_other", SECRET_TEXT),))
    assert type(await failure(adapter.respond(request))) is Permanent


async def test_a_turn_that_starts_over_does_not_wait_for_old_calls(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[TOOL])
    request = await follow_up(adapter)
    double.call_next("look_up", {})
    assert (await adapter.respond(request)).calls
    assert (await adapter.respond(request)).text == "to second question"
    assert statuses(only(double)) == ["completed", "cancelled", "completed"]


# --- how runs end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "kind", "code"),
    [
        ("failed", "rate_limit_exceeded", Busy, "rate_limit_exceeded"),
        ("failed", "server_error", Temporary, "server_error"),
        ("failed", "invalid_prompt", Permanent, "invalid_prompt"),
        ("failed", SECRET_TEXT, Temporary, "unknown"),
        ("expired", "", Temporary, "run_expired"),
        ("cancelled", "", Temporary, "run_cancelled"),
        ("something_new", "", Temporary, "run_something_new"),
        (SECRET_TEXT, "", Temporary, "run_unknown"),
    ],
)
async def test_runs_without_an_answer(
    double: OpenAIDouble,
    adapter: OpenAIAssistants,
    status: str,
    reason: str,
    kind: type[DependencyError],
    code: str,
) -> None:
    double.finish_next(status=status, reason=reason)
    error = await failure(adapter.respond(FIRST))
    assert type(error) is kind
    assert error.code == code


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "truncated"), ("content_filter", "filtered")]
)
async def test_runs_that_stop_early(
    double: OpenAIDouble, adapter: OpenAIAssistants, reason: str, finish: str
) -> None:
    double.finish_next(status="incomplete", reason=reason)
    reply = await adapter.respond(FIRST)
    assert (reply.finish, reply.text) == (finish, "to first"[:8])


async def test_a_refusal(double: OpenAIDouble, adapter: OpenAIAssistants) -> None:
    double.refuse_next(refusal="No.")
    reply = await adapter.respond(FIRST)
    assert (reply.finish, reply.text) == ("refused", "")


def answering(double: OpenAIDouble, *parts: dict[str, Any]) -> None:
    double.reshape = lambda message: {**message, "content": list(parts)}


def part(value: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


@pytest.mark.parametrize("parts", [[], [part(" \n")], [{"type": "image_file", "image_file": {}}]])
async def test_an_answer_without_text(
    double: OpenAIDouble, adapter: OpenAIAssistants, parts: list[dict[str, Any]]
) -> None:
    answering(double, *parts)
    reply = await adapter.respond(FIRST)
    assert (reply.finish, reply.text) == ("empty", "")


async def test_sources_are_left_out(double: OpenAIDouble, adapter: OpenAIAssistants) -> None:
    cited = {"type": "file_citation", "text": "[1]", "file_citation": {"file_id": "f"}}
    path = {"type": "file_path", "text": "sandbox:/cakes.csv", "file_path": {"file_id": "f"}}
    answering(
        double,
        part("Cakes 【4:0†menu.pdf】 are fresh【12:3†source】, ", cited),
        part("bread [1] too, 【not】 [1]. sandbox:/cakes.csv", cited, path),
    )
    assert (await adapter.respond(FIRST)).text == (
        "Cakes are fresh, bread too, 【not】. sandbox:/cakes.csv"
    )


async def test_all_messages_of_the_run_and_no_other(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    def twice(message: dict[str, Any]) -> dict[str, Any]:
        earlier = message | {"id": "msg_earlier", "content": [part("one moment")]}
        only(double).messages.append(earlier)
        return message

    double.reshape = twice
    assert (await adapter.respond(FIRST)).text == "one moment\n\nto first question"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "prompt_token_details": {"cached_tokens": 8},
            },
            (9, 3, 8),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 3}, (9, 3, 0)),
        (None, (0, 0, 0)),
    ],
)
async def test_what_it_cost(
    double: OpenAIDouble,
    adapter: OpenAIAssistants,
    usage: dict[str, Any] | None,
    counts: tuple[int, int, int],
) -> None:
    def recount(message: dict[str, Any]) -> dict[str, Any]:
        only(double).runs[-1]["usage"] = usage
        return message

    double.reshape = recount
    reply = await adapter.respond(FIRST)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens) == counts


# --- files ---------------------------------------------------------------------------------------

PHOTO = File("cake.jpg", "image/jpeg", b"\xff\xd8photo")
ORDER = File("order.pdf", "application/pdf", b"%PDF")


async def test_images_are_shown_and_documents_named(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    await adapter.respond(replace(FIRST, files=(ORDER, PHOTO)))
    message = only(double).messages[2]
    assert text_of(message) == "first question\n[file 1 (order.pdf) cannot be shown to you]"
    assert [part["type"] for part in message["content"]] == ["text", "image_file"]
    assert double.files_seen == [PHOTO]


@pytest.mark.parametrize("status", [400, 404, 405, 413])
async def test_an_image_that_the_server_does_not_take(
    double: OpenAIDouble, adapter: OpenAIAssistants, status: int
) -> None:
    double.assistants.fail_next("upload_file", status=status)
    await adapter.respond(replace(FIRST, files=(PHOTO,)))
    text = text_of(only(double).messages[2])
    assert text == "first question\n[file 1 (cake.jpg) cannot be shown to you]"


async def test_an_upload_that_fails_for_now(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.assistants.fail_next("upload_file", status=503)
    assert type(await failure(adapter.respond(replace(FIRST, files=(PHOTO,))))) is Temporary


async def test_an_image_is_not_uploaded_again_with_a_message_that_is_there(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    request = replace(await follow_up(adapter), files=(PHOTO,))
    double.assistants.fail_next("create_run", status=500)
    await failure(adapter.respond(request))
    await adapter.respond(request)
    assert operations(double, "upload_file") == ["upload_file"]


# --- an API that is not there, and other errors --------------------------------------------------


async def test_the_api_is_gone(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[TOOL])
    request = await follow_up(adapter)
    double.call_next("look_up", {})
    waiting = await adapter.respond(request)
    double.assistants.gone = True
    for attempt in (adapter.respond(request), adapter.respond(FIRST), adapter.check()):
        error = await failure(attempt)
        assert type(error) is DependencyDown
        assert error.code == GONE == "assistants_gone"
        assert 'ai.backend = "responses"' in error.reason
        assert "ai.assistants.map" in error.reason
    # The next attempt, without results, finds it out.
    assert type(await failure(adapter.respond(told(waiting, "£28")))) is Temporary


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("operation", ["create_thread", "create_run"])
async def test_the_api_is_gone_in_parts(
    double: OpenAIDouble, adapter: OpenAIAssistants, operation: str, status: int
) -> None:
    double.assistants.fail_next(operation, status=status, message="The Assistants API was retired.")
    assert (await failure(adapter.respond(FIRST))).code == GONE


async def test_an_assistant_that_does_not_exist(double: OpenAIDouble, make: Make) -> None:
    double.assistants.assistants["asst_other"] = {}
    for attempt in (
        make().respond(FIRST),
        make(tools=[TOOL]).respond(FIRST),
        make().check(),
    ):
        error = await failure(attempt)
        assert type(error) is DependencyDown
        assert error.code == "assistant_not_found"
        assert ASSISTANT in error.reason


async def test_check_looks_the_assistant_up(double: OpenAIDouble, make: Make) -> None:
    await make().check()
    assert operations(double, "retrieve_assistant", "create_thread") == ["retrieve_assistant"]
    key = await failure(make(key="sk-other").check())
    assert type(key) is DependencyDown
    assert "OPENAI_API_KEY" in key.reason
    double.delay = 1
    slow = await failure(make(timeout_seconds=0.05).check())
    assert type(slow) is DependencyDown
    assert slow.code == "timeout"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_value", Permanent),
        (401, "invalid_api_key", DependencyDown),
        (404, "model_not_found", DependencyDown),
        (429, "rate_limit_exceeded", Busy),
        (429, "insufficient_quota", DependencyDown),
        (500, "server_error", Temporary),
    ],
)
@pytest.mark.parametrize("operation", ["create_message", "create_run", "list_runs"])
async def test_every_status_has_its_kind(
    double: OpenAIDouble,
    adapter: OpenAIAssistants,
    operation: str,
    status: int,
    code: str,
    kind: type[DependencyError],
) -> None:
    request = await follow_up(adapter)
    double.assistants.fail_next(operation, status=status, code=code, message=SECRET_TEXT)
    error = await failure(adapter.respond(request))
    assert type(error) is kind
    assert error.code == code
    assert (await adapter.respond(request)).text == "to second question"


async def test_a_dropped_connection_is_temporary(
    double: OpenAIDouble, adapter: OpenAIAssistants
) -> None:
    double.drop_next()
    assert type(await failure(adapter.respond(FIRST))) is Temporary
    assert (await adapter.respond(FIRST)).text


async def test_a_server_that_is_back_for_the_quick_retry(double: OpenAIDouble, make: Make) -> None:
    port = int(double.base_url.rpartition(":")[2])
    await double.stop()
    naps: list[float] = []

    async def back(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            await double.start(port)

    assert (await make(sleep=back).respond(FIRST)).text
    assert naps == [0.2, 0.25]


async def test_nobody_listening(double: OpenAIDouble, make: Make, naps: Naps) -> None:
    await double.stop()
    assert type(await failure(make().respond(FIRST))) is DependencyDown
    assert naps.taken == [0.2]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>"),
        ("application/json", b"{brok"),
        ("application/json", b"[]"),
        ("application/json", b'{"data": ["what"]}'),
    ],
)
async def test_a_server_that_is_not_openai(make: Make, content_type: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for request in (FIRST, replace(FIRST, thread_id="thread_1")):
            assert type(await failure(make(url=url).respond(request))) is Temporary
