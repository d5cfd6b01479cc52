"""What every transcriber and every moderator does. Real clocks and sockets here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

import pytest

from replyd.adapters.memory.media import MemoryModerator, MemoryTranscriber
from replyd.adapters.openai.audio import OpenAITranscriber
from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.moderation import OpenAIModerator
from replyd.demo.openai_double import OpenAIDouble
from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import File, Moderator, Transcriber

NOTE = File("ME1.ogg", "audio/ogg", b"OggS\x00 a voice note")
TEXT = "a text that no error may quote"
# What OpenAI says for each kind of error: status and code.
REFUSALS: dict[type[DependencyError], tuple[int, str]] = {
    Temporary: (500, "server_error"),
    Busy: (429, "rate_limit_exceeded"),
    DependencyDown: (401, "invalid_api_key"),
    Permanent: (400, "invalid_value"),
}


@dataclass
class Memory:
    """The twins, and what the vendor can be made to do."""

    transcriber: MemoryTranscriber = field(default_factory=lambda: MemoryTranscriber(seconds=0))
    moderator: MemoryModerator = field(default_factory=lambda: MemoryModerator(seconds=0))

    def hear(self, words: Callable[[bytes], str]) -> None:
        self.transcriber.words = lambda recording: words(recording.data)

    def flag(self, rule: Callable[[str], Collection[str]]) -> None:
        self.moderator.rule = rule

    def refuse(self, kind: type[DependencyError]) -> None:
        for failures in (self.transcriber.failures, self.moderator.failures):
            failures[:] = [kind("openai", "refused")]

    def lose(self) -> None:
        self.refuse(Temporary)


@dataclass
class Real:
    """The adapters, and the double behind them."""

    transcriber: OpenAITranscriber
    moderator: OpenAIModerator
    double: OpenAIDouble

    def hear(self, words: Callable[[bytes], str]) -> None:
        self.double.audio.transcripts = words

    def flag(self, rule: Callable[[str], Collection[str]]) -> None:
        self.double.moderations.rule = rule

    def refuse(self, kind: type[DependencyError]) -> None:
        status, code = REFUSALS[kind]
        self.double.fail_next(status=status, code=code)

    def lose(self) -> None:
        self.double.drop_next()


Vendor = Memory | Real


@pytest.fixture(params=["memory", "openai"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    if request.param == "memory":
        yield Memory()
        return
    async with (
        OpenAIDouble() as double,
        create_client("sk-any", base_url=double.api_url, timeout_seconds=5) as client,
    ):
        yield Real(
            OpenAITranscriber(client, model="gpt-transcribe", timeout_seconds=5),
            OpenAIModerator(client, timeout_seconds=5),
            double,
        )


@pytest.fixture
def transcriber(vendor: Vendor) -> Transcriber:
    return vendor.transcriber


@pytest.fixture
def moderator(vendor: Vendor) -> Moderator:
    return vendor.moderator


# --- transcribers --------------------------------------------------------------------------------


async def test_the_words_of_a_voice_note(vendor: Vendor, transcriber: Transcriber) -> None:
    vendor.hear(lambda data: f" heard {len(data)} bytes ☺\n漢字 \n")
    assert await transcriber.transcribe(NOTE) == f"heard {len(NOTE.data)} bytes ☺\n漢字"


async def test_silence_has_no_words(vendor: Vendor, transcriber: Transcriber) -> None:
    vendor.hear(lambda _: "")
    assert await transcriber.transcribe(NOTE) == ""


async def test_a_picture_cannot_be_transcribed(transcriber: Transcriber) -> None:
    with pytest.raises(Permanent) as caught:
        await transcriber.transcribe(File("ME1.jpg", "image/jpeg", b"JFIF"))
    assert caught.value.code == "type"


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refused_recording_has_its_kind_and_hinders_nothing(
    vendor: Vendor, transcriber: Transcriber, kind: type[DependencyError]
) -> None:
    vendor.refuse(kind)
    with pytest.raises(DependencyError) as caught:
        await transcriber.transcribe(NOTE)
    assert type(caught.value) is kind
    assert await transcriber.transcribe(NOTE)


async def test_a_lost_transcript_is_never_ambiguous(
    vendor: Vendor, transcriber: Transcriber
) -> None:
    vendor.lose()
    with pytest.raises(DependencyError) as caught:
        await transcriber.transcribe(NOTE)
    assert not isinstance(caught.value, Ambiguous)
    assert isinstance(caught.value, Temporary)
    assert await transcriber.transcribe(NOTE)


async def test_many_recordings_at_once_keep_their_words(
    vendor: Vendor, transcriber: Transcriber
) -> None:
    vendor.hear(lambda data: f"to {data.decode()}")
    notes = [File("note.ogg", "audio/ogg", str(number).encode()) for number in range(12)]
    heard = await asyncio.gather(*map(transcriber.transcribe, notes))
    assert heard == [f"to {number}" for number in range(12)]


# --- moderators ----------------------------------------------------------------------------------


async def test_a_harmless_text_has_no_categories(vendor: Vendor, moderator: Moderator) -> None:
    vendor.flag(lambda _: ())
    assert list(await moderator.flagged(TEXT)) == []


async def test_the_categories_of_a_text_come_sorted(vendor: Vendor, moderator: Moderator) -> None:
    names = ("violence", "self-harm/intent", "harassment/threatening")
    vendor.flag(lambda text: names if text == TEXT else ())
    assert list(await moderator.flagged(TEXT)) == sorted(names)
    assert list(await moderator.flagged("another")) == []


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refused_text_has_its_kind_and_hinders_nothing(
    vendor: Vendor, moderator: Moderator, kind: type[DependencyError]
) -> None:
    vendor.refuse(kind)
    with pytest.raises(DependencyError) as caught:
        await moderator.flagged(TEXT)
    assert type(caught.value) is kind
    assert TEXT not in str(caught.value)
    assert list(await moderator.flagged(TEXT)) == []


async def test_a_lost_judgement_is_never_ambiguous(vendor: Vendor, moderator: Moderator) -> None:
    vendor.lose()
    with pytest.raises(DependencyError) as caught:
        await moderator.flagged(TEXT)
    assert not isinstance(caught.value, Ambiguous)
    assert isinstance(caught.value, Temporary)
    assert list(await moderator.flagged(TEXT)) == []


async def test_many_texts_at_once_keep_their_categories(
    vendor: Vendor, moderator: Moderator
) -> None:
    vendor.flag(lambda text: {"violence"} if int(text) % 2 else set())
    found = await asyncio.gather(*(moderator.flagged(str(number)) for number in range(12)))
    assert [list(one) for one in found] == [[], ["violence"]] * 6
