"""The OpenAI adapter: the real SDK on loopback against the double."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from replyd.adapters.openai import OpenAIResponses, create_client
from replyd.demo.openai_double import OpenAIDouble
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import Line, ModelRequest

KEY = "sk-secret"
MODEL = "gpt-6-luna"
SECRET_TEXT = "a text that no error may quote"

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


@pytest.fixture
async def make(double: OpenAIDouble, naps: Naps) -> AsyncIterator[Make]:
    made: list[OpenAIResponses] = []

    def build(
        *,
        key: str = KEY,
        url: str = "",
        model: str = MODEL,
        timeout_seconds: float = 5.0,
        max_output_tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = naps,
    ) -> OpenAIResponses:
        client = create_client(key, base_url=url or double.api_url, timeout_seconds=timeout_seconds)
        made.append(
            OpenAIResponses(
                client,
                model=model,
                instructions="Be brief.",
                timeout_seconds=timeout_seconds,
                max_output_tokens=max_output_tokens,
                sleep=sleep,
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


@pytest.mark.parametrize("thread", ["thread_abc", "conv_abc", "anything"])
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


async def test_metadata_fits_the_limit(double: OpenAIDouble, make: Make) -> None:
    await make().respond(replace(REQUEST, conversation_id="c" * 600))
    assert len(double.requests[0]["metadata"]["conversation_id"]) == 512


async def test_the_length_of_an_answer_may_be_limited(double: OpenAIDouble, make: Make) -> None:
    await make(max_output_tokens=300).respond(REQUEST)
    await make(max_output_tokens=0).respond(REQUEST)
    assert [body.get("max_output_tokens") for body in double.requests] == [300, None]


# --- what a response may say ---------------------------------------------------------------------


async def test_a_refusal(double: OpenAIDouble, make: Make) -> None:
    double.refuse_next(refusal=SECRET_TEXT)
    error = await failure(make().respond(REQUEST))
    assert isinstance(error, Permanent)
    assert error.reason == "the model refused"


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("failed", "server_error", Temporary),
        ("failed", "vector_store_timeout", Temporary),
        ("failed", "rate_limit_exceeded", Busy),
        ("failed", "invalid_prompt", Permanent),
        ("failed", SECRET_TEXT, Temporary),
        ("incomplete", "max_output_tokens", Permanent),
        ("incomplete", "content_filter", Permanent),
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
    error = await failure(make().respond(REQUEST))
    assert isinstance(error, Permanent)
    assert error.code == "empty"


async def test_missing_usage_counts_as_nothing(double: OpenAIDouble, make: Make) -> None:
    double.reshape = lambda response: {**response, "usage": None}
    reply = await make().respond(REQUEST)
    assert (reply.input_tokens, reply.output_tokens) == (0, 0)


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
