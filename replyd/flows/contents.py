"""Files that customers send: voice notes as words, pictures and documents for the model.

A voice note is transcribed while its window is still open, by the process that took the webhook;
the words wait for the turn in memory and in an item of their own, whichever process runs it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from replyd.domain import prompt
from replyd.domain.events import DependencyFailed, FileRead
from replyd.domain.messages import InboundMessage, Media, media_type
from replyd.domain.vcard import contacts
from replyd.errors import DependencyError, Permanent, ReplydError
from replyd.flows.pacing import FairSlots
from replyd.ports import Clock, ConversationStore, File, MediaLibrary, Telemetry, Transcriber

# What a turn gives to the model at most; it is held some three times while it is sent.
MAX_BYTES_OF_TURN = 32 * 1024 * 1024
_TURNS_WITH_FILES = 8
_KEPT = 1_000
# The words outlive every attempt at the turn.
_KEPT_SECONDS = 24 * 60 * 60
_SOON = "it could not be read in time"


@dataclass(frozen=True, slots=True)
class Contents:
    """`notes`: what stands for each file in the text, by SID and place; `files`: what goes to the
    model, in the order of their numbers."""

    notes: dict[str, dict[int, str]] = field(default_factory=dict)
    files: tuple[File, ...] = ()


class ContentReader:
    """One for all turns of a process. `recordings` is where voice notes come from, `library` where
    other files do. `transcriber`: None where voice notes are not read. A turn waits for a voice
    note's words, and for a file, no longer than the two limits, in seconds."""

    def __init__(
        self,
        *,
        recordings: MediaLibrary,
        library: MediaLibrary,
        transcriber: Transcriber | None,
        store: ConversationStore,
        clock: Clock,
        telemetry: Telemetry,
        words_wait_seconds: float = 10,
        file_wait_seconds: float = 10,
        max_files: int = 10,
        concurrency: int = 8,
    ) -> None:
        self._recordings = recordings
        self._library = library
        self._transcriber = transcriber
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._words_wait = words_wait_seconds
        self._file_wait = file_wait_seconds
        self._max_files = max_files
        self._slots = asyncio.Semaphore(concurrency)
        self._room = FairSlots(_TURNS_WITH_FILES)
        self._listening: OrderedDict[str, asyncio.Task[str]] = OrderedDict()

    def begin(self, message: InboundMessage) -> None:
        """Start on the message's voice notes, so that their words are there when its window
        closes."""
        if self._transcriber is None:
            return
        for place, media in enumerate(message.media):
            if _is_audio(media):
                self._listen(message, place)

    async def words(self, message: InboundMessage) -> dict[int, str]:
        """What stands for the message's voice notes, as far as their words can be had in time."""
        places = [i for i, media in enumerate(message.media) if _is_audio(media)]
        if self._transcriber is None or not places:
            return {}
        tasks = {place: self._listen(message, place) for place in places}
        started = self._clock.now()
        # The task goes on for a later attempt.
        await asyncio.wait(tasks.values(), timeout=self._words_wait)
        return {
            place: self._heard(task, message.media[place], started) for place, task in tasks.items()
        }

    @asynccontextmanager
    async def reading(
        self, messages: Sequence[InboundMessage], *, images: bool, documents: bool
    ) -> AsyncIterator[Contents]:
        """Everything in the messages that the model can take. Files are large: turns that hold
        some wait for one another, each business in its turn."""
        wanted = [
            (message, place, media)
            for message in messages
            for place, media in enumerate(message.media)
            if (images and _is_image(media))
            or (documents and _is_document(media))
            or _is_contact(media)
        ]
        room = self._room.slot(messages[0].business) if wanted else nullcontext()
        async with room:
            yield await self._read(messages, wanted)

    async def _read(
        self, messages: Sequence[InboundMessage], every: Sequence[tuple[InboundMessage, int, Media]]
    ) -> Contents:
        wanted, surplus = every[: self._max_files], every[self._max_files :]
        words, found = await asyncio.gather(
            asyncio.gather(*(self.words(message) for message in messages)),
            asyncio.gather(*(self._fetch(m, media) for m, _, media in wanted)),
        )
        notes = {m.sid: dict(w) for m, w in zip(messages, words, strict=True)}
        files: list[File] = []
        for (message, place, media), file in zip(wanted, found, strict=True):
            size = sum(len(f.data) for f in files)
            if isinstance(file, File) and _is_contact(media):
                note = prompt.contact(contacts(file.data))
            elif isinstance(file, File) and size + len(file.data) > MAX_BYTES_OF_TURN:
                note = prompt.unread(media, "too much came at once")
            elif isinstance(file, File):
                files.append(file)
                note = prompt.shown(media, len(files))
            else:
                note = prompt.unread(media, file)
            notes[message.sid][place] = note
        for message, place, media in surplus:
            notes[message.sid][place] = prompt.unread(media, "too many files came at once")
        return Contents(notes, tuple(files))

    # --- voice notes ---------------------------------------------------------------------------

    def _listen(self, message: InboundMessage, place: int) -> "asyncio.Task[str]":
        name = words_name(message.sid, place)
        task = self._listening.get(name)
        if task is None or _may_succeed_now(task):
            task = asyncio.create_task(self._transcribed(name, message, place))
            task.add_done_callback(_looked_at)
            self._listening[name] = task
            while len(self._listening) > _KEPT:
                self._listening.popitem(last=False)
        return task

    async def _transcribed(self, name: str, message: InboundMessage, place: int) -> str:
        assert self._transcriber is not None
        if (kept := await self._kept_words(name)) is not None:
            return kept
        async with self._slots:
            started = self._clock.now()
            file = await self._recordings.fetch(message.media[place], message.account_sid)
            words = await self._transcriber.transcribe(file)
        self._tell("audio", "read", started)
        try:
            expires_at = self._clock.now() // 1000 + _KEPT_SECONDS
            await self._store.put_side(name, {"words": words}, expires_at)
        except DependencyError as error:
            # The turn may run in this process, and another one can listen again.
            self._telemetry.emit(DependencyFailed.of(error, "content"))
        return words

    async def _kept_words(self, name: str) -> str | None:
        try:
            kept = await self._store.get_side(name)
        except DependencyError as error:
            # The voice note itself may still be had.
            self._telemetry.emit(DependencyFailed.of(error, "content"))
            return None
        return str(kept.get("words", "")) if kept is not None else None

    def _heard(self, task: "asyncio.Task[str]", media: Media, started: int) -> str:
        if not task.done():
            self._tell("audio", "late", started)
            return prompt.unread(media, _SOON)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            return prompt.unread(media, self._failure("audio", error, started))
        return prompt.heard(task.result())

    # --- pictures and documents ----------------------------------------------------------------

    async def _fetch(self, message: InboundMessage, media: Media) -> File | str:
        """The file, or why there is none."""
        kind = "image" if _is_image(media) else "contact" if _is_contact(media) else "document"
        started = self._clock.now()
        try:
            async with asyncio.timeout(self._file_wait):
                file = await self._library.fetch(media, message.account_sid)
        except TimeoutError:
            self._tell(kind, "late", started)
            return _SOON
        except ReplydError as error:
            return self._failure(kind, error, started)
        self._tell(kind, "read", started)
        return file

    def _failure(self, kind: str, error: BaseException | None, started: int) -> str:
        reason = error.reason if isinstance(error, DependencyError) else "it could not be read"
        if isinstance(error, DependencyError):
            self._telemetry.emit(DependencyFailed.of(error, "content"))
        self._tell(kind, "failed", started, reason)
        return reason if isinstance(error, Permanent) else "it could not be read"

    def _tell(self, kind: str, outcome: str, started: int, reason: str = "") -> None:
        self._telemetry.emit(FileRead(kind, outcome, self._clock.now() - started, reason))


def words_name(sid: str, place: int) -> str:
    """The side item with the words of a message's file."""
    return f"heard#{sid}#{place}"


def _looked_at(task: "asyncio.Task[str]") -> None:
    """Who waits for the words sees what went wrong; when nobody does, nobody needs to."""
    if not task.cancelled() and (error := task.exception()) is not None:
        # Its frames hold the recording, and the task is kept.
        error.__traceback__ = None


def _may_succeed_now(task: "asyncio.Task[str]") -> bool:
    """Whether it has failed, yet not for good."""
    if not task.done():
        return False
    error = None if task.cancelled() else task.exception()
    return task.cancelled() or (error is not None and not isinstance(error, Permanent))


def _is_audio(media: Media) -> bool:
    return media.content_type.lower().startswith("audio/")


def _is_image(media: Media) -> bool:
    # What vision models take; a sticker is a webp.
    return media_type(media.content_type) in ("image/jpeg", "image/png", "image/webp", "image/gif")


def _is_contact(media: Media) -> bool:
    return media_type(media.content_type) in ("text/vcard", "text/x-vcard", "text/directory")


def _is_document(media: Media) -> bool:
    return media_type(media.content_type) == "application/pdf"
