"""The Chat Completions adapter: the real SDK on loopback against the double, and against servers
that answer oddly."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from replyd.adapters.openai.chat import OpenAIChat
from replyd.adapters.openai.client import create_client
from replyd.demo.loopback import LoopbackServer
from replyd.demo.openai_double import OpenAIDouble
from replyd.domain.tools import HAND_OVER, ToolCall, ToolResult, ToolSpec
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, Line, ModelReply, ModelRequest

KEY = "sk-secret"
MODEL = "qwen3-8b"
REASONING_MODEL = "gpt-6-luna"
SECRET_TEXT = "a text that no error may quote"
CUSTOMER = "whatsapp:+15550001111"
PNG = b"\x89PNG\r\n\x1a\n"
PDF_URL = "data:application/pdf;base64,JVBERi0x"
STOCK = ToolSpec("stock", "How many there are.", {"type": "object", "properties": {"sku": {}}})

Make = Callable[..., OpenAIChat]
Answer = Mapping[str, Any] | str


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
    made: list[OpenAIChat] = []

    def build(*, key: str = KEY, url: str = "", **options: Any) -> OpenAIChat:
        chosen: dict[str, Any] = {
            "model": MODEL,
            "instructions": "Be brief.",
            "timeout_seconds": 5.0,
            "sleep": naps,
            **options,
        }
        # Longer than the adapter's own deadlines below, which must hold without it.
        client = create_client(
            key, base_url=url or double.api_url, timeout_seconds=30, direct=request.param
        )
        made.append(OpenAIChat(client, **chosen))
        return made[-1]

    yield build
    for adapter in made:
        await adapter.close()


REQUEST = ModelRequest(
    turn=SECRET_TEXT,
    thread_id="resp_1",
    unseen=(Line("assistant", "a person's answer"),),
    history=(Line("user", "first"), Line("assistant", "second"), Line("user", "third")),
    conversation_id="c-1",
    customer=CUSTOMER,
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


# --- what goes out -------------------------------------------------------------------------------


async def test_the_instructions_the_history_and_the_turn_go_along_and_nothing_else(
    double: OpenAIDouble, make: Make
) -> None:
    double.replies = lambda text: f"  you said: {text}\n"
    reply = await make().respond(REQUEST)
    (body,) = double.requests
    assert body == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "second"},
            {"role": "user", "content": "third"},
            {"role": "user", "content": SECRET_TEXT},
        ],
    }
    assert (reply.text, reply.finish) == (f"you said: {SECRET_TEXT}", "complete")
    assert (reply.thread_id, reply.model, reply.calls, reply.state) == ("", MODEL, (), None)
    assert reply.input_tokens > reply.output_tokens > reply.cached_tokens == 0


async def test_without_instructions_there_is_no_system_message(
    double: OpenAIDouble, make: Make
) -> None:
    await make(instructions="").respond(REQUEST)
    assert [m["role"] for m in double.requests[0]["messages"]].count("system") == 0


async def test_a_long_beginning_that_is_known_is_cached(double: OpenAIDouble, make: Make) -> None:
    adapter = make(instructions="word " * 2000)
    first = await adapter.respond(REQUEST)
    second = await adapter.respond(replace(REQUEST, turn="something else"))
    assert first.cached_tokens == 0
    assert 2000 < second.cached_tokens < second.input_tokens


async def test_what_is_set_is_sent(double: OpenAIDouble, make: Make) -> None:
    text_format = {"name": "answer", "schema": {"type": "object"}}
    await make(reasoning_effort="low", text_format=text_format).respond(REQUEST)
    (body,) = double.requests
    assert body["reasoning_effort"] == "low"
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {**text_format, "strict": True},
    }
    assert "store" not in body


async def test_a_customer_is_known_by_a_hash_only(double: OpenAIDouble, make: Make) -> None:
    adapter = make(identify=lambda address: f"hash-{len(address)}")
    await adapter.respond(REQUEST)
    await adapter.respond(replace(REQUEST, customer=""))
    await make(identify=lambda _: "").respond(REQUEST)
    identifiers = [body.get("safety_identifier", "none") for body in double.requests]
    assert identifiers == [f"hash-{len(CUSTOMER)}", "none", "none"]
    assert CUSTOMER not in json.dumps(double.requests)


@pytest.mark.parametrize("unlimited", [None, 0])
async def test_the_length_of_an_answer_may_be_limited(
    double: OpenAIDouble, make: Make, unlimited: int | None
) -> None:
    await make(max_output_tokens=300).respond(REQUEST)
    await make(max_output_tokens=unlimited).respond(REQUEST)
    limited, other = double.requests
    assert limited["max_tokens"] == 300
    assert not {"max_tokens", "max_completion_tokens"} & set(other)
    assert "max_completion_tokens" not in limited


async def test_a_reasoning_model_has_the_limit_under_its_other_name(
    double: OpenAIDouble, make: Make
) -> None:
    adapter = make(model=REASONING_MODEL, max_output_tokens=300)
    for _ in range(2):
        assert (await adapter.respond(REQUEST)).text
    assert [
        {name: body[name] for name in body if name.startswith("max_")} for body in double.requests
    ] == [{"max_tokens": 300}, {"max_completion_tokens": 300}, {"max_completion_tokens": 300}]


async def test_a_limit_that_is_refused_under_both_names_is_permanent(
    double: OpenAIDouble, make: Make
) -> None:
    double.fail_next(2, status=400, message="Use 'max_completion_tokens' instead.")
    assert type(await failure(make(max_output_tokens=3).respond(REQUEST))) is Permanent
    assert len(double.requests) == 2


async def test_files_come_behind_the_text(double: OpenAIDouble, make: Make) -> None:
    files = (
        File("", "image/png", PNG),
        File("card.vcf", "text/vcard", b"BEGIN"),
        File("menu.pdf", "application/pdf", b"%PDF-1"),
        File("", "application/pdf", b"%PDF-1"),
    )
    await make().respond(replace(REQUEST, files=files))
    assert double.requests[0]["messages"][-1]["content"] == [
        {"type": "text", "text": SECRET_TEXT},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": "(file 2 cannot be shown)"},
        {"type": "file", "file": {"filename": "menu.pdf", "file_data": PDF_URL}},
        {"type": "file", "file": {"filename": "file-4.pdf", "file_data": PDF_URL}},
    ]
    assert [(file.content_type, file.data) for file in double.files_seen] == [
        ("image/png", PNG),
        ("application/pdf", b"%PDF-1"),
        ("application/pdf", b"%PDF-1"),
    ]


# --- tools ---------------------------------------------------------------------------------------


def continued(reply: ModelReply, *outputs: str) -> ModelRequest:
    results = zip(reply.calls, outputs, strict=True)
    given = tuple(ToolResult(call.id, output) for call, output in results)
    return replace(REQUEST, state=reply.state, results=given)


async def test_tools_are_offered_and_their_results_lead_to_the_answer(
    double: OpenAIDouble, make: Make
) -> None:
    double.tool_rule = lambda *_: [("stock", {"sku": "a"}), ("stock", {"sku": "b"})]
    double.tool_replies = lambda text, outputs: f"{text}: {', '.join(outputs)}"
    adapter = make(tools=(STOCK, HAND_OVER, ToolSpec("now", "The time.")))
    waiting = await adapter.respond(REQUEST)
    assert [(call.name, json.loads(call.arguments)) for call in waiting.calls] == [
        ("stock", {"sku": "a"}),
        ("stock", {"sku": "b"}),
    ]
    assert (waiting.text, waiting.finish) == ("", "complete")
    reply = await adapter.respond(continued(waiting, "three", "none"))
    assert (reply.text, reply.calls) == (f"{SECRET_TEXT}: three, none", ())
    asked, again = double.requests
    assert asked["tools"] == again["tools"]
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["stock", "hand_over", "now"]
    assert asked["tools"][0] == {
        "type": "function",
        "function": {
            "name": "stock",
            "description": "How many there are.",
            "parameters": STOCK.parameters,
        },
    }
    assert asked["tools"][2]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert again["messages"][:-3] == asked["messages"]
    assert again["messages"][-2:] == [
        {"role": "tool", "tool_call_id": waiting.calls[0].id, "content": "three"},
        {"role": "tool", "tool_call_id": waiting.calls[1].id, "content": "none"},
    ]


async def test_tools_may_be_called_again_and_again(double: OpenAIDouble, make: Make) -> None:
    double.call_next("stock", {"sku": "a"}, 3)
    adapter = make(tools=(STOCK,))
    reply = await adapter.respond(REQUEST)
    for output in ("one", "two", "three"):
        assert len(reply.calls) == 1
        reply = await adapter.respond(continued(reply, output))
    assert (reply.text, reply.calls) == ("one\ntwo\nthree", ())


async def test_broken_arguments_are_left_as_the_model_wrote_them(
    double: OpenAIDouble, make: Make
) -> None:
    double.call_next("stock", '{"sku": ')
    reply = await make(tools=(STOCK,)).respond(REQUEST)
    assert reply.calls[0].arguments == '{"sku": '


async def test_the_text_beside_a_call_is_kept(double: OpenAIDouble, make: Make) -> None:
    double.asides = lambda text: f"one moment: {text}"
    double.call_next("stock", {"sku": "a"})
    reply = await make(tools=(STOCK,)).respond(REQUEST)
    assert (reply.text, reply.finish) == (f"one moment: {SECRET_TEXT}", "complete")
    assert [call.name for call in reply.calls] == ["stock"]


# --- how an answer may end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "truncated"), ("content_filter", "filtered")]
)
async def test_an_answer_that_was_cut_off(
    double: OpenAIDouble, make: Make, reason: str, finish: str
) -> None:
    double.replies = lambda _: "0123456789"
    double.finish_next(status="incomplete", reason=reason)
    reply = await make().respond(REQUEST)
    assert (reply.text, reply.finish) == ("01234", finish)


async def test_a_refusal(double: OpenAIDouble, make: Make) -> None:
    double.refuse_next(refusal="I can't help with that.")
    reply = await make().respond(REQUEST)
    assert (reply.text, reply.finish) == ("I can't help with that.", "refused")
    assert reply.output_tokens > 0


@pytest.mark.parametrize("text", ["", " \n", "<think>only thinking</think>\n"])
async def test_an_answer_without_text(double: OpenAIDouble, make: Make, text: str) -> None:
    double.replies = lambda _: text
    reply = await make().respond(REQUEST)
    assert (reply.text, reply.finish) == ("", "empty")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>\nHm.\n\n</think>\n\nAt nine.", "At nine."),
        ("\n<think></think>At nine.", "At nine."),
        ("Hm, the customer asks.\n</think>\n\nAt nine.", "At nine."),
        ("<think>Hm, and there it was cut", ""),
        ("At nine, I think.", "At nine, I think."),
        ("Write <think> for it.", "Write <think> for it."),
    ],
)
async def test_reasoning_in_front_of_an_answer_is_left_out(
    double: OpenAIDouble, make: Make, content: str, text: str
) -> None:
    double.replies = lambda _: content
    assert (await make().respond(REQUEST)).text == text


# --- servers that answer oddly -------------------------------------------------------------------


class OddServer(LoopbackServer):
    """Gives the `answers` in turn, text as HTML, to whatever is posted; `paths`: what else it
    has."""

    def __init__(self, *answers: Answer, paths: Mapping[str, Answer] | None = None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.paths = paths or {}
        self.requests: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/chat/completions", self._post), web.get("/{path:.*}", self._get)]

    async def _post(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return _sent(self.answers.pop(0))

    async def _get(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path not in self.paths:
            return web.json_response({"detail": "Not Found"}, status=404)
        return _sent(self.paths[request.path])


def _sent(answer: Answer) -> web.Response:
    if isinstance(answer, str):
        return web.Response(text=answer, content_type="text/html")
    return web.json_response(answer)


@asynccontextmanager
async def odd(*answers: Answer, **paths: Mapping[str, Answer]) -> AsyncIterator[OddServer]:
    async with OddServer(*answers, **paths) as server:
        yield server


def completion(message: Any, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "choices": [choice], **changes}


def said(text: str | None, *calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def call(unique: Any, name: str = "stock", arguments: Any = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": unique, "type": "function", "function": function}


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "many"}, "none"]
)
async def test_missing_usage_counts_as_nothing(make: Make, usage: Any) -> None:
    async with odd(completion(said("hello"), usage=usage)) as server:
        reply = await make(url=f"{server.base_url}/v1").respond(REQUEST)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens) == (0, 0, 0)
    assert (reply.text, reply.model) == ("hello", MODEL)


@pytest.mark.parametrize("message", [said(None), {"role": "assistant"}, {}, said([])])  # type: ignore[arg-type]
async def test_null_content_is_an_empty_answer(make: Make, message: Any) -> None:
    async with odd(completion(message)) as server:
        reply = await make(url=f"{server.base_url}/v1").respond(REQUEST)
    assert (reply.text, reply.finish) == ("", "empty")


@pytest.mark.parametrize(
    "answer",
    [
        "<html>It works!</html>",
        {},
        {"error": {"message": SECRET_TEXT, "code": 502}},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": ["hello"]},
        {"choices": {"message": said("hello")}},
        {"choices": [{"finish_reason": "stop"}]},
        completion(None),
        completion("hello"),
    ],
)
async def test_an_answer_that_is_none_is_temporary(make: Make, answer: Answer) -> None:
    async with odd(answer) as server:
        error = await failure(make(url=f"{server.base_url}/v1").respond(REQUEST))
    assert type(error) is Temporary
    assert "OPENAI_BASE_URL" in error.reason


async def test_calls_get_ids_that_tell_them_apart(make: Make) -> None:
    """Gemini's ids are empty, llama.cpp's may all be the same, in every answer."""
    first = completion(said(None, call("same"), call(""), call(None), call(7), call("same")))
    second = completion(said(None, call("same")))
    async with odd(first, second, completion(said("done"))) as server:
        adapter = make(url=f"{server.base_url}/v1", tools=(STOCK,))
        waiting = await adapter.respond(REQUEST)
        again = await adapter.respond(continued(waiting, "1", "2", "3", "4", "5"))
        assert (await adapter.respond(continued(again, "6"))).text == "done"
    ids = [call.id for call in (*waiting.calls, *again.calls)]
    assert ids[0] == "same"
    assert len(set(ids)) == 6
    assert all(ids)
    messages = server.requests[-1]["messages"]
    called = [c["id"] for m in messages for c in m.get("tool_calls", ())]
    answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert called == answered == ids


@pytest.mark.parametrize(
    ("reason", "finish"), [("length", "truncated"), ("content_filter", "filtered")]
)
async def test_a_call_that_was_cut_off_is_none(make: Make, reason: str, finish: str) -> None:
    answer = completion(said("One", call("1", arguments='{"sku": ')))
    answer["choices"][0]["finish_reason"] = reason
    async with odd(answer) as server:
        reply = await make(url=f"{server.base_url}/v1", tools=(STOCK,)).respond(REQUEST)
    assert (reply.text, reply.calls, reply.state, reply.finish) == ("One", (), None, finish)


async def test_calls_count_whatever_the_finish_reason_and_what_is_no_call_does_not(
    make: Make,
) -> None:
    message = said(
        "One moment.",
        {"id": "", "type": "function"},
        call("1", arguments={"sku": "ü"}),
        call("2", arguments=None),
        {"id": "3", "type": "custom", "custom": {"name": "x", "input": "y"}},
        call("4", name=""),
    )
    async with odd(completion(message)) as server:
        reply = await make(url=f"{server.base_url}/v1", tools=(STOCK,)).respond(REQUEST)
    assert reply.text == "One moment."
    assert [c.id for c in reply.calls] == ["1", "2"]
    assert [json.loads(c.arguments) for c in reply.calls] == [{"sku": "ü"}, {}]
    assert isinstance(reply.calls[0], ToolCall)


async def test_what_a_server_adds_to_its_message_goes_back_to_it(make: Make) -> None:
    """DeepSeek refuses results without the `reasoning_content` of the calls."""
    message = {**said("<think>a</think>b", call("1")), "reasoning_content": "why"}
    async with odd(completion(message), completion(said("done"))) as server:
        adapter = make(url=f"{server.base_url}/v1", tools=(STOCK,))
        await adapter.respond(continued(await adapter.respond(REQUEST), "three"))
    assert server.requests[-1]["messages"][-2] == message


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", Permanent),
        (401, "invalid_api_key", DependencyDown),
        (403, "", DependencyDown),
        (404, "model_not_found", DependencyDown),
        (404, "", DependencyDown),
        (429, "rate_limit_exceeded", Busy),
        (429, "insufficient_quota", DependencyDown),
        (500, "server_error", Temporary),
    ],
)
async def test_every_status_has_its_kind(
    double: OpenAIDouble, make: Make, status: int, code: str, kind: type[DependencyError]
) -> None:
    double.fail_next(status=status, code=code, message=f"{SECRET_TEXT} {KEY}")
    error = await failure(make(max_output_tokens=9).respond(REQUEST))
    assert type(error) is kind
    assert len(double.requests) == 1


async def test_a_completion_that_failed_is_temporary(double: OpenAIDouble, make: Make) -> None:
    double.finish_next(status="failed", reason="server_error")
    assert type(await failure(make().respond(REQUEST))) is Temporary


async def test_the_delay_that_the_server_asks_for(double: OpenAIDouble, make: Make) -> None:
    double.fail_next(status=429, headers={"retry-after": "7"})
    error = await failure(make().respond(REQUEST))
    assert isinstance(error, Busy)
    assert error.delay == 7


async def test_a_slow_answer_is_temporary(double: OpenAIDouble, make: Make) -> None:
    double.delay = 5
    error = await failure(make(timeout_seconds=0.03).respond(REQUEST))
    assert (type(error), error.code) == (Temporary, "timeout")


async def test_a_dropped_connection_is_temporary_and_not_repeated(
    double: OpenAIDouble, make: Make, naps: Naps
) -> None:
    double.drop_next()
    assert type(await failure(make().respond(REQUEST))) is Temporary
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
    assert model.reason == f"the project has no model {MODEL}: change ai.model"
    assert "OPENAI_API_KEY" in key.reason
    assert "no connection" in nobody.reason
    assert double.requests == []


def models(*names: str, owner: str = "vllm") -> dict[str, Any]:
    data = [{"id": name, "object": "model", "owned_by": owner} for name in names]
    return {"object": "list", "data": data}


@pytest.mark.parametrize(
    "listed",
    [
        {"/v1/models": models("other", "Qwen/Qwen3-8B")},
        {"/v1/models": models("/models/qwen.gguf", owner="llamacpp")},
        {},
    ],
)
async def test_a_server_without_a_route_for_one_model_passes(
    make: Make, listed: dict[str, Answer]
) -> None:
    async with odd(paths=listed) as server:
        await make(url=f"{server.base_url}/v1", model="Qwen/Qwen3-8B").check()
    assert server.asked[-1] == "/v1/models"


@pytest.mark.parametrize(
    ("paths", "advice"),
    [
        ({"/v1/models": models("other")}, "ai.model"),
        ({"/v1/models": models()}, "ai.model"),
        ({"/v1/models": models("a", "b", owner="llamacpp")}, "ai.model"),
        ({"/v1/models": "<html>"}, "OPENAI_BASE_URL"),
        ({"/v1/models": {"data": None}}, "OPENAI_BASE_URL"),
        ({f"/v1/models/{MODEL}": "<html>"}, "OPENAI_BASE_URL"),
    ],
)
async def test_a_list_without_the_model_and_a_page_do_not_pass(
    make: Make, paths: dict[str, Answer], advice: str
) -> None:
    async with odd(paths=paths) as server:
        error = await failure(make(url=f"{server.base_url}/v1").check())
    assert type(error) is DependencyDown
    assert advice in error.reason


async def test_a_check_has_an_end(double: OpenAIDouble, make: Make) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with asyncio.timeout(5):
            error = await failure(make(url=url, timeout_seconds=0.03).check())
    assert (type(error), error.code) == (DependencyDown, "timeout")
