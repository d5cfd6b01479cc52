"""The double's Assistants API, read by the real SDK; what it says validated, not just parsed."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import FileObject
from openai.types.beta import Assistant
from openai.types.beta import Thread as SdkThread
from openai.types.beta.threads import Message, MessageDeleted, Run

from replyd.demo.openai_double import OpenAIDouble

KEY = "sk-test"
HEADERS = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}

# The SDK calls the whole API deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
async def double() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble(api_key=KEY) as double:
        double.replies = lambda text: f"to {text}"
        yield double


@pytest.fixture
async def client(double: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=KEY, base_url=double.api_url, max_retries=0) as client:
        yield client


class Wire:
    """The JSON as it is on the wire."""

    def __init__(self, double: OpenAIDouble, session: aiohttp.ClientSession) -> None:
        self._double = double
        self._session = session

    async def __call__(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        url = f"{self._double.api_url}{path}"
        async with self._session.request(method, url, json=body) as response:
            return {"http": response.status, **await response.json()}


@pytest.fixture
async def wire(double: OpenAIDouble) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        yield Wire(double, session)


QUESTION = {"role": "user", "content": "question", "metadata": {"turn": "SM1"}}


async def new_thread(wire: Wire, *messages: dict[str, Any]) -> str:
    thread = await wire("POST", "/threads", {"messages": list(messages or [QUESTION])})
    return f"/threads/{thread['id']}"


async def new_run(wire: Wire, thread: str, **fields: Any) -> str:
    run = await wire("POST", f"{thread}/runs", {"assistant_id": "asst_1", **fields})
    return f"{thread}/runs/{run['id']}"


async def ended(wire: Wire, run: str) -> dict[str, Any]:
    for _ in range(9):
        found = await wire("GET", run)
        if found["status"] not in ("queued", "in_progress", "cancelling"):
            return found
    raise AssertionError(found["status"])


def strictly(model: type[Any], body: dict[str, Any]) -> Any:
    return model.model_validate(body, strict=True)


TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


async def test_every_object_is_what_the_sdk_says(double: OpenAIDouble, wire: Wire) -> None:
    strictly(Assistant, await wire("GET", "/assistants/asst_1"))
    made = await wire("POST", "/threads", {"messages": [QUESTION], "metadata": {"a": "b"}})
    assert strictly(SdkThread, made).metadata == {"a": "b"}
    thread = f"/threads/{made['id']}"
    strictly(SdkThread, await wire("GET", thread))
    added = await wire("POST", f"{thread}/messages", {**QUESTION, "content": "more"})
    assert strictly(Message, added).metadata == {"turn": "SM1"}
    strictly(MessageDeleted, await wire("DELETE", f"{thread}/messages/{added['id']}"))
    run = await wire("POST", f"{thread}/runs", {"assistant_id": "asst_1", "tools": TOOLS})
    assert strictly(Run, run).status == "queued"
    done = await ended(wire, f"{thread}/runs/{run['id']}")
    assert strictly(Run, done).usage is not None
    for each in (await wire("GET", f"{thread}/messages"))["data"]:
        strictly(Message, each)
    for each in (await wire("GET", f"{thread}/runs"))["data"]:
        strictly(Run, each)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("failed", "server_error"),
        ("incomplete", "max_output_tokens"),
        ("incomplete", "content_filter"),
        ("refused", "No."),
        ("expired", ""),
        ("cancelled", ""),
    ],
)
async def test_every_ending_is_what_the_sdk_says(
    double: OpenAIDouble, wire: Wire, status: str, reason: str
) -> None:
    thread = await new_thread(wire)
    double.finish_next(status=status, reason=reason)
    run = strictly(Run, await ended(wire, await new_run(wire, thread)))
    assert run.status == ("completed" if status == "refused" else status)
    if status == "failed":
        assert run.last_error.code == reason
    messages = (await wire("GET", f"{thread}/messages?run_id={run.id}"))["data"]
    for each in messages:
        message = strictly(Message, each)
        if status == "refused":
            assert message.content[0].refusal == "No."
        else:
            assert message.status == "incomplete"
            assert message.content[0].text.value == "to qu"
    assert len(messages) == (status in ("incomplete", "refused"))


async def test_the_sdk_asks_and_polls(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    double.assistants.polls = 3
    threads = client.beta.threads
    thread = await threads.create(messages=[{"role": "user", "content": "question"}])
    run = await threads.runs.create(thread.id, assistant_id="asst_1", instructions="Be brief.")
    seen = [run.status]
    while run.status != "completed":
        run = await threads.runs.retrieve(run.id, thread_id=thread.id)
        seen.append(run.status)
    assert seen == ["queued", "in_progress", "in_progress", "completed"]
    assert run.instructions == "Be brief."
    page = await threads.messages.list(thread.id, run_id=run.id)
    (message,) = page.data
    assert message.content[0].type == "text"
    assert message.content[0].text.value == "to question"
    assert (message.run_id, message.assistant_id) == (run.id, "asst_1")
    assert [body["assistant_id"] for body in double.requests] == ["asst_1"]


async def test_lists_have_an_order_a_limit_and_pages(wire: Wire, client: AsyncOpenAI) -> None:
    said = [{"role": "user", "content": f"line {number}"} for number in range(25)]
    thread = await new_thread(wire, *said)
    newest = await wire("GET", f"{thread}/messages")
    assert len(newest["data"]) == 20
    assert newest["data"][0]["content"][0]["text"]["value"] == "line 24"
    assert newest["has_more"] is True
    pages = client.beta.threads.messages.list(thread.split("/")[-1], order="asc", limit=10)
    texts = [m.content[0].text.value async for m in pages if m.content[0].type == "text"]
    assert texts == [f"line {number}" for number in range(25)]
    assert (await wire("GET", f"{thread}/messages?limit=101"))["http"] == 400


async def test_nothing_is_added_while_a_run_is_active(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    double.assistants.polls = 2
    run = await new_run(wire, thread)
    for _ in range(2):
        refused = await wire("POST", f"{thread}/messages", QUESTION)
        assert refused["http"] == 400
        assert refused["error"]["message"] == (
            f"Can't add messages to {thread[9:]} while a run {run.split('/')[-1]} is active."
        )
        again = await wire("POST", f"{thread}/runs", {"assistant_id": "asst_1"})
        assert "already has an active run" in again["error"]["message"]
        await wire("GET", run)
    assert (await wire("POST", f"{thread}/messages", QUESTION))["http"] == 200


async def test_a_cancelled_run_takes_its_time_and_leaves_half_an_answer(
    double: OpenAIDouble, wire: Wire
) -> None:
    double.assistants.stuck = True
    thread = await new_thread(wire)
    run = await new_run(wire, thread)
    assert (await wire("GET", run))["status"] == "in_progress"
    assert strictly(Run, await wire("POST", f"{run}/cancel")).status == "cancelling"
    assert (await wire("POST", f"{thread}/messages", QUESTION))["http"] == 400
    assert (await wire("GET", run))["status"] == "cancelled"
    refused = await wire("POST", f"{run}/cancel")
    assert refused["error"]["message"] == "Cannot cancel run with status 'cancelled'."
    (half, _) = (await wire("GET", f"{thread}/messages"))["data"]
    assert strictly(Message, half).incomplete_details.reason == "run_cancelled"
    assert half["content"][0]["text"]["value"] == "to qu"


async def test_a_cancelled_run_that_is_only_listed(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    await wire("POST", f"{await new_run(wire, thread)}/cancel")
    listed = [(await wire("GET", f"{thread}/runs"))["data"][0]["status"] for _ in range(2)]
    assert listed == ["cancelling", "cancelled"]


async def test_a_run_waits_for_tools(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    double.call_next("look_up", {"what": "cake"})
    run = await new_run(wire, thread, tools=TOOLS)
    waiting = strictly(Run, await ended(wire, run))
    assert waiting.status == "requires_action"
    (call,) = waiting.required_action.submit_tool_outputs.tool_calls
    assert (call.function.name, call.function.arguments) == ("look_up", '{"what": "cake"}')
    wrong = {"tool_outputs": [{"tool_call_id": "call_other", "output": "?"}]}
    assert (await wire("POST", f"{run}/submit_tool_outputs", wrong))["http"] == 400
    right = {"tool_outputs": [{"tool_call_id": call.id, "output": "£28"}]}
    assert strictly(Run, await wire("POST", f"{run}/submit_tool_outputs", right)).status == "queued"
    assert (await wire("POST", f"{run}/submit_tool_outputs", right))["http"] == 400
    assert (await ended(wire, run))["status"] == "completed"
    (answer, _) = (await wire("GET", f"{thread}/messages"))["data"]
    assert answer["content"][0]["text"]["value"] == "£28"


async def test_an_expired_run_takes_no_results(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    double.call_next("look_up", {})
    run = await new_run(wire, thread, tools=TOOLS)
    waiting = await ended(wire, run)
    (call,) = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    double.assistants.expire(waiting["thread_id"])
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "£28"}]}
    refused = await wire("POST", f"{run}/submit_tool_outputs", outputs)
    assert refused["http"] == 400
    assert '"expired"' in refused["error"]["message"]


async def test_images_are_uploaded_and_shown(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    upload = ("cake.jpg", b"photo", "image/jpeg")
    file = await client.files.create(file=upload, purpose="vision")
    FileObject.model_validate(file.to_dict(), strict=True)
    assert (file.filename, file.bytes, file.purpose) == ("cake.jpg", 5, "vision")
    thread = await client.beta.threads.create()
    shown = await client.beta.threads.messages.create(
        thread.id,
        role="user",
        content=[{"type": "image_file", "image_file": {"file_id": file.id}}],
    )
    Message.model_validate(shown.to_dict(), strict=True)
    (seen,) = double.files_seen
    assert (seen.name, seen.data, seen.content_type) == upload
    with pytest.raises(openai.NotFoundError):
        await client.beta.threads.messages.create(
            thread.id,
            role="user",
            content=[{"type": "image_file", "image_file": {"file_id": "file_other"}}],
        )


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/threads/thread_1", "No thread found with id 'thread_1'."),
        ("POST", "/threads/thread_1/messages", "No thread found with id 'thread_1'."),
        ("GET", "/threads/thread_1/runs", "No thread found with id 'thread_1'."),
        ("GET", "{thread}/runs/run_1", "No run found with id 'run_1'."),
        ("DELETE", "{thread}/messages/msg_1", "No message found with id 'msg_1'."),
        ("GET", "/assistants/asst_1", "No assistant found with id 'asst_1'."),
        ("POST", "{thread}/runs", "No assistant found with id 'asst_1'."),
    ],
)
async def test_what_is_not_there(
    double: OpenAIDouble, wire: Wire, method: str, path: str, message: str
) -> None:
    thread = await new_thread(wire)
    double.assistants.assistants["asst_other"] = {"model": "gpt-6-sol"}
    body = {"assistant_id": "asst_1", **QUESTION} if method == "POST" else None
    answer = await wire(method, path.format(thread=thread), body)
    assert (answer["http"], answer["error"]["message"]) == (404, message)
    other = await wire("GET", "/assistants/asst_other")
    assert other["model"] == "gpt-6-sol"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messages": [QUESTION] * 33}, "array_above_max_length"),
        ({"messages": [{"role": "user", "content": " "}]}, None),
        ({"messages": [{"role": "system", "content": "x"}]}, None),
        ({"metadata": {"a": "b" * 513}}, "invalid_value"),
        ([], None),
    ],
)
async def test_what_openai_refused(wire: Wire, body: Any, code: str | None) -> None:
    answer = await wire("POST", "/threads", body)
    assert (answer["http"], answer["error"]["code"]) == (400, code)


async def test_a_model_that_does_not_exist(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    double.models = ("gpt-6-sol",)
    refused = await wire("POST", f"{thread}/runs", {"assistant_id": "asst_1", "model": "gpt-1"})
    assert (refused["http"], refused["error"]["code"]) == (400, "model_not_found")


async def test_the_key_and_the_beta_header_are_needed(double: OpenAIDouble) -> None:
    for headers, status in (
        ({**HEADERS, "Authorization": "Bearer sk-other"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 400),
    ):
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{double.api_url}/assistants/asst_1") as response,
        ):
            assert response.status == status


async def test_since_the_shutdown_nothing_is_there(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    run = await new_run(wire, thread)
    double.assistants.gone = True
    for method, path in (
        ("GET", "/assistants/asst_1"),
        ("POST", "/threads"),
        ("GET", thread),
        ("GET", f"{thread}/messages"),
        ("POST", f"{thread}/runs"),
        ("POST", f"{run}/cancel"),
    ):
        answer = await wire(method, path, {} if method == "POST" else None)
        assert answer["http"] == 404
        assert "found with id" not in answer["error"]["message"]


async def test_a_lost_answer_to_work_that_was_done(double: OpenAIDouble, wire: Wire) -> None:
    thread = await new_thread(wire)
    double.assistants.lose_next("create_message")
    with pytest.raises(aiohttp.ClientError):
        await wire("POST", f"{thread}/messages", QUESTION)
    assert len((await wire("GET", f"{thread}/messages"))["data"]) == 2
    assert (await wire("POST", f"{thread}/messages", QUESTION))["http"] == 200


async def test_faults_of_the_whole_double_and_of_one_operation(
    double: OpenAIDouble, wire: Wire
) -> None:
    double.assistants.fail_next("create_thread", status=429, headers={"retry-after": "3"})
    double.fail_next(status=503)
    assert (await wire("POST", "/threads", {}))["http"] == 503
    assert (await wire("GET", "/assistants/asst_1"))["http"] == 200
    assert (await wire("POST", "/threads", {}))["http"] == 429
    assert (await wire("POST", "/threads", {}))["http"] == 200


async def test_threads_can_be_forgotten(double: OpenAIDouble, wire: Wire) -> None:
    one, other = await new_thread(wire), await new_thread(wire)
    double.assistants.forget(one.split("/")[-1])
    assert [(await wire("GET", each))["http"] for each in (one, other)] == [404, 200]
    double.assistants.forget()
    assert (await wire("GET", other))["http"] == 404
