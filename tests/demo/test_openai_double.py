"""The OpenAI double, read by the real SDK; its responses validated, not just parsed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Model
from openai.types.responses import Response

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


@pytest.mark.parametrize("name", ["completed", "failed", "incomplete", "refused"])
async def test_every_response_is_valid_for_the_sdk(double: OpenAIDouble, name: str) -> None:
    ending(double, name)
    body = await post(double, {"model": MODEL, "input": "hello"})
    assert body.pop("http") == 200
    response = Response.model_validate(body, strict=True)
    # What the SDK does not know it keeps as an extra, on every level.
    assert set(response.model_extra or ()) <= {"background", "max_tool_calls", "store"}
    for item in response.output:
        assert item.model_extra == {}
    assert response.status == ("completed" if name == "refused" else name)


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
