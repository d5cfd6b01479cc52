"""The double's Chat Completions, read by the real SDK; its answers validated, not just parsed."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from replyd.demo.openai_double import OpenAIDouble

KEY = "sk-test"
MODEL = "gpt-6-luna"
USER = {"role": "user", "content": "hello"}
TOOLS = [{"type": "function", "function": {"name": "stock", "parameters": {"type": "object"}}}]
IMAGE = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0x"


@pytest.fixture
async def double() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble(api_key=KEY) as double:
        yield double


@pytest.fixture
async def client(double: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=KEY, base_url=double.api_url, max_retries=0) as client:
        yield client


async def post(double: OpenAIDouble, **body: Any) -> tuple[int, dict[str, Any]]:
    """The status, and the answer's JSON as it is on the wire."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(f"{double.api_url}/chat/completions", json=body) as response,
    ):
        return response.status, await response.json()


def called(*ids: str) -> dict[str, Any]:
    function = {"name": "stock", "arguments": "{}"}
    calls = [{"id": unique, "type": "function", "function": function} for unique in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def told(unique: str, content: str = "three") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": unique, "content": content}


def ending(double: OpenAIDouble, name: str) -> None:
    match name:
        case "length":
            double.finish_next(status="incomplete", reason="max_output_tokens")
        case "content_filter":
            double.finish_next(status="incomplete", reason="content_filter")
        case "refused":
            double.refuse_next()
        case "tool_calls":
            double.call_next("stock", {"sku": "a"})


@pytest.mark.parametrize("name", ["stop", "length", "content_filter", "refused", "tool_calls"])
async def test_every_completion_is_valid_for_the_sdk(double: OpenAIDouble, name: str) -> None:
    double.replies = lambda _: "0123456789"
    ending(double, name)
    status, body = await post(double, model=MODEL, messages=[USER], tools=TOOLS)
    completion = ChatCompletion.model_validate(body, strict=True)
    (choice,) = completion.choices
    # What the SDK does not know it keeps as an extra, on every level.
    for part in (completion, choice, choice.message, completion.usage):
        assert part is not None
        assert part.model_extra == {}
    assert status == 200
    assert choice.finish_reason == ("stop" if name == "refused" else name)
    assert choice.message.content == {
        "stop": "0123456789",
        "refused": None,
        "tool_calls": None,
    }.get(name, "01234")
    assert bool(choice.message.refusal) == (name == "refused")
    assert bool(choice.message.tool_calls) == (name == "tool_calls")


async def test_the_sdk_reads_a_completion(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are a bakery."},
            {"role": "assistant", "content": "earlier"},
            {"role": "user", "content": [{"type": "text", "text": "When do you open?"}]},
        ],
        safety_identifier="hash",
    )
    completion = raw.parse()
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", MODEL)
    assert "Tuesday" in (completion.choices[0].message.content or "")
    usage = completion.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) > 0
    assert raw.headers["x-request-id"]


async def test_tools(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.tool_rule = lambda text, offered: [(name, {"q": text}) for name in offered]
    double.tool_replies = lambda text, outputs: f"{text} {outputs}"
    _, none = await post(double, model=MODEL, messages=[USER])
    _, not_now = await post(double, model=MODEL, messages=[USER], tools=TOOLS, tool_choice="none")
    assert "tool_calls" not in none["choices"][0]["message"]
    assert "tool_calls" not in not_now["choices"][0]["message"]
    _, asked = await post(double, model=MODEL, messages=[USER], tools=TOOLS)
    message = asked["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "stock", "arguments": '{"q": "hello"}'}
    messages = [USER, message, told(call["id"])]
    _, answered = await post(double, model=MODEL, messages=messages, tools=TOOLS)
    assert answered["choices"][0]["message"]["content"] == "hello ['three']"
    # What was told before the last user message is no longer asked about.
    messages += [{"role": "assistant", "content": "There are three."}, USER]
    _, next_turn = await post(double, model=MODEL, messages=messages, tools=TOOLS)
    assert next_turn["choices"][0]["finish_reason"] == "tool_calls"


PRECEDING = (
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
    "with 'tool_calls'."
)
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: "
)
NOT_FOUND = (
    "Invalid parameter: 'tool_call_id' of 'c' not found in 'tool_calls' of previous message."
)


@pytest.mark.parametrize(
    ("messages", "message", "param"),
    [
        ([USER, told("a")], PRECEDING, "messages.[1].role"),
        ([USER, called("a"), USER, told("a")], f"{UNANSWERED}a", "messages.[2].role"),
        ([USER, called("a", "b"), told("a")], f"{UNANSWERED}b", "messages.[3].role"),
        ([USER, called("a"), told("c")], NOT_FOUND, "messages.[2].tool_call_id"),
        (
            [USER, called("a"), told("a"), {"role": "assistant", "content": "x"}, told("a")],
            PRECEDING,
            "messages.[4].role",
        ),
    ],
)
async def test_results_answer_the_calls_right_before_them(
    double: OpenAIDouble, messages: Any, message: str, param: str
) -> None:
    status, body = await post(double, model=MODEL, messages=messages)
    assert status == 400
    assert body["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": None,
    }


@pytest.mark.parametrize("results", [("a", "b"), ("b", "a")])
async def test_results_may_come_in_any_order(double: OpenAIDouble, results: Any) -> None:
    messages = [USER, called("a", "b"), *map(told, results), called("a"), told("a"), USER]
    assert (await post(double, model=MODEL, messages=messages))[0] == 200


def with_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]}


def image(url: str) -> dict[str, Any]:
    return with_part({"type": "image_url", "image_url": {"url": url}})


def file(**fields: str) -> dict[str, Any]:
    return with_part({"type": "file", "file": fields})


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": ""}, "missing_required_parameter", "model"),
        ({"messages": []}, "missing_required_parameter", "messages"),
        ({"max_tokens": 9}, "unsupported_parameter", "max_tokens"),
        ({"safety_identifier": "x" * 129}, "string_above_max_length", "safety_identifier"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": ["x"]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, None, "messages.[0].content"),
        (image("data:image/bmp;base64,AAAA"), "invalid_image_format", "messages"),
        (image("data:image/png;base64,A"), "invalid_value", "messages"),
        (image("data:image/png;base64,iVBO*Rw0KGgo="), "invalid_value", "messages"),
        (image("data:image/png;base64,"), "invalid_value", "messages"),
        (image("iVBORw0KGgo="), "invalid_value", "messages"),
        (file(file_data=PDF), "invalid_value", "messages"),
        (file(filename="menu.pdf"), "invalid_value", "messages"),
    ],
)
async def test_requests_that_are_refused(
    double: OpenAIDouble, change: dict[str, Any], code: str | None, param: str
) -> None:
    status, body = await post(double, **{"model": MODEL, "messages": [USER]} | change)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param)
    assert double.files_seen == []


async def test_only_reasoning_models_refuse_the_old_limit(double: OpenAIDouble) -> None:
    for model, status in (("gpt-4.1", 200), ("qwen3", 200), ("o3-mini", 400)):
        assert (await post(double, model=model, messages=[USER], max_tokens=9))[0] == status
    limited = await post(double, model=MODEL, messages=[USER], max_completion_tokens=9)
    assert limited[0] == 200


async def test_files_are_seen_and_images_counted(double: OpenAIDouble) -> None:
    _, plain = await post(double, model=MODEL, **with_part({"type": "text", "text": ""}))
    _, seen = await post(double, model=MODEL, **image(IMAGE))
    await post(double, model=MODEL, **file(filename="menu.pdf", file_data=PDF))
    assert [(f.name, f.content_type, f.data[:4]) for f in double.files_seen] == [
        ("", "image/png", b"\x89PNG"),
        ("menu.pdf", "application/pdf", b"%PDF"),
    ]
    assert seen["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"] + 200


async def test_the_known_beginning_of_a_long_prompt_is_cached(double: OpenAIDouble) -> None:
    long = {"role": "system", "content": "word " * 2000}
    usages = []
    for text in ("one", "two"):
        messages = [long, {"role": "user", "content": text}]
        usages.append((await post(double, model=MODEL, messages=messages))[1]["usage"])
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    assert cached[0] == 0
    assert 2000 < cached[1] < usages[1]["prompt_tokens"]
    assert cached[1] % 128 == 0


async def test_faults(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.fail_next(status=429, code="rate_limit_exceeded", headers={"retry-after": "7"})
    double.drop_next()
    double.finish_next(status="failed", reason="server_error")
    double.models = (MODEL,)

    async def create(model: str = MODEL) -> ChatCompletion:
        return await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "x"}]
        )

    with pytest.raises(openai.RateLimitError) as busy:
        await create()
    assert busy.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.APIConnectionError):
        await create()
    with pytest.raises(openai.InternalServerError) as failed:
        await create()
    assert failed.value.code == "server_error"
    with pytest.raises(openai.NotFoundError) as missing:
        await create("gpt-none")
    assert missing.value.code == "model_not_found"
    assert (await create()).choices
    assert len(double.requests) == 5
    double.api_key = "sk-other"
    with pytest.raises(openai.AuthenticationError):
        await create()
