"""What takes long to load is loaded in a thread: whoever needs it waits, and nobody else does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from replyd.ports import File, ModelReply, ModelRequest, Moderator, ReplyModel, Transcriber

T = TypeVar("T")


class CheckedModel(ReplyModel, Protocol):
    async def check(self) -> None:
        """Raises DependencyDown with what to change."""
        ...


class Later(Generic[T]):
    """Made once, when somebody first asks for it. `make` runs in a thread; what it raises, all get
    who ask."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        # Whoever no longer waits for it must not take it from the others.
        return await asyncio.shield(self._making)

    async def made(self) -> T | None:
        """When it is no longer being made; None where nobody has asked, or it failed."""
        if self._making is None:
            return None
        await asyncio.wait([self._making])
        return None if self._making.exception() else self._making.result()


class LaterModel:
    """Implements `ports.ReplyModel`, and `check`."""

    def __init__(self, get: Callable[[], Awaitable[CheckedModel]]) -> None:
        self._get = get

    async def respond(self, request: ModelRequest) -> ModelReply:
        return await (await self._get()).respond(request)

    async def check(self) -> None:
        await (await self._get()).check()


class LaterTranscriber:
    """Implements `ports.Transcriber`."""

    def __init__(self, get: Callable[[], Awaitable[Transcriber]]) -> None:
        self._get = get

    async def transcribe(self, recording: File) -> str:
        return await (await self._get()).transcribe(recording)


class LaterModerator:
    """Implements `ports.Moderator`."""

    def __init__(self, get: Callable[[], Awaitable[Moderator]]) -> None:
        self._get = get

    async def flagged(self, text: str) -> Sequence[str]:
        return await (await self._get()).flagged(text)
