"""The transcriber and the moderator: the real SDK on loopback against the double."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types import ModerationCreateResponse
from openai.types.audio import Transcription

from replyd.adapters.openai.audio import EXTENSIONS, MAX_BYTES, OpenAITranscriber
from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.moderation import OpenAIModerator
from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.openai_double.audio import ORDER
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File

KEY = "sk-secret"
MODEL = "gpt-transcribe"
NOTE = File("../../a name", "audio/ogg; codecs=opus", b"OggS\x00\r\n--voice\xff")
SECRET_TEXT = "a text that no error may quote, I will hurt you"


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
async def client(double: OpenAIDouble) -> AsyncIterator[AsyncOpenAI]:
    async with create_client(KEY, base_url=double.api_url, timeout_seconds=5) as client:
        yield client


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def transcriber(client: AsyncOpenAI, naps: Naps) -> OpenAITranscriber:
    return OpenAITranscriber(client, model=MODEL, sleep=naps)


@pytest.fixture
def moderator(client: AsyncOpenAI, naps: Naps) -> OpenAIModerator:
    return OpenAIModerator(client, sleep=naps)


@pytest.fixture(params=["transcribe", "flagged"])
def call(
    request: pytest.FixtureRequest, transcriber: OpenAITranscriber, moderator: OpenAIModerator
) -> Awaitable[object]:
    """A call of one of the two that has not begun."""
    if request.param == "transcribe":
        return transcriber.transcribe(NOTE)
    return moderator.flagged(SECRET_TEXT)


async def failure(call: Awaitable[object]) -> DependencyError:
    """The error of a call that must fail, checked for what no error may show."""
    with pytest.raises(DependencyError) as caught:
        await call
    error = caught.value
    assert error.dependency == "openai"
    assert error.__context__ is None or error.__suppress_context__
    for secret in (KEY, SECRET_TEXT, NOTE.name):
        assert secret not in str(error)
    return error


# --- transcripts ---------------------------------------------------------------------------------


async def test_what_is_sent_for_a_voice_note(
    double: OpenAIDouble, transcriber: OpenAITranscriber
) -> None:
    assert await transcriber.transcribe(NOTE) == ORDER
    assert double.requests == [{"model": MODEL, "response_format": "json"}]
    assert double.files_seen == [File("recording.ogg", "audio/ogg", NOTE.data)]


async def test_the_language_of_the_customers(double: OpenAIDouble, client: AsyncOpenAI) -> None:
    await OpenAITranscriber(client, model=MODEL, language="de").transcribe(NOTE)
    assert double.requests[0]["language"] == "de"


@pytest.mark.parametrize("content_type", EXTENSIONS)
async def test_the_api_knows_the_name_of_every_type(
    double: OpenAIDouble, transcriber: OpenAITranscriber, content_type: str
) -> None:
    assert await transcriber.transcribe(File("", content_type.upper(), b"x")) == ORDER
    assert double.files_seen[0].content_type == content_type


@pytest.mark.parametrize(
    "content_type",
    ["audio/amr", "audio/aac", "audio/3gpp", "image/jpeg", "application/octet-stream", ""],
)
async def test_what_the_api_does_not_take_is_not_sent(
    double: OpenAIDouble, transcriber: OpenAITranscriber, content_type: str
) -> None:
    error = await failure(transcriber.transcribe(File("note.ogg", content_type, b"x")))
    assert (type(error), error.code, double.requests) == (Permanent, "type", [])


async def test_the_largest_recording(double: OpenAIDouble, transcriber: OpenAITranscriber) -> None:
    full = b"x" * MAX_BYTES
    assert await transcriber.transcribe(File("", "audio/ogg", full)) == ORDER
    double.requests.clear()
    error = await failure(transcriber.transcribe(File("", "audio/ogg", full + b"x")))
    assert (type(error), error.code, double.requests) == (Permanent, "size", [])


async def test_a_recording_that_the_api_refuses(transcriber: OpenAITranscriber) -> None:
    error = await failure(transcriber.transcribe(File("", "audio/ogg", b"")))
    assert type(error) is Permanent


@pytest.mark.parametrize("answer", [{}, {"text": None}, {"text": 5}, {"error": "x"}])
async def test_an_answer_that_is_no_transcript(
    double: OpenAIDouble, transcriber: OpenAITranscriber, answer: dict[str, Any]
) -> None:
    double.reshape = lambda _: answer
    assert type(await failure(transcriber.transcribe(NOTE))) is Temporary


# --- categories ----------------------------------------------------------------------------------


async def test_what_is_sent_for_a_text(double: OpenAIDouble, moderator: OpenAIModerator) -> None:
    found = await moderator.flagged(SECRET_TEXT)
    assert list(found) == ["harassment/threatening", "violence"]
    assert double.requests == [{"model": "omni-moderation-latest", "input": SECRET_TEXT}]


async def test_a_category_that_the_sdk_does_not_know(
    double: OpenAIDouble, moderator: OpenAIModerator
) -> None:
    def with_new_one(body: dict[str, Any]) -> dict[str, Any]:
        body["results"][0]["categories"] |= {"fraud/gift-cards": True, "illicit": None}
        return body

    double.reshape = with_new_one
    assert list(await moderator.flagged("hello")) == ["fraud/gift-cards"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": []},
        {"results": None},
        {"results": "none"},
        {"results": [None]},
        {"results": [{}]},
        {"results": [{"flagged": True}]},
        {"results": [{"categories": None}]},
        {"results": [{"categories": ["violence"]}]},
    ],
)
async def test_an_answer_that_is_no_judgement_does_not_pass_for_harmless(
    double: OpenAIDouble, moderator: OpenAIModerator, answer: dict[str, Any]
) -> None:
    double.reshape = lambda _: answer
    assert type(await failure(moderator.flagged(SECRET_TEXT))) is Temporary


# --- what both share -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_value", Permanent),
        (401, "invalid_api_key", DependencyDown),
        (403, "unsupported_country_region_territory", DependencyDown),
        (429, "rate_limit_exceeded", Busy),
        (429, "insufficient_quota", DependencyDown),
        (500, "", Temporary),
        (503, "", Temporary),
    ],
)
async def test_what_a_status_means(
    double: OpenAIDouble,
    call: Awaitable[object],
    naps: Naps,
    status: int,
    code: str,
    kind: type[DependencyError],
) -> None:
    double.fail_next(status=status, code=code, message=f"{SECRET_TEXT} {KEY}")
    assert type(await failure(call)) is kind
    assert (naps.taken, len(double.requests)) == ([], 1)


async def test_throttling_tells_how_long(double: OpenAIDouble, call: Awaitable[object]) -> None:
    double.fail_next(status=429, code="rate_limit_exceeded", headers={"retry-after": "7"})
    error = await failure(call)
    assert isinstance(error, Busy)
    assert error.delay == 7


async def test_a_model_that_the_project_does_not_have(
    double: OpenAIDouble, call: Awaitable[object]
) -> None:
    double.models = ("another",)
    error = await failure(call)
    assert (type(error), error.code) == (DependencyDown, "model_not_found")


async def test_a_lost_answer_is_not_asked_for_again(
    double: OpenAIDouble, call: Awaitable[object], naps: Naps
) -> None:
    double.drop_next()
    assert type(await failure(call)) is Temporary
    assert (naps.taken, len(double.requests)) == ([], 1)


@pytest.mark.parametrize("what", ["transcribe", "flagged"])
async def test_what_never_arrived_is_tried_once_more(naps: Naps, what: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with create_client(KEY, base_url=url) as client:
            error = await failure(
                OpenAITranscriber(client, model=MODEL, sleep=naps).transcribe(NOTE)
                if what == "transcribe"
                else OpenAIModerator(client, sleep=naps).flagged(SECRET_TEXT)
            )
    assert (type(error), naps.taken) == (DependencyDown, [0.2])


@pytest.mark.parametrize("what", ["transcribe", "flagged"])
async def test_the_time_is_limited(double: OpenAIDouble, client: AsyncOpenAI, what: str) -> None:
    double.delay = 30
    error = await failure(
        OpenAITranscriber(client, model=MODEL, timeout_seconds=0.1).transcribe(NOTE)
        if what == "transcribe"
        else OpenAIModerator(client, timeout_seconds=0.1).flagged(SECRET_TEXT)
    )
    assert (type(error), error.code) == (Temporary, "timeout")
    assert "0.1 s" in error.reason


# --- the double ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-transcribe", "gpt-4o-mini-transcribe", "whisper-1"])
async def test_the_doubles_transcripts_are_the_sdks(
    double: OpenAIDouble, client: AsyncOpenAI, model: str
) -> None:
    double.audio.transcripts = lambda data: data.decode()
    transcription = await client.audio.transcriptions.create(model=model, file=("a.wav", b"words"))
    Transcription.model_validate(transcription.to_dict(), strict=True)
    assert transcription.text == "words"
    assert transcription.usage is not None
    assert (transcription.usage.type == "duration") == (model == "whisper-1")
    assert (transcription.languages is not None) == (model == "gpt-transcribe")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ""}, "model"),
        ({"language": "english"}, "language"),
        ({"response_format": "srt"}, "response_format"),
        ({"file": ("note.amr", b"#!AMR")}, None),
        ({"file": ("note.ogg", b"")}, None),
    ],
)
async def test_what_the_double_refuses(
    client: AsyncOpenAI, changes: dict[str, Any], param: str | None
) -> None:
    usual: dict[str, Any] = {"model": MODEL, "file": ("note.ogg", b"x")}
    with pytest.raises(BadRequestError) as caught:
        await client.audio.transcriptions.create(**(usual | changes))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "flagged"),
    [
        ("hello", [False]),
        ("I will hurt myself", [True]),
        (["hello", "you idiot"], [False, True]),
        (
            [
                {"type": "text", "text": "you idiot"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
            [True],
        ),
    ],
)
async def test_the_doubles_judgements_are_the_sdks(
    client: AsyncOpenAI, given: Any, flagged: list[bool]
) -> None:
    answer = await client.moderations.create(model="omni-moderation-latest", input=given)
    ModerationCreateResponse.model_validate(answer.to_dict(), strict=True)
    assert [result.flagged for result in answer.results] == flagged
