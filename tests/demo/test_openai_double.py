"""The OpenAI double, read by the real SDK; its responses validated, not just parsed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Model
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItemList,
    Message,
)
from openai.types.responses import Response, ResponseFunctionToolCall

from replyd.demo import bakery
from replyd.demo.openai_double import OpenAIDouble

KEY = "sk-test"
MODEL = "gpt-6-luna"


@pytest.fixture
async def double() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble(api_key=KEY) as double:
        yield double


@pytest.fixture
async def client(double: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=KEY, base_url=double.api_url, max_retries=0) as client:
        yield client


async def post(double: OpenAIDouble, body: object) -> dict[str, Any]:
    """The response's JSON as it is on the wire."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(f"{double.api_url}/responses", json=body) as response,
    ):
        return {"http": response.status, **await response.json()}


async def test_the_sdk_reads_a_response(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model=MODEL,
        instructions="You are a bakery.",
        input=[
            {"role": "assistant", "content": "earlier"},
            {"role": "user", "content": "When do you open?"},
        ],
        metadata={"conversation_id": "c-1"},
        truncation="auto",
        store=True,
    )
    assert response.id.startswith("resp_")
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert "Tuesday" in response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (response.instructions, response.metadata) == (
        "You are a bakery.",
        {"conversation_id": "c-1"},
    )
    assert (response.error, response.incomplete_details, response.truncation) == (
        None,
        None,
        "auto",
    )
    assert double.requests[0]["input"][1]["content"] == "When do you open?"


def ending(double: OpenAIDouble, name: str) -> None:
    match name:
        case "failed":
            double.finish_next(status="failed", reason="server_error")
        case "incomplete":
            double.finish_next(status="incomplete", reason="max_output_tokens")
        case "refused":
            double.refuse_next()
        case "calling":
            double.call_next("stock", {"fruit": "figs"})


@pytest.mark.parametrize("name", ["completed", "failed", "incomplete", "refused", "calling"])
async def test_every_response_is_valid_for_the_sdk(double: OpenAIDouble, name: str) -> None:
    ending(double, name)
    settings = {"tools": TOOLS, "reasoning": {"effort": "low"}}
    body = await post(double, {"model": MODEL, "input": "hello", **settings})
    assert body.pop("http") == 200
    response = Response.model_validate(body, strict=True)
    # What the SDK does not know it keeps as an extra, on every level.
    assert set(response.model_extra or ()) <= {"background", "max_tool_calls", "store"}
    for item in response.output:
        assert item.model_extra == {}
    assert response.status == ("completed" if name in ("refused", "calling") else name)


async def test_endings(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.replies = lambda _: "0123456789"
    for name in ("failed", "incomplete", "refused"):
        ending(double, name)
    failed = await client.responses.create(model=MODEL, input="1")
    incomplete = await client.responses.create(model=MODEL, input="2")
    refused = await client.responses.create(model=MODEL, input="3")
    usual = await client.responses.create(model=MODEL, input="4")
    assert failed.error is not None
    assert (failed.error.code, failed.output) == ("server_error", [])
    assert incomplete.incomplete_details is not None
    assert incomplete.incomplete_details.reason == "max_output_tokens"
    assert incomplete.output_text == "01234"
    assert refused.output_text == ""
    assert refused.output[0].content[0].type == "refusal"  # type: ignore[union-attr,index]
    assert usual.output_text == "0123456789"


async def test_threads_are_remembered_until_forgotten(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    first = await client.responses.create(model=MODEL, input="hello")
    second = await client.responses.create(
        model=MODEL, input="hello", previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    double.forget(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input="x", previous_response_id=first.id)
    assert (caught.value.code, caught.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    await client.responses.create(model=MODEL, input="x", previous_response_id=second.id)
    double.forget()
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model=MODEL, input="x", previous_response_id=second.id)


async def test_a_response_that_is_not_stored_cannot_be_continued(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=MODEL, input="hello", store=False)
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model=MODEL, input="x", previous_response_id=first.id)


async def test_keys(double: OpenAIDouble) -> None:
    async with AsyncOpenAI(api_key="sk-other", base_url=double.api_url, max_retries=0) as other:
        for call in (
            other.responses.create(model=MODEL, input="x"),
            other.models.retrieve(MODEL),
        ):
            with pytest.raises(openai.AuthenticationError) as caught:
                await call
            assert caught.value.code == "invalid_api_key"
            assert caught.value.type == "invalid_request_error"
        double.api_key = ""
        await other.models.retrieve(MODEL)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{double.api_url}/models") as response,
    ):
        assert response.status == 401
    assert double.requests == []


async def test_models(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.models = (MODEL,)
    assert [model.id async for model in client.models.list()] == [MODEL]
    model = await client.models.retrieve(MODEL)
    Model.model_validate(model.model_dump(), strict=True)
    with pytest.raises(openai.NotFoundError) as missing:
        await client.models.retrieve("gpt-none")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="gpt-none", input="x")
    for caught in (missing, refused):
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": MODEL}, "input"),
        ({"model": MODEL, "input": "x", "metadata": {"a": "b" * 513}}, "metadata"),
        ({"model": MODEL, "input": "x", "metadata": {"a": 1}}, "metadata"),
        ([], None),
        ({"model": MODEL, "input": "x", "previous_response_id": "r", "conversation": "c"}, None),
    ],
)
async def test_requests_that_are_refused(double: OpenAIDouble, body: Any, param: str) -> None:
    answer = await post(double, body)
    assert answer["http"] == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param


async def test_faults(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.fail_next(status=429, code="rate_limit_exceeded", headers={"retry-after": "7"})
    double.drop_next()
    with pytest.raises(openai.RateLimitError) as caught:
        await client.responses.create(model=MODEL, input="x")
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.APIConnectionError):
        await client.responses.create(model=MODEL, input="x")
    await client.responses.create(model=MODEL, input="x")
    double.fail_next(3)
    double.clear_faults()
    await client.responses.create(model=MODEL, input="x")
    assert len(double.requests) == 4


async def test_delay_and_reshape(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.delay = 5
    with pytest.raises(openai.APITimeoutError):
        await client.responses.create(model=MODEL, input="x", timeout=0.02)
    double.delay = 0
    double.reshape = lambda response: {**response, "usage": None}
    assert (await client.responses.create(model=MODEL, input="x")).usage is None


async def test_the_last_user_message_is_what_is_answered(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    double.replies = str.upper
    text = await client.responses.create(
        model=MODEL,
        input=[
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": [{"type": "input_text", "text": "second"}]},
        ],
    )
    assert text.output_text == "SECOND"
    nobody = await client.responses.create(
        model=MODEL, input=[{"role": "assistant", "content": "answer"}]
    )
    assert nobody.output_text == ""
    assert json.dumps(double.requests)


# --- tools ---------------------------------------------------------------------------------------

TOOLS: list[Any] = [
    {"type": "function", "name": "stock", "parameters": {"type": "object"}, "strict": False}
]


def calls(response: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in response.output if item.type == "function_call"]


def output(call: ResponseFunctionToolCall, text: str) -> Any:
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


async def test_tools_are_called_when_told_and_only_where_they_are_offered(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    double.call_next("stock", {"fruit": "figs"})
    double.asides = lambda text: f"I look up {text}."
    without = await client.responses.create(model=MODEL, input="figs")
    assert calls(without) == []
    response = await client.responses.create(model=MODEL, input="figs", tools=TOOLS)
    (call,) = calls(response)
    assert (call.name, call.arguments) == ("stock", '{"fruit": "figs"}')
    assert response.output_text == "I look up figs."
    after = await client.responses.create(model=MODEL, input="figs", tools=TOOLS)
    assert calls(after) == []


async def test_a_rule_calls_tools_until_it_has_seen_their_outputs(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    double.tool_rule = lambda text, offered: [(name, {"of": text}) for name in (*offered, *offered)]
    double.tool_replies = lambda text, told: f"{text}: {told}"
    asked = await client.responses.create(model=MODEL, input="figs", tools=TOOLS)
    one, two = calls(asked)
    assert json.loads(one.arguments) == json.loads(two.arguments) == {"of": "figs"}
    assert one.call_id != two.call_id
    told = await client.responses.create(
        model=MODEL,
        input=[output(one, "1"), output(two, "2")],
        previous_response_id=asked.id,
        tools=TOOLS,
    )
    assert (told.output_text, calls(told)) == ("figs: ('1', '2')", [])
    again = await client.responses.create(
        model=MODEL, input="pears", previous_response_id=told.id, tools=TOOLS
    )
    assert len(calls(again)) == 2


async def test_calls_and_outputs_come_in_pairs(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.tool_rule = lambda *_: [("stock", {}), ("stock", {})]
    asked = await client.responses.create(model=MODEL, input="figs", tools=TOOLS)
    one, two = calls(asked)
    conversation = await client.conversations.create()
    await client.responses.create(
        model=MODEL, input="figs", tools=TOOLS, conversation=conversation.id
    )
    missing = f"No tool output found for function call {two.call_id}."
    unknown = "No tool call found for function call output with call_id call_x."
    stray = {"type": "function_call_output", "call_id": "call_x", "output": ""}
    for words, request in (
        (missing, {"input": [output(one, "1")], "previous_response_id": asked.id}),
        (unknown, {"input": [stray]}),
        ("No tool output found", {"input": "hello?", "previous_response_id": asked.id}),
        ("No tool output found", {"input": "hello?", "conversation": conversation.id}),
    ):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            await client.responses.create(model=MODEL, **request)
        assert (caught.value.param, caught.value.code) == ("input", None)


async def test_reasoning_that_is_not_stored_is_sent_back_encrypted(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    async def ask(**settings: Any) -> Response:
        double.call_next("stock", {})
        response: Response = await client.responses.create(
            model=MODEL, input="figs", tools=TOOLS, reasoning={"effort": "low"}, **settings
        )
        return response

    async def tell(asked: Response, **settings: Any) -> Response:
        items: Any = [item.to_dict() for item in asked.output]
        given = [{"role": "user", "content": "figs"}, *items, output(calls(asked)[0], "1")]
        response: Response = await client.responses.create(model=MODEL, input=given, **settings)
        return response

    encrypted = await ask(store=False, include=["reasoning.encrypted_content"])
    assert encrypted.output[0].type == "reasoning"
    assert (await tell(encrypted, store=False)).output_text == "1"
    with pytest.raises(openai.NotFoundError, match="not persisted"):
        await tell(await ask(store=False))
    stored = await ask()
    told = await client.responses.create(
        model=MODEL, input=[output(calls(stored)[0], "1")], previous_response_id=stored.id
    )
    assert told.output_text == "1"


# --- files, formats, limits ----------------------------------------------------------------------


async def test_files_are_seen(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.replies = str.upper
    response = await client.responses.create(
        model=MODEL,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {
                        "type": "input_image",
                        "detail": "auto",
                        "image_url": "data:image/png;base64,iVA=",
                    },
                    {
                        "type": "input_file",
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,JVBERg==",
                    },
                ],
            }
        ],
    )
    assert response.output_text == "LOOK"
    assert [(file.name, file.content_type, file.data) for file in double.files_seen] == [
        ("", "image/png", b"\x89P"),
        ("a.pdf", "application/pdf", b"%PDF"),
    ]
    assert response.usage is not None
    assert response.usage.input_tokens > 1000


async def test_the_format_is_told_and_the_text_is_as_the_double_was_told(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    double.replies = lambda _: '{"a": 1}'
    response = await client.responses.create(
        model=MODEL,
        input="x",
        text={"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": True}},
    )
    assert response.output_text == '{"a": 1}'
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"


async def test_what_a_thread_knows_is_cached_from_1024_tokens_on(client: AsyncOpenAI) -> None:
    async def cached(size: int) -> int:
        first = await client.responses.create(model=MODEL, input="x" * size)
        second = await client.responses.create(
            model=MODEL, input="more", previous_response_id=first.id
        )
        assert second.usage is not None
        return second.usage.input_tokens_details.cached_tokens

    assert await cached(400) == 0
    assert await cached(8000) == 1920


async def test_answers_tell_of_limits(client: AsyncOpenAI) -> None:
    raw = await client.responses.with_raw_response.create(model=MODEL, input="x")
    for kind in ("requests", "tokens"):
        limit, left = (int(raw.headers[f"x-ratelimit-{w}-{kind}"]) for w in ("limit", "remaining"))
        assert 0 < left < limit
        assert raw.headers[f"x-ratelimit-reset-{kind}"]


# --- stored responses and conversations ----------------------------------------------------------


async def test_a_stored_response_can_be_read_and_deleted(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="x")
    assert (await client.responses.retrieve(response.id)).output_text == response.output_text
    await client.responses.delete(response.id)
    for call in (client.responses.retrieve(response.id), client.responses.delete(response.id)):
        with pytest.raises(openai.NotFoundError):
            await call
    unstored = await client.responses.create(model=MODEL, input="x", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unstored.id)


async def test_a_conversation_keeps_what_was_said(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    double.replies = str.upper
    conversation = await client.conversations.create(
        metadata={"a": "b"}, items=[{"role": "user", "content": "hello"}]
    )
    Conversation.model_validate(conversation.model_dump(), strict=True)
    added = await client.conversations.items.create(
        conversation.id, items=[{"role": "assistant", "content": "hi"}]
    )
    assert len(added.data) == 1
    response = await client.responses.create(
        model=MODEL, input="bread?", conversation=conversation.id
    )
    assert response.conversation is not None
    assert response.conversation.id == conversation.id
    page = await client.conversations.items.list(conversation.id, order="asc", limit=3)
    items = [item async for item in page]
    messages = [Message.model_validate(item.model_dump(), strict=True) for item in items]
    assert [(message.role, getattr(message.content[0], "text", "")) for message in messages] == [
        ("user", "hello"),
        ("assistant", "hi"),
        ("user", "bread?"),
        ("assistant", "BREAD?"),
    ]
    newest = await client.conversations.items.list(conversation.id, limit=1)
    assert newest.data == items[-1:]
    assert newest.has_more


async def test_calls_in_a_conversation_are_valid_items(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    conversation = await client.conversations.create()
    double.call_next("stock", {})
    settings: Any = {"model": MODEL, "conversation": conversation.id, "tools": TOOLS}
    asked = await client.responses.create(input="figs", reasoning={"effort": "low"}, **settings)
    await client.responses.create(input=[output(calls(asked)[0], "1")], **settings)
    items = await client.conversations.items.list(conversation.id, order="asc")
    ConversationItemList.model_validate(items.model_dump(by_alias=True), strict=True)
    assert [item.type for item in items.data] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_conversations_are_changed_and_deleted(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    one = await client.conversations.create()
    await client.conversations.update(one.id, metadata={"c": "d"})
    assert (await client.conversations.retrieve(one.id)).metadata == {"c": "d"}
    gone = await client.conversations.delete(one.id)
    ConversationDeletedResource.model_validate(gone.model_dump(), strict=True)
    other = await client.conversations.create()
    double.forget()
    for name in (one.id, other.id):
        for call in (
            client.conversations.retrieve(name),
            client.conversations.items.list(name),
            client.responses.create(model=MODEL, input="x", conversation=name),
        ):
            with pytest.raises(openai.NotFoundError):
                await call
    # What is asked of the model is counted, not the rest.
    assert len(double.requests) == 2


async def test_one_response_at_a_time_in_a_conversation(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    one = await client.conversations.create()
    double.delay = 0.2
    first = asyncio.create_task(
        client.responses.create(model=MODEL, input="x", conversation=one.id)
    )
    while not double.requests:
        await asyncio.sleep(0.01)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input="y", conversation={"id": one.id})
    assert (caught.value.code, caught.value.param) == ("conversation_locked", "conversation")
    await first
    await client.responses.create(model=MODEL, input="y", conversation=one.id)
    assert len((await client.conversations.items.list(one.id)).data) == 4


async def test_what_failed_is_not_in_the_conversation(
    double: OpenAIDouble, client: AsyncOpenAI
) -> None:
    one = await client.conversations.create()
    double.finish_next(status="failed", reason="server_error")
    double.fail_next()
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model=MODEL, input="x", conversation=one.id)
    await client.responses.create(model=MODEL, input="x", conversation=one.id)
    assert (await client.conversations.items.list(one.id)).data == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi!\nWhat are your opening hours?\nAnd on Sunday?", ["Hello", "Tuesday", "Sundays"]),
        ("can i order a birthday cake\nhow much is it", ["order until", "two days", "£4.20"]),
        ("Are you open on Sunday?", ["On Sundays"]),
        ("thanks!", ["You're welcome"]),
        ("[sent a picture (image/jpeg); its contents cannot be seen here]", ["in words"]),
        ("asdf", ["What do you need?"]),
        ("", ["What do you need?"]),
    ],
)
def test_the_bakery_answers_everything_in_a_burst(text: str, expected: list[str]) -> None:
    answer = bakery.reply(text)
    assert answer == bakery.reply(text)
    positions = [answer.find(part) for part in expected]
    assert -1 not in positions
    assert len(answer) <= 1600
