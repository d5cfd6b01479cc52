"""The reply model on the Assistants API v2, https://platform.openai.com/docs/assistants/deep-dive,
for servers that still speak it.

A thread at the vendor is changed by every attempt at a turn. So messages and runs carry the turn
that they belong to, and an attempt first looks at what earlier ones have left: a message is not
added twice, an answer that the customer has not seen does not stay, and no run is left active,
because a thread takes no message while one is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from openai import AsyncOpenAI
from openai.types.beta.threads import Message, Run

from replyd.adapters.openai.assistants_api import GONE, AssistantsApi, NotFoundError
from replyd.adapters.openai.assistants_turn import Mark, is_turn, line_message, turn_message
from replyd.adapters.openai.failures import NAME
from replyd.adapters.openai.runs import ACTIVE, WORKING, calls_of, reply_of
from replyd.domain.tools import ToolSpec
from replyd.errors import DependencyDown, DependencyError, Permanent, Temporary
from replyd.ports import ModelReply, ModelRequest

__all__ = ["GONE", "OpenAIAssistants"]

FIRST_PAUSE_SECONDS, PAUSE_GROWTH, LONGEST_PAUSE_SECONDS = 0.25, 1.5, 3.0
FAILED_POLLS = 3  # in a row, before a turn is given up: reading is safe to repeat
WITHDRAW_SECONDS = 3.0
MESSAGES_LOOKED_AT = 20
NEW_THREAD_MESSAGES = 32  # OpenAI refused more in one request
METADATA_VALUE_LIMIT = 512  # characters, from the API reference

T = TypeVar("T")


class OpenAIAssistants:
    """One assistant, whose instructions, model and tools may be overridden."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        assistant_id: str,
        model: str = "",
        instructions: str = "",
        tools: Sequence[ToolSpec] = (),
        timeout_seconds: float = 60.0,
        max_output_tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`model`, `instructions`: empty leaves them to the assistant. `tools`: beside those of
        the assistant that run at the vendor, and instead of its own functions.

        `timeout_seconds` is for a whole `respond`, after which withdrawing the run may take 3 s
        more. `max_output_tokens`: for a whole run; None or 0 leaves it to the model."""
        self._client = client
        self._assistant_id = assistant_id
        self._model = model
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._api = AssistantsApi(
            client,
            assistant_id=assistant_id,
            model=model,
            instructions=instructions,
            tools=tools,
            max_output_tokens=max_output_tokens,
            sleep=sleep,
        )

    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer to the turn, or the calls that it waits for.

        Raises Busy when throttled; Temporary for a timeout, a lost connection, a server error and
        a run that ended without an answer; DependencyDown when unreachable, when key, budget or
        assistant need a change, and with the code GONE when the server has no Assistants API any
        more; Permanent for a request that will never be taken."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer(request)
        except TimeoutError:
            failure = Temporary(NAME, f"no answer within {self._timeout:g} s", code="timeout")
        except NotFoundError as missing:
            what = missing.what or "thread"
            failure = Temporary(NAME, f"the {what} is gone", code=f"{what}_gone")
        raise failure

    async def check(self) -> None:
        """Look the assistant up, spending no tokens. Raises DependencyDown with what to change."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._api.assistant()
            return
        except TimeoutError:
            failure: DependencyError = Temporary(NAME, "no answer in time", code="timeout")
        except DependencyError as error:
            failure = error
        raise DependencyDown(NAME, failure.reason, code=failure.code)

    async def close(self) -> None:
        """Close the client's connections, once the runs given up are withdrawn."""
        await asyncio.gather(*self._withdrawals)
        await self._client.close()

    async def _answer(self, request: ModelRequest) -> ModelReply:
        if request.state is not None:
            thread_id, run_id = request.state
            return await self._guarded(thread_id, self._resume(thread_id, run_id, request))
        if (thread_id := request.thread_id).startswith("thread_"):
            try:
                return await self._guarded(thread_id, self._continue(thread_id, request))
            except NotFoundError as missing:
                if missing.what == "run":
                    raise
        thread_id = await self._start(request)
        return await self._guarded(thread_id, self._ask(thread_id, Mark.of(request)))

    async def _start(self, request: ModelRequest) -> str:
        """A new thread with the whole conversation and the turn in it."""
        messages = [line_message(line) for line in request.history if line.text.strip()]
        messages.append(await turn_message(self._api, request))
        first, rest = messages[:NEW_THREAD_MESSAGES], messages[NEW_THREAD_MESSAGES:]
        conversation_id = request.conversation_id[:METADATA_VALUE_LIMIT]
        thread_id = await self._api.create_thread(first, conversation_id)
        for message in rest:
            await self._api.add_message(thread_id, message)
        return thread_id

    async def _continue(self, thread_id: str, request: ModelRequest) -> ModelReply:
        mark = Mark.of(request)
        limit = MESSAGES_LOOKED_AT + len(request.unseen)
        runs = await self._api.runs(thread_id)
        messages = await self._api.messages(thread_id, limit)
        known = next((m for m in messages if mark.is_exactly_on(m) and is_turn(m)), None)

        kept = runs[0] if runs and known and self._is_ours(runs[0], mark, messages) else None
        left = [run for run in runs if run.status in ACTIVE and run is not kept]
        for run in left:
            await self._stop(thread_id, run)
        if left:
            messages = await self._api.messages(thread_id, limit)
        if kept:
            reply = await self._outcome(thread_id, kept)
            if reply.finish == "complete" or kept.status in ACTIVE:
                return reply

        unsent = {run.id for run in runs if mark.is_on(run)} | {run.id for run in left}
        for message in messages:
            of_burst = mark.is_on(message) and is_turn(message)
            grown = of_burst and not mark.is_exactly_on(message)
            if grown or message.run_id in unsent:
                await self._api.delete_message(thread_id, message.id)
        if known is None:
            there = {(m.metadata or {}).get("line") for m in messages if mark.is_on(m)}
            for number, line in enumerate(request.unseen):
                if line.text.strip() and str(number) not in there:
                    added = line_message(line, mark.metadata(line=str(number)))
                    await self._api.add_message(thread_id, added)
            await self._api.add_message(thread_id, await turn_message(self._api, request))
        return await self._ask(thread_id, mark)

    def _is_ours(self, run: Run, mark: Mark, messages: Sequence[Message]) -> bool:
        """Whether an earlier attempt's run, the newest of the thread, answers exactly this turn."""
        if not mark.is_exactly_on(run) or run.assistant_id != self._assistant_id:
            return False
        answered = run.status == "completed" and messages[0].run_id == run.id
        return answered or run.status in ("queued", "in_progress")

    async def _resume(self, thread_id: str, run_id: str, request: ModelRequest) -> ModelReply:
        refused = None
        try:
            run = await self._api.submit(thread_id, run_id, request.results)
        except Permanent as error:
            refused = error
        if refused is not None:
            # An expired run takes no results, and one that has them takes them once.
            run = await self._api.run(thread_id, run_id)
            if run.status == "requires_action":
                raise refused
        return await self._outcome(thread_id, run)

    async def _ask(self, thread_id: str, mark: Mark) -> ModelReply:
        return await self._outcome(
            thread_id, await self._api.create_run(thread_id, mark.metadata())
        )

    async def _outcome(self, thread_id: str, run: Run) -> ModelReply:
        run = await self._wait(thread_id, run, WORKING)
        if run.status == "requires_action":
            return calls_of(run, thread_id, self._model)
        answers = await self._api.answers(thread_id, run.id)
        return reply_of(run, answers, thread_id, self._model)

    async def _stop(self, thread_id: str, run: Run) -> None:
        if run.status != "cancelling":
            with suppress(Permanent):  # It has just ended.
                await self._api.cancel_run(thread_id, run.id)
        await self._wait(thread_id, await self._api.run(thread_id, run.id), ACTIVE)

    async def _wait(self, thread_id: str, run: Run, while_in: Iterable[str]) -> Run:
        pause, failed = FIRST_PAUSE_SECONDS, 0
        while run.status in while_in:
            await self._sleep(pause)
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
            try:
                run = await self._api.run(thread_id, run.id)
                failed = 0
            except Temporary as error:
                failed += 1
                if isinstance(error, DependencyDown) or failed >= FAILED_POLLS:
                    raise
                pause = max(pause, error.delay or 0.0)
        return run

    async def _guarded(self, thread_id: str, work: Coroutine[Any, Any, T]) -> T:
        """`work` in a thread; if it is given up, no run stays active there."""
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.create_task(self._withdraw(thread_id))
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)
            with suppress(asyncio.CancelledError):
                await asyncio.shield(task)
            raise

    async def _withdraw(self, thread_id: str) -> None:
        # The run may have been created without our having heard of it.
        with suppress(DependencyError, NotFoundError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_SECONDS):
                for run in await self._api.runs(thread_id):
                    if run.status in ACTIVE and run.status != "cancelling":
                        await self._api.cancel_run(thread_id, run.id)
