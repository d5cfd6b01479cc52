"""OpenAI's Assistants API v2 as it was until 2026-08-26, without streaming, steps and vector
stores: https://platform.openai.com/docs/api-reference/assistants."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web

from replyd.demo.loopback import Fault, drop
from replyd.demo.openai_double import assistants_wire as wire
from replyd.demo.openai_double.shared import DEFAULT_MODELS, Shared, json_body
from replyd.demo.openai_double.threads import (
    ACTIVE,
    RefusedError,
    Thread,
    end,
    find,
    half,
    new_message,
    page,
)
from replyd.demo.openai_double.wire import Body, bad_metadata, error, tokens
from replyd.ports import File

_NEW_THREAD_MESSAGES = 32

Handler = Callable[[web.Request], Awaitable[web.Response]]


class AssistantsApi:
    """Threads, whose runs go on each time that somebody looks at them.

    Public attributes may be changed while it runs. `gone`: every route answers 404, as since the
    shutdown. `assistants`: by id; empty means that every assistant exists. `polls`: how often a
    run is looked at until it ends, at least once. `stuck`: runs do not end at all. `threads`: by
    id. `log`: the name and the body of every request that was let in, in order.

    The endings of `Shared` are the runs'; `expired` and `cancelled` are statuses of its own.
    `reshape` has the last word on a message of the model."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.gone = False
        self.assistants: dict[str, Body] = {}
        self.polls = 1
        self.stuck = False
        self.threads: dict[str, Thread] = {}
        self.log: list[tuple[str, Body]] = []
        self._hindrances: dict[str, deque[Fault | None]] = {}
        self._files: dict[str, File] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        thread, run = "/v1/threads/{thread}", "/v1/threads/{thread}/runs/{run}"
        return [
            web.get("/v1/assistants/{assistant}", self._serve("retrieve_assistant")),
            web.post("/v1/threads", self._serve("create_thread")),
            web.get(thread, self._serve("retrieve_thread")),
            web.delete(thread, self._serve("delete_thread")),
            web.post(f"{thread}/messages", self._serve("create_message")),
            web.get(f"{thread}/messages", self._serve("list_messages")),
            web.delete(f"{thread}/messages/{{message}}", self._serve("delete_message")),
            web.post(f"{thread}/runs", self._serve("create_run")),
            web.get(f"{thread}/runs", self._serve("list_runs")),
            web.get(run, self._serve("retrieve_run")),
            web.post(f"{run}/cancel", self._serve("cancel_run")),
            web.post(f"{run}/submit_tool_outputs", self._serve("submit_tool_outputs")),
            web.post("/v1/files", self._serve("upload_file")),
            web.delete("/v1/files/{file}", self._serve("delete_file")),
        ]

    # --- what tests and the demo say ---

    def forget(self, thread_id: str = "") -> None:
        """Drop a thread, or all."""
        for known in [thread_id] if thread_id else list(self.threads):
            self.threads.pop(known, None)

    def lose_next(self, operation: str, n: int = 1) -> None:
        """The next `n` requests of this name, such as `create_message`, do their work, and their
        answers are lost."""
        self._hindrances.setdefault(operation, deque()).extend([Fault(accept=True)] * n)

    def fail_next(
        self,
        operation: str,
        n: int = 1,
        *,
        status: int,
        code: str = "",
        message: str = "The request is refused.",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` requests of this name are refused."""
        fault = Fault(status, code, message, headers=headers or {})
        self._hindrances.setdefault(operation, deque()).extend([fault] * n)

    def pass_next(self, operation: str, n: int = 1) -> None:
        """The next `n` requests of this name, after those that were told of before, are served."""
        self._hindrances.setdefault(operation, deque()).extend([None] * n)

    def expire(self, thread_id: str) -> None:
        """The active run takes too long."""
        if (run := self.threads[thread_id].active()) is not None:
            run.update(status="expired", required_action=None)

    # --- the API ---

    def _serve(self, operation: str) -> Handler:
        work: Callable[[web.Request, Body], Body] = getattr(self, f"_{operation}")

        async def serve(request: web.Request) -> web.Response:
            if (denied := self._shared.denied(request)) is not None:
                return denied
            body = await self._body(request, operation)
            if isinstance(body, web.Response):
                return body
            self.log.append((operation, body))
            if operation == "create_run":
                self._shared.requests.append(body)
            if (hindered := await self._shared.hindered(request)) is not None:
                return hindered
            waiting = self._hindrances.get(operation)
            fault = waiting.popleft() if waiting else None
            if fault is not None and fault.status:
                return error(fault.status, fault.message, code=fault.code, headers=fault.headers)
            try:
                done = work(request, body)
            except RefusedError as refused:
                return error(refused.status, str(refused), code=refused.code)
            return drop(request) if fault is not None else web.json_response(done)

        return serve

    async def _body(self, request: web.Request, operation: str) -> Body | web.Response:
        if operation == "upload_file":
            return await wire.read_upload(request)
        if operation == "delete_file":
            return {}
        if self.gone:
            return error(404, f"Invalid URL ({request.method} {request.path})")
        if request.headers.get("OpenAI-Beta") != "assistants=v2":
            message = "You must provide the 'OpenAI-Beta' header to access the Assistants API."
            return error(400, message, code="invalid_beta")
        if request.method != "POST" or not request.can_read_body:
            return {}
        body = await json_body(request)
        if isinstance(body, dict) and (refused := bad_metadata(body.get("metadata"))) is not None:
            return refused
        return body

    def _retrieve_assistant(self, request: web.Request, _: Body) -> Body:
        return self._assistant(request.match_info["assistant"])

    def _create_thread(self, _: web.Request, body: Body) -> Body:
        given = body.get("messages") or []
        if len(given) > _NEW_THREAD_MESSAGES:
            raise RefusedError(
                f"Invalid 'messages': array too long. Expected an array with maximum length "
                f"{_NEW_THREAD_MESSAGES}, but got an array with length {len(given)} instead.",
                code="array_above_max_length",
            )
        thread = Thread(wire.thread(body.get("metadata") or {}))
        for message in given:
            self._add(thread, message)
        self.threads[thread.body["id"]] = thread
        return thread.body

    def _retrieve_thread(self, request: web.Request, _: Body) -> Body:
        return self._thread(request).body

    def _delete_thread(self, request: web.Request, _: Body) -> Body:
        name = self._thread(request).body["id"]
        self.forget(name)
        return {"id": name, "object": "thread.deleted", "deleted": True}

    def _create_message(self, request: web.Request, body: Body) -> Body:
        thread = self._thread(request)
        if (run := thread.active()) is not None:
            raise RefusedError(
                f"Can't add messages to {thread.body['id']} while a run {run['id']} is active."
            )
        return self._add(thread, body)

    def _list_messages(self, request: web.Request, _: Body) -> Body:
        wanted = request.query.get("run_id")
        messages = self._thread(request).messages
        return page(request, [m for m in messages if wanted in (None, m["run_id"])])

    def _delete_message(self, request: web.Request, _: Body) -> Body:
        messages = self._thread(request).messages
        found = find(messages, "message", request.match_info["message"])
        messages.remove(found)
        return {"id": found["id"], "object": "thread.message.deleted", "deleted": True}

    def _create_run(self, request: web.Request, body: Body) -> Body:
        thread = self._thread(request)
        assistant = self._assistant(body.get("assistant_id") or "")
        if (active := thread.active()) is not None:
            raise RefusedError(
                f"Thread {thread.body['id']} already has an active run {active['id']}."
            )
        run = wire.run(thread.body["id"], body, assistant)
        if not self._shared.has_model(run["model"]):
            message = f"The requested model '{run['model']}' does not exist."
            raise RefusedError(message, code="model_not_found")
        thread.runs.append(run)
        return dict(run)

    def _list_runs(self, request: web.Request, _: Body) -> Body:
        runs = self._thread(request).runs
        seen = page(request, [dict(run) for run in runs])
        for run in runs:
            if run["status"] == "cancelling":
                run["status"] = "cancelled"
        return seen

    def _retrieve_run(self, request: web.Request, _: Body) -> Body:
        thread, run = self._run(request)
        if run["status"] == "cancelling":
            run["status"] = "cancelled"
        elif run["status"] in ("queued", "in_progress"):
            self._go_on(thread, run)
        return run

    def _cancel_run(self, request: web.Request, _: Body) -> Body:
        thread, run = self._run(request)
        if run["status"] not in ACTIVE:
            raise RefusedError(f"Cannot cancel run with status '{run['status']}'.")
        if run["status"] == "in_progress":
            said = half(self._shared.answer(thread.asked()))
            thread.messages.append(wire.answer(run, said, cut="run_cancelled"))
        run.update(status="cancelling", required_action=None, cancelled_at=int(time.time()))
        return dict(run)

    def _submit_tool_outputs(self, request: web.Request, body: Body) -> Body:
        thread, run = self._run(request)
        if run["status"] != "requires_action":
            status = run["status"]
            raise RefusedError(f'Runs in status "{status}" do not accept tool outputs.')
        expected = [c["id"] for c in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
        given = {each["tool_call_id"]: each["output"] for each in body["tool_outputs"]}
        if set(given) != set(expected):
            raise RefusedError(f"Expected tool outputs for call_ids {expected}, got {list(given)}")
        thread.outputs.setdefault(run["id"], []).extend(given[each] for each in expected)
        thread.looks[run["id"]] = 0
        run.update(status="queued", required_action=None)
        return dict(run)

    def _upload_file(self, _: web.Request, body: Body) -> Body:
        file, name = body["file"], wire.fresh("file")
        self._files[name] = file
        return {
            "id": name,
            "object": "file",
            "bytes": len(file.data),
            "created_at": int(time.time()),
            "filename": file.name,
            "purpose": body["purpose"],
            "status": "processed",
        }

    def _delete_file(self, request: web.Request, _: Body) -> Body:
        name = request.match_info["file"]
        if self._files.pop(name, None) is None:
            raise RefusedError(f"No such File object: {name}", 404)
        return {"id": name, "object": "file", "deleted": True}

    # --- what happens ---

    def _add(self, thread: Thread, given: Body) -> Body:
        message = new_message(thread, given)
        for part in message["content"]:
            if part["type"] == "image_file":
                file_id = part["image_file"]["file_id"]
                if file_id not in self._files:
                    raise RefusedError(f"No file found with id '{file_id}'.", 404)
                self._shared.see(self._files[file_id])
        thread.messages.append(message)
        return message

    def _go_on(self, thread: Thread, run: Body) -> None:
        looks = thread.looks[run["id"]] = thread.looks.get(run["id"], 0) + 1
        if looks < self.polls or self.stuck:
            run.update(status="in_progress", started_at=int(time.time()))
            return
        text, outputs = thread.asked(), thread.outputs.get(run["id"], [])
        ending = self._shared.next_ending()
        offered = [t["function"]["name"] for t in run["tools"] if t["type"] == "function"]
        calls = [] if ending else self._shared.calls(text, offered, outputs)
        if calls:
            run.update(status="requires_action", required_action=wire.calls(calls))
            return
        said = self._shared.answer(text, outputs)
        read = sum(tokens(wire.text_of(m)) for m in thread.messages) + tokens(run["instructions"])
        run["usage"] = wire.usage(read, tokens(said))
        message = end(run, ending, said)
        if message is not None:
            reshape = self._shared.reshape
            thread.messages.append(reshape(message) if reshape is not None else message)

    def _assistant(self, name: str) -> Body:
        if self.assistants and name not in self.assistants:
            raise RefusedError(f"No assistant found with id '{name}'.", 404)
        return wire.assistant(name, DEFAULT_MODELS[0]) | self.assistants.get(name, {})

    def _thread(self, request: web.Request) -> Thread:
        name = request.match_info["thread"]
        if name not in self.threads:
            raise RefusedError(f"No thread found with id '{name}'.", 404)
        return self.threads[name]

    def _run(self, request: web.Request) -> tuple[Thread, Body]:
        thread = self._thread(request)
        return thread, find(thread.runs, "run", request.match_info["run"])
