"""The OpenAI adapter: the real SDK on loopback against the double."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from openai import AsyncOpenAI

from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.responses import OpenAIResponses
from replyd.demo.openai_double import OpenAIDouble
from replyd.domain.tools import ToolResult, ToolSpec
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, Line, ModelRequest

KEY = "sk-secret"
MODEL = "gpt-6-luna"
SECRET_TEXT = "a text that no error may quote"

STOCK = ToolSpec(
    name="stock",
    description="How many crates are left.",
    parameters={"type": "object", "properties": {"fruit": {"type": "string"}}},
)

Make = Callable[..., OpenAIResponses]


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
        yield double


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture(params=[True, False], ids=["direct", "sdk"])
async def make(
    double: OpenAIDouble, naps: Naps, request: pytest.FixtureRequest
) -> AsyncIterator[Make]:
    made: list[OpenAIResponses] = []

    def build(
        *,
        key: str = KEY,
        url: str = "",
        model: str = MODEL,
        timeout_seconds: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = naps,
        **settings: Any,
    ) -> OpenAIResponses:
        client = create_client(
            key,
            base_url=url or double.api_url,
            timeout_seconds=timeout_seconds,
            direct=request.param,
        )
        made.append(
            OpenAIResponses(
                client,
                model=model,
                instructions="Be brief.",
                timeout_seconds=timeout_seconds,
                sleep=sleep,
                **settings,
            )
        )
        return made[-1]

    yield build
    for adapter in made:
        await adapter.close()


REQUEST = ModelRequest(
    turn=SECRET_TEXT,
    thread_id="",
    unseen=(Line("assistant", "a person's answer"),),
    history=(Line("user", "first"), Line("assistant", "second"), Line("user", "third")),
    conversation_id="c-1",
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


def lines(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["role"], item["content"]) for item in body["input"]]


# --- threads -------------------------------------------------------------------------------------


async def test_without_a_thread_the_history_goes_along(double: OpenAIDouble, make: Make) -> None:
    double.replies = lambda text: f"  you said: {text}\n"
    reply = await make().respond(REQUEST)
    (body,) = double.requests
    assert lines(body) == [
        ("user", "first"),
        ("assistant", "second"),
        ("user", "third"),
        ("user", SECRET_TEXT),
    ]
    assert "previous_response_id" not in body
    assert {name: body[name] for name in body if name != "input"} == {
        "model": MODEL,
        "instructions": "Be brief.",
        "store": True,
        "truncation": "auto",
        "metadata": {"conversation_id": "c-1"},
    }
    assert reply.text == f"you said: {SECRET_TEXT}"
    assert reply.thread_id.startswith("resp_")
    assert reply.model == MODEL
    assert reply.input_tokens > reply.output_tokens > 0


async def test_with_a_thread_only_what_it_has_not_seen(double: OpenAIDouble, make: Make) -> None:
    adapter = make()
    first = await adapter.respond(REQUEST)
    second = await adapter.respond(replace(REQUEST, thread_id=first.thread_id))
    body = double.requests[1]
    assert body["previous_response_id"] == first.thread_id
    assert lines(body) == [("assistant", "a person's answer"), ("user", SECRET_TEXT)]
    assert body["instructions"] == "Be brief."
    assert second.thread_id != first.thread_id


@pytest.mark.parametrize("thread", ["thread_abc", "anything"])
async def test_threads_of_another_kind_are_rebuilt(
    double: OpenAIDouble, make: Make, thread: str
) -> None:
    await make().respond(replace(REQUEST, thread_id=thread))
    (body,) = double.requests
    assert "previous_response_id" not in body
    assert len(body["input"]) == 4


async def test_a_thread_that_is_gone_is_rebuilt_at_once(double: OpenAIDouble, make: Make) -> None:
    adapter = make()
    first = await adapter.respond(REQUEST)
    double.forget()
    reply = await adapter.respond(replace(REQUEST, thread_id=first.thread_id))
    _, refused, rebuilt = double.requests
    assert refused["previous_response_id"] == first.thread_id
    assert "previous_response_id" not in rebuilt
    assert len(rebuilt["input"]) == 4
    assert reply.thread_id != first.thread_id


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "previous_response_not_found", "gone"),
        (400, "invalid_request_error", "Invalid `previous_response_id`."),
        (404, "", "Previous response with id 'resp_1' not found."),
        (404, "", "Not Found"),
        (400, "", "No tool output found for function call call_1."),
    ],
)
async def test_other_words_for_a_thread_that_is_gone(
    double: OpenAIDouble, make: Make, status: int, code: str, message: str
) -> None:
    double.fail_next(status=status, code=code, message=message)
    await make().respond(replace(REQUEST, thread_id="resp_1"))
    assert len(double.requests) == 2


async def test_the_rebuild_is_tried_once(double: OpenAIDouble, make: Make) -> None:
    double.fail_next(2, status=400, code="previous_response_not_found", message="gone")
    error = await failure(make().respond(replace(REQUEST, thread_id="resp_1")))
    assert isinstance(error, Permanent)
    assert len(double.requests) == 2


async def test_a_model_that_is_gone_is_no_thread_that_is_gone(
    double: OpenAIDouble, make: Make
) -> None:
    double.fail_next(status=404, code="model_not_found")
    error = await failure(make().respond(replace(REQUEST, thread_id="resp_1")))
    assert type(error) is DependencyDown
    assert len(double.requests) == 1


async def test_without_storage_there_are_no_threads(double: OpenAIDouble, make: Make) -> None:
    adapter = make(store=False)
    for thread in ("", "resp_1", "conv_1"):
        reply = await adapter.respond(replace(REQUEST, thread_id=thread))
        assert reply.thread_id == ""
    for body in double.requests:
        assert body["store"] is False
        assert len(body["input"]) == 4
        assert not {"previous_response_id", "conversation", "include"} & set(body)


# --- conversations of OpenAI's -------------------------------------------------------------------


@pytest.fixture
async def vendors_side(double: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    """A client of whoever starts conversations at OpenAI."""
    async with create_client(KEY, base_url=double.api_url) as client:
        yield client


async def test_a_conversation_goes_on(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    adapter = make()
    for _ in range(2):
        reply = await adapter.respond(replace(REQUEST, thread_id=thread))
        assert reply.thread_id == thread
    for body in double.requests:
        assert body["conversation"] == thread
        assert "previous_response_id" not in body
        assert lines(body) == [("assistant", "a person's answer"), ("user", SECRET_TEXT)]
    items = await vendors_side.conversations.items.list(thread, order="asc")
    assert [item.role for item in items.data] == ["assistant", "user", "assistant"] * 2  # type: ignore[union-attr]


async def test_drafts_in_a_conversation_are_to_be_ignored(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    adapter = make()
    await adapter.respond(replace(REQUEST, thread_id=thread))
    await adapter.respond(replace(REQUEST, thread_id=thread, again=True))
    first, again = map(lines, double.requests)
    assert again[1:] == first
    ((role, text),) = again[:1]
    assert role == "developer"
    assert "not sent to the customer" in text


@pytest.mark.parametrize("thread", ["", "resp_"])
async def test_a_chain_branches_and_needs_no_such_word(
    double: OpenAIDouble, make: Make, thread: str
) -> None:
    adapter = make()
    if thread:
        thread = (await adapter.respond(REQUEST)).thread_id
    await adapter.respond(replace(REQUEST, thread_id=thread, again=True))
    assert "developer" not in dict(lines(double.requests[-1]))


async def test_a_conversation_that_is_gone_is_rebuilt_as_a_chain(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    await vendors_side.conversations.delete(thread)
    reply = await make().respond(replace(REQUEST, thread_id=thread, again=True))
    asked, rebuilt = double.requests
    assert asked["conversation"] == thread
    assert "conversation" not in rebuilt
    assert [text for _, text in lines(rebuilt)] == ["first", "second", "third", SECRET_TEXT]
    assert reply.thread_id.startswith("resp_")


async def test_a_conversation_in_use_is_waited_for(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    adapter, request = make(), replace(REQUEST, thread_id=thread)
    double.delay = 0.2
    first = asyncio.create_task(adapter.respond(request))
    while not double.requests:
        await asyncio.sleep(0.01)
    error = await failure(adapter.respond(request))
    assert type(error) is Temporary
    assert error.code == "conversation_locked"
    assert (await first).thread_id == thread
    assert len(double.requests) == 2


async def test_a_call_in_a_conversation(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    adapter, request = make(tools=[STOCK]), replace(REQUEST, thread_id=thread)
    double.call_next("stock", {"fruit": "figs"})
    waits = await adapter.respond(request)
    assert waits.thread_id == thread
    result = ToolResult(waits.calls[0].id, "42 crates")
    told = replace(request, state=waits.state, results=(result,))
    reply = await adapter.respond(told)
    assert (reply.text, reply.thread_id) == ("42 crates", thread)
    assert double.requests[-1]["conversation"] == thread
    assert double.requests[-1]["input"] == [
        {"type": "function_call_output", "call_id": result.id, "output": "42 crates"}
    ]
    # The answer was lost, and the conversation has had the result already.
    reply = await adapter.respond(told)
    assert reply.text == "42 crates"
    assert reply.thread_id.startswith("resp_")


async def test_a_conversation_that_waits_for_a_call_is_rebuilt_as_a_chain(
    double: OpenAIDouble, make: Make, vendors_side: AsyncOpenAI
) -> None:
    thread = (await vendors_side.conversations.create()).id
    adapter, request = make(tools=[STOCK]), replace(REQUEST, thread_id=thread)
    double.call_next("stock", {"fruit": "figs"})
    assert (await adapter.respond(request)).calls
    reply = await adapter.respond(request)
    assert reply.text
    assert reply.thread_id.startswith("resp_")
    assert len(double.requests[-1]["input"]) == 4


# --- tools ---------------------------------------------------------------------------------------


async def test_tools_are_offered_each_time(double: OpenAIDouble, make: Make) -> None:
    bare = ToolSpec("bare", "Takes nothing.")
    adapter = make(tools=[STOCK, bare])
    double.call_next("stock", {"fruit": "figs"})
    waits = await adapter.respond(REQUEST)
    results = (ToolResult(waits.calls[0].id, "42 crates"),)
    await adapter.respond(replace(REQUEST, state=waits.state, results=results))
    for body in double.requests:
        assert body["tools"] == [
            {
                "type": "function",
                "name": "stock",
                "description": "How many crates are left.",
                "parameters": STOCK.parameters,
                "strict": False,
            },
            {
                "type": "function",
                "name": "bare",
                "description": "Takes nothing.",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ]
        assert "parallel_tool_calls" not in body
        assert body["instructions"] == "Be brief."


async def test_words_beside_a_call_are_kept(double: OpenAIDouble, make: Make) -> None:
    double.asides = lambda _: "A colleague will write to you."
    double.call_next("stock", '{"fruit": ')
    reply = await make(tools=[STOCK]).respond(REQUEST)
    assert reply.text == "A colleague will write to you."
    assert reply.finish == "complete"
    # Broken as the model wrote it: who runs the tool tells the model.
    assert reply.calls[0].arguments == '{"fruit": '
    assert reply.thread_id.startswith("resp_")


async def test_results_continue_the_response_that_called(double: OpenAIDouble, make: Make) -> None:
    adapter = make(tools=[STOCK])
    double.call_next("stock", {"fruit": "figs"}, 2)
    request = REQUEST
    for number in range(2):
        waits = await adapter.respond(request)
        result = ToolResult(waits.calls[0].id, f"result {number}")
        request = replace(REQUEST, state=waits.state, results=(result,))
    reply = await adapter.respond(request)
    assert reply.text == "result 0\nresult 1"
    last = double.requests[-1]
    assert last["previous_response_id"] == waits.thread_id
    assert [item["output"] for item in last["input"]] == ["result 1"]


async def test_a_thread_that_is_lost_between_call_and_result_is_rebuilt_with_both(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[STOCK])
    double.call_next("stock", {"fruit": "figs"}, 2)
    request = REQUEST
    for number in range(2):
        waits = await adapter.respond(request)
        result = ToolResult(waits.calls[0].id, f"result {number}")
        request = replace(REQUEST, state=waits.state, results=(result,))
    double.forget()
    reply = await adapter.respond(request)
    assert reply.text == "result 0\nresult 1"
    rebuilt = double.requests[-1]
    assert "previous_response_id" not in rebuilt
    assert [item["type"] for item in rebuilt["input"]] == [
        *["message"] * 4,
        *["function_call", "function_call_output"] * 2,
    ]
    assert reply.thread_id.startswith("resp_")


async def test_without_storage_all_that_the_model_wrote_goes_back(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(tools=[STOCK], store=False, reasoning_effort="low")
    double.asides = lambda _: "One moment."
    double.call_next("stock", {"fruit": "figs"})
    waits = await adapter.respond(REQUEST)
    assert waits.thread_id == ""
    result = ToolResult(waits.calls[0].id, "42 crates")
    # As it would come back from a store.
    state = json.loads(json.dumps(waits.state))
    reply = await adapter.respond(replace(REQUEST, state=state, results=(result,)))
    assert reply.text == "42 crates"
    asked, told = double.requests
    assert asked["include"] == ["reasoning.encrypted_content"]
    assert told["input"][:4] == asked["input"]
    reasoning, words, call, output = told["input"][4:]
    assert reasoning["encrypted_content"]
    assert words["content"][0]["text"] == "One moment."
    assert call["call_id"] == output["call_id"] == result.id
    assert output["output"] == "42 crates"


async def test_a_call_in_an_answer_that_was_cut_off_is_not_made(
    double: OpenAIDouble, make: Make
) -> None:
    double.call_next("stock", {"fruit": "figs"})
    double.reshape = lambda response: {
        **response,
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    reply = await make(tools=[STOCK]).respond(REQUEST)
    assert (reply.finish, reply.calls, reply.state) == ("truncated", (), None)


# --- files ---------------------------------------------------------------------------------------


async def test_files_stand_behind_the_text_in_their_order(double: OpenAIDouble, make: Make) -> None:
    files = (
        File("scan.pdf", "application/pdf", b"%PDF"),
        File("photo.jpg", "image/jpeg", b"\xff\xd8"),
        File("letter.odt", "application/vnd.oasis.opendocument.text", b"PK"),
        File("", "application/pdf", b"%PDF-2"),
    )
    await make().respond(replace(REQUEST, files=files))
    assert double.requests[0]["input"][-1] == {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": SECRET_TEXT},
            {
                "type": "input_file",
                "filename": "scan.pdf",
                "file_data": "data:application/pdf;base64,JVBERg==",
            },
            {
                "type": "input_image",
                "detail": "auto",
                "image_url": "data:image/jpeg;base64,/9g=",
            },
            {"type": "input_text", "text": "(file 3 cannot be shown)"},
            {
                "type": "input_file",
                "filename": "file-4.pdf",
                "file_data": "data:application/pdf;base64,JVBERi0y",
            },
        ],
    }
    assert [file.data for file in double.files_seen] == [b"%PDF", b"\xff\xd8", b"%PDF-2"]


# --- settings ------------------------------------------------------------------------------------


async def test_metadata_finds_the_turn_and_fits_the_limit(double: OpenAIDouble, make: Make) -> None:
    await make().respond(replace(REQUEST, conversation_id="c" * 600, sids=("SM1", "SM2")))
    assert double.requests[0]["metadata"] == {"conversation_id": "c" * 512, "turn": "SM1"}


async def test_the_length_of_an_answer_may_be_limited(double: OpenAIDouble, make: Make) -> None:
    await make(max_output_tokens=300).respond(REQUEST)
    await make(max_output_tokens=0).respond(REQUEST)
    assert [body.get("max_output_tokens") for body in double.requests] == [300, None]


async def test_reasoning_and_the_format_of_answers_may_be_set(
    double: OpenAIDouble, make: Make
) -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    double.replies = lambda _: "{}"
    adapter = make(reasoning_effort="low", text_format={"name": "answer", "schema": schema})
    assert (await adapter.respond(REQUEST)).text == "{}"
    (body,) = double.requests
    assert body["reasoning"] == {"effort": "low"}
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    }


async def test_customers_and_caches_are_told_apart_by_hashes(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(identify=lambda name: f"hash-of-{len(name)}-" + "x" * 60)
    await adapter.respond(replace(REQUEST, customer="whatsapp:+15550001"))
    await adapter.respond(REQUEST)
    known, unknown = double.requests
    assert known["safety_identifier"] == "hash-of-18-" + "x" * 60
    assert known["prompt_cache_key"] == ("hash-of-3-" + "x" * 60)[:64]
    assert "safety_identifier" not in unknown
    assert "+15550001" not in json.dumps(double.requests)


async def test_cached_tokens_are_counted(double: OpenAIDouble, make: Make) -> None:
    adapter = make()
    history = (Line("user", "x" * 8000),)
    first = await adapter.respond(replace(REQUEST, history=history))
    second = await adapter.respond(replace(REQUEST, thread_id=first.thread_id))
    assert first.cached_tokens == 0
    assert 1024 <= second.cached_tokens < second.input_tokens


# --- what a response may say ---------------------------------------------------------------------


async def test_a_refusal(double: OpenAIDouble, make: Make) -> None:
    double.refuse_next(refusal="I can't help with that.")
    reply = await make().respond(REQUEST)
    assert (reply.finish, reply.text) == ("refused", "I can't help with that.")
    assert reply.output_tokens > 0


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_output_tokens", "truncated"),
        ("content_filter", "filtered"),
        ("something_new", "truncated"),
    ],
)
async def test_an_incomplete_answer_keeps_its_text(
    double: OpenAIDouble, make: Make, reason: str, finish: str
) -> None:
    double.replies = lambda _: "0123456789"
    double.finish_next(status="incomplete", reason=reason)
    reply = await make().respond(REQUEST)
    assert (reply.finish, reply.text) == (finish, "01234")
    assert reply.thread_id.startswith("resp_")


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("failed", "server_error", Temporary),
        ("failed", "vector_store_timeout", Temporary),
        ("failed", "rate_limit_exceeded", Busy),
        ("failed", "invalid_prompt", Permanent),
        ("failed", SECRET_TEXT, Temporary),
        ("cancelled", "", Temporary),
        ("in_progress", "", Temporary),
    ],
)
async def test_responses_that_did_not_complete(
    double: OpenAIDouble, make: Make, status: str, reason: str, kind: type[DependencyError]
) -> None:
    double.finish_next(status=status, reason=reason)
    error = await failure(make().respond(REQUEST))
    assert type(error) is kind
    if reason and reason != SECRET_TEXT:
        assert error.code == reason
        assert reason in error.reason


def message(*texts: str, phase: str | None = None) -> dict[str, Any]:
    content = [{"type": "output_text", "annotations": [], "text": text} for text in texts]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": content,
        "phase": phase,
    }


async def test_commentary_and_reasoning_are_left_out(double: OpenAIDouble, make: Make) -> None:
    output = [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        message("let me think", phase="commentary"),
        message("part one, ", "part two", phase="final_answer"),
        message("a second message"),
    ]
    double.reshape = lambda response: {**response, "output": output}
    assert (await make().respond(REQUEST)).text == "part one, part two\n\na second message"


@pytest.mark.parametrize(
    "output", [[], None, [message("  \n")], [message("thinking", phase="commentary")]]
)
async def test_an_answer_without_text(double: OpenAIDouble, make: Make, output: Any) -> None:
    double.reshape = lambda response: {**response, "output": output}
    reply = await make().respond(REQUEST)
    assert (reply.finish, reply.text) == ("empty", "")
    assert reply.input_tokens > 0


async def test_missing_usage_counts_as_nothing(double: OpenAIDouble, make: Make) -> None:
    double.reshape = lambda response: {**response, "usage": None}
    reply = await make().respond(REQUEST)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens) == (0, 0, 0)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", Permanent),
        (400, "", Permanent),
        (413, "", Permanent),
        (422, "", Permanent),
        (400, "conversation_locked", Temporary),
        (401, "invalid_api_key", DependencyDown),
        (403, "unsupported_country_region_territory", DependencyDown),
        (404, "", DependencyDown),
        (404, "model_not_found", DependencyDown),
        (408, "", Temporary),
        (409, "", Temporary),
        (429, "rate_limit_exceeded", Busy),
        (429, "insufficient_quota", DependencyDown),
        (429, "billing_not_active", DependencyDown),
        (500, "server_error", Temporary),
        (503, "", Temporary),
    ],
)
async def test_every_status_has_its_kind(
    double: OpenAIDouble, make: Make, status: int, code: str, kind: type[DependencyError]
) -> None:
    double.fail_next(status=status, code=code, message=f"{SECRET_TEXT} {KEY}")
    error = await failure(make().respond(REQUEST))
    assert type(error) is kind
    if code:
        assert error.code == code
    assert len(double.requests) == 1


async def test_a_code_that_is_a_sentence_is_not_shown(double: OpenAIDouble, make: Make) -> None:
    double.fail_next(status=400, code=SECRET_TEXT)
    error = await failure(make().respond(REQUEST))
    assert error.code == "http_400"


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_delay_that_the_server_asks_for(
    double: OpenAIDouble, make: Make, status: int, headers: dict[str, str], delay: float | None
) -> None:
    double.fail_next(status=status, code="", headers=headers)
    error = await failure(make().respond(REQUEST))
    assert isinstance(error, Temporary)
    assert error.delay == delay


async def test_refused_credentials_and_unknown_models_say_what_to_change(
    double: OpenAIDouble, make: Make
) -> None:
    double.models = ("gpt-6-sol",)
    key = await failure(make(key="sk-other").respond(REQUEST))
    model = await failure(make().respond(REQUEST))
    assert "OPENAI_API_KEY" in key.reason
    assert "sk-other" not in str(key)
    assert "ai.model" in model.reason
    assert MODEL in model.reason


async def test_a_slow_answer_is_temporary(double: OpenAIDouble, make: Make) -> None:
    double.delay = 5
    error = await failure(make(timeout_seconds=0.03).respond(REQUEST))
    assert type(error) is Temporary
    assert error.code == "timeout"


async def test_a_dropped_connection_is_temporary_and_not_repeated(
    double: OpenAIDouble, make: Make, naps: Naps
) -> None:
    double.drop_next()
    error = await failure(make().respond(REQUEST))
    assert type(error) is Temporary
    assert naps.taken == []
    assert len(double.requests) == 1


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_nobody_listening(make: Make, naps: Naps) -> None:
    error = await failure(make(url=f"http://127.0.0.1:{closed_port()}/v1").respond(REQUEST))
    assert type(error) is DependencyDown
    assert len(naps.taken) == 1


async def test_a_server_that_is_back_for_the_quick_retry(double: OpenAIDouble, make: Make) -> None:
    port = int(double.base_url.rpartition(":")[2])
    await double.stop()

    async def back(seconds: float) -> None:
        await double.start(port)

    assert (await make(sleep=back).respond(REQUEST)).text


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n{brok}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"garbage\r\n\r\n",
    ],
)
async def test_a_server_that_is_not_openai(make: Make, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        assert type(await failure(make(url=url).respond(REQUEST))) is Temporary


# --- checking ------------------------------------------------------------------------------------


async def test_check_looks_the_model_up_and_says_what_to_change(
    double: OpenAIDouble, make: Make
) -> None:
    await make().check()
    double.models = ("gpt-6-sol",)
    model = await failure(make().check())
    key = await failure(make(key="sk-other").check())
    nobody = await failure(make(url=f"http://127.0.0.1:{closed_port()}/v1").check())
    assert all(isinstance(error, DependencyDown) for error in (model, key, nobody))
    assert "ai.model" in model.reason
    assert "OPENAI_API_KEY" in key.reason
    assert "no connection" in nobody.reason
    assert double.requests == []
