"""The calls of the Assistants API v2 that a reply needs, with errors translated,
https://platform.openai.com/docs/api-reference/assistants. OpenAI itself shut it down on
2026-08-26; other servers still speak it.
"""

import re
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from openai import APIStatusError, AsyncOpenAI, OpenAIError, omit
from openai.pagination import AsyncCursorPage
from openai.types import FileObject
from openai.types.beta import Assistant, AssistantToolParam, Thread, thread_create_params
from openai.types.beta.threads import Message, MessageDeleted, Run

from replyd.adapters.openai.failures import NAME, once_more, translated
from replyd.domain.tools import ToolResult, ToolSpec
from replyd.errors import DependencyDown, DependencyError, Temporary
from replyd.ports import File

GONE = "assistants_gone"
PAGE_LIMIT = 100  # items, from the API reference
RUNS_LOOKED_AT = 20

_NAMED = re.compile(
    r"\bno (thread|run|assistant|message) (?:was )?found\b"
    r"|\b(thread|run|assistant|message)\b[^.]{0,80}\b(?:not found|does not exist)\b",
    re.IGNORECASE,
)
_RUN_IS_ACTIVE = re.compile(r"\brun\b.{0,80}\bis active\b|\bactive run\b", re.IGNORECASE)

T = TypeVar("T")
NewMessage = thread_create_params.Message
Metadata = Mapping[str, str]


class NotFoundError(Exception):
    """HTTP 404, 405 or 410. `what`: the thread, run, assistant or message that is missing, empty
    where the refusal does not tell, as when the whole API is missing."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class AssistantsApi:
    """Every method raises NotFoundError, and Temporary, Busy, DependencyDown or Permanent."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        assistant_id: str,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec],
        max_output_tokens: int | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._assistant_id = assistant_id
        self._model = model
        self._instructions = instructions
        self._tools = tools
        self._max_output_tokens = max_output_tokens
        self._sleep = sleep

    async def assistant(self) -> Assistant:
        """Raises DependencyDown when it, or the whole API, is not there."""
        try:
            return await self._call(
                Assistant, lambda: self._client.beta.assistants.retrieve(self._assistant_id)
            )
        except NotFoundError as missing:
            failure = self._not_there(missing)
        raise failure

    async def create_thread(self, messages: Iterable[NewMessage], conversation_id: str) -> str:
        """The new thread's id. Raises DependencyDown when the API is gone."""
        try:
            thread = await self._call(
                Thread,
                lambda: self._client.beta.threads.create(
                    messages=messages, metadata={"conversation_id": conversation_id}
                ),
            )
            return thread.id
        except NotFoundError:
            pass
        raise gone()

    async def messages(self, thread_id: str, limit: int) -> Sequence[Message]:
        """Newest first."""
        return await self._items(
            Message,
            lambda: self._client.beta.threads.messages.list(
                thread_id, order="desc", limit=min(limit, PAGE_LIMIT)
            ),
        )

    async def answers(self, thread_id: str, run_id: str) -> Sequence[Message]:
        """The messages of one run, oldest first."""
        return await self._items(
            Message,
            lambda: self._client.beta.threads.messages.list(
                thread_id, order="asc", limit=PAGE_LIMIT, run_id=run_id
            ),
        )

    async def add_message(self, thread_id: str, message: NewMessage) -> None:
        await self._call(
            Message,
            lambda: self._client.beta.threads.messages.create(
                thread_id,
                role=message["role"],
                content=message["content"],
                metadata=message.get("metadata") or {},
            ),
        )

    async def delete_message(self, thread_id: str, message_id: str) -> None:
        """No matter whether it is there."""
        try:
            await self._call(
                MessageDeleted,
                lambda: self._client.beta.threads.messages.delete(message_id, thread_id=thread_id),
            )
        except NotFoundError as missing:
            if missing.what != "message":
                raise

    async def runs(self, thread_id: str) -> Sequence[Run]:
        """The newest ones, newest first."""
        return await self._items(
            Run,
            lambda: self._client.beta.threads.runs.list(
                thread_id, order="desc", limit=RUNS_LOOKED_AT
            ),
        )

    async def run(self, thread_id: str, run_id: str) -> Run:
        return await self._call(
            Run, lambda: self._client.beta.threads.runs.retrieve(run_id, thread_id=thread_id)
        )

    async def create_run(self, thread_id: str, metadata: Metadata) -> Run:
        """Raises DependencyDown when the assistant, or the whole API, is not there."""
        tools = await self._all_tools() if self._tools else omit
        try:
            return await self._call(
                Run,
                lambda: self._client.beta.threads.runs.create(
                    thread_id,
                    assistant_id=self._assistant_id,
                    model=self._model or omit,
                    instructions=self._instructions or omit,
                    tools=tools,
                    max_completion_tokens=self._max_output_tokens or omit,
                    metadata=dict(metadata),
                ),
            )
        except NotFoundError as missing:
            if missing.what == "thread":
                raise
            failure = self._not_there(missing)
        raise failure

    async def cancel_run(self, thread_id: str, run_id: str) -> Run:
        return await self._call(
            Run, lambda: self._client.beta.threads.runs.cancel(run_id, thread_id=thread_id)
        )

    async def submit(self, thread_id: str, run_id: str, results: Iterable[ToolResult]) -> Run:
        return await self._call(
            Run,
            lambda: self._client.beta.threads.runs.submit_tool_outputs(
                run_id,
                thread_id=thread_id,
                tool_outputs=[{"tool_call_id": r.id, "output": r.output} for r in results],
            ),
        )

    async def upload_image(self, file: File) -> str:
        """The uploaded file's id."""
        upload = (file.name, file.data, file.content_type)
        made = await self._call(
            FileObject, lambda: self._client.files.create(file=upload, purpose="vision")
        )
        return made.id

    async def _all_tools(self) -> list[AssistantToolParam]:
        """A run's tools replace the assistant's: those that run at the vendor, such as file
        search, are named again. Functions of the assistant that nobody here can run are not."""
        hosted: list[Any] = list((await self.assistant()).tools or ())
        kept = [tool.to_dict() for tool in hosted if getattr(tool, "type", "") != "function"]
        return [*cast("list[AssistantToolParam]", kept), *map(_function, self._tools)]

    def _not_there(self, missing: NotFoundError) -> DependencyDown:
        if missing.what != "assistant":
            return gone()
        reason = f"there is no assistant {self._assistant_id}: check its id and the key's project"
        return DependencyDown(NAME, reason, code="assistant_not_found")

    async def _items(self, kind: type[T], make: Callable[[], Awaitable[object]]) -> Sequence[T]:
        page = await self._call(AsyncCursorPage, make)
        found: Iterable[object] = page.data or ()
        return [item for item in found if isinstance(item, kind)]

    async def _call(self, kind: type[T], make: Callable[[], Awaitable[object]]) -> T:
        answer: object = await once_more(self._sleep, self._once, make)
        # The SDK does not validate what comes.
        if not isinstance(answer, kind):
            raise _unreadable()
        return answer

    async def _once(self, make: Callable[[], Awaitable[object]]) -> object:
        failure: DependencyError | NotFoundError
        try:
            # The SDK warns at the call, before anything is awaited.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                call = make()
            return await call
        except (OpenAIError, ValueError) as error:
            failure = self._failure(error)
        except AttributeError:  # Where a list should be, the SDK stumbles over anything else.
            failure = _unreadable()
        # Outside of the handler, so that no vendor text is chained to what may be logged.
        raise failure

    def _failure(self, error: Exception) -> DependencyError | NotFoundError:
        if isinstance(error, APIStatusError):
            if error.status_code in (404, 405, 410) and error.code != "model_not_found":
                named = _NAMED.search(error.message)
                return NotFoundError((named[1] or named[2]).lower() if named else "")
            if error.status_code == 400 and _RUN_IS_ACTIVE.search(error.message):
                return Temporary(NAME, "another run is active in the thread", code="run_active")
        return translated(error, model=self._model or "of the assistant")


def gone() -> DependencyDown:
    """The API itself is not there."""
    return DependencyDown(
        NAME,
        'the Assistants API is gone from this server: set ai.backend = "responses" and give the '
        "assistant's instructions and model in ai.profiles / ai.assistants.map",
        code=GONE,
    )


def _unreadable() -> Temporary:
    return Temporary(NAME, "the answer is of another kind: check OPENAI_BASE_URL")


def _function(tool: ToolSpec) -> AssistantToolParam:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters),
        },
    }
