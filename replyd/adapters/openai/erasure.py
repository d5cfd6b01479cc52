"""What OpenAI keeps of a thread, and erasing it.

No call erases a whole thread, https://platform.openai.com/docs/api-reference:

- A response that is deleted leaves those before it, and nothing lists them: only each one's
  `previous_response_id` leads on. OpenAI drops a response after 30 days.
- A conversation that is deleted leaves its items.
- A thread of the Assistants API leaves the files of its messages.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from openai import APIStatusError, AsyncOpenAI, OpenAIError

from replyd.adapters.openai.failures import NAME, once_more, translated
from replyd.errors import DependencyError, Temporary
from replyd.ports import Kept

_PAGE = 100


class OpenAIThreads:
    """Implements `ports.ThreadEraser` for one key and server. What the server does not know counts
    as gone."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._sleep = sleep

    async def kept(self, thread_id: str) -> Sequence[Kept]:
        match thread_id.partition("_")[0]:
            case "resp":
                return await self._chain(thread_id)
            case "conv":
                return await self._conversation(thread_id)
            case "thread":
                return await self._thread(thread_id)
        return ()

    async def erase(self, what: Kept) -> bool:
        """A connection that broke, or a server error, is tried once more: erasing again does no
        harm."""
        client = self._client

        def erasing() -> Awaitable[object]:
            match what.kind:
                case "response":
                    return client.responses.delete(what.id)
                case "item":
                    return client.conversations.items.delete(what.id, conversation_id=what.within)
                case "conversation":
                    return client.conversations.delete(what.id)
                case "file":
                    return client.files.delete(what.id)
                case "thread":
                    return client.beta.threads.delete(what.id)

        return await self._call(erasing) is not _GONE

    async def _chain(self, newest: str) -> Sequence[Kept]:
        """Oldest first. One that is gone ends it: older ones went before it."""
        found: dict[str, None] = {}
        name: object = newest
        while isinstance(name, str) and name.startswith("resp_") and name not in found:
            response: Any = await self._call(partial(self._client.responses.retrieve, name))
            if response is _GONE:
                break
            found[name] = None
            name = getattr(response, "previous_response_id", None)
        return [Kept("response", name) for name in reversed(found)]

    async def _conversation(self, conversation_id: str) -> Sequence[Kept]:
        items = self._client.conversations.items
        ids = await self._call(lambda: _ids(items.list(conversation_id, limit=_PAGE)))
        if not isinstance(ids, list):
            return ()
        parts = [Kept("item", name, conversation_id) for name in ids]
        return [*parts, Kept("conversation", conversation_id)]

    async def _thread(self, thread_id: str) -> Sequence[Kept]:
        def listing() -> Awaitable[object]:
            return _files(self._client.beta.threads.messages.list(thread_id, limit=_PAGE))

        files = await self._call(listing)
        if not isinstance(files, list):
            return ()
        return [*(Kept("file", name) for name in files), Kept("thread", thread_id)]

    async def _call(self, make: Callable[[], Awaitable[object]]) -> object:
        return await once_more(self._sleep, self._once, make)

    async def _once(self, make: Callable[[], Awaitable[object]]) -> object:
        try:
            # Of the Assistants API, at the call.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                call = make()
            return await call
        except (OpenAIError, ValueError) as error:
            if isinstance(error, APIStatusError) and error.status_code in (404, 410):
                return _GONE
            failure: DependencyError = translated(error, model="")
        except AttributeError:  # The SDK stumbles over what is no page.
            failure = Temporary(NAME, "the answer is of another kind: check OPENAI_BASE_URL")
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        raise failure


_GONE = object()


async def _ids(pages: Any) -> list[str]:
    return [item.id async for item in pages if isinstance(getattr(item, "id", None), str)]


async def _files(pages: Any) -> list[str]:
    """Of pictures that came with messages: nothing else uploads files here."""
    found: dict[str, None] = {}
    async for message in pages:
        for part in message.content or ():
            if getattr(part, "type", "") == "image_file":
                found[part.image_file.file_id] = None
    return list(found)
