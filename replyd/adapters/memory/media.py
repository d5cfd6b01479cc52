"""What customers send besides text, in memory: files, their transcripts, and moderation."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from replyd.domain.messages import Media
from replyd.errors import DependencyError, Permanent
from replyd.ports import File


@dataclass(slots=True)
class MemoryMedia:
    """Hands out `files` by account SID and URL after `seconds`; `failures` are raised first, in
    order. `content_types`: those that are wanted, empty for all."""

    seconds: float = 0.1
    failures: list[DependencyError] = field(default_factory=list)
    files: dict[tuple[str, str], File] = field(default_factory=dict)
    content_types: Collection[str] = ()
    max_bytes: int = 16 * 1024 * 1024
    requests: list[Media] = field(default_factory=list)

    async def fetch(self, media: Media, account_sid: str) -> File:
        self.requests.append(media)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        file = self.files.get((account_sid, media.url))
        if file is None:
            raise Permanent("twilio", "there is no such file", code="gone")
        if self.content_types and file.content_type not in self.content_types:
            raise Permanent("twilio", "a file of this type is not wanted", code="type")
        if len(file.data) > self.max_bytes:
            raise Permanent("twilio", "the file is too large", code="size")
        return file


@dataclass(slots=True)
class MemoryTranscriber:
    """Hears `words(recording)` after `seconds`; `failures` are raised first, in order."""

    words: Callable[[File], str] = lambda _: "two loaves for Saturday, please"
    seconds: float = 1.0
    failures: list[DependencyError] = field(default_factory=list)
    recordings: list[File] = field(default_factory=list)

    async def transcribe(self, recording: File) -> str:
        self.recordings.append(recording)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if not recording.content_type.startswith(("audio/", "video/")):
            raise Permanent("openai", "this cannot be transcribed", code="type")
        return self.words(recording).strip()


@dataclass(slots=True)
class MemoryModerator:
    """Finds the categories of `rule(text)` after `seconds`; `failures` are raised first, in
    order."""

    rule: Callable[[str], Collection[str]] = lambda _: ()
    seconds: float = 0.1
    failures: list[DependencyError] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def flagged(self, text: str) -> Sequence[str]:
        self.texts.append(text)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        return sorted(set(self.rule(text)))
