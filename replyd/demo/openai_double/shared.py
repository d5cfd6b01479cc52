"""What the APIs of the double have in common: keys, models, faults, and what it answers."""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from replyd.demo import bakery
from replyd.demo.loopback import Fault, LoopbackServer, drop
from replyd.demo.openai_double.wire import Body, error, rate_limits
from replyd.ports import File

DEFAULT_MODELS = ("gpt-6-luna", "gpt-6-sol")

ToolRule = Callable[[str, Collection[str]], Sequence[tuple[str, Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ends other than usual. `status`: `failed` with the error code `reason`,
    `incomplete` for `reason` (`max_output_tokens` or `content_filter`) with half the text,
    `refused` with `reason` as the refusal's text, or another status of the API's own."""

    status: str
    reason: str


class Shared(LoopbackServer):
    """The state of the whole double. Every API is a class `XxxApi(shared: Shared)` in a module of
    its own, with `routes() -> Iterable[web.RouteDef]`; what concerns that API only is kept there,
    what all of them should honour is asked for here:

    - `accept(request)` first, for a POST that asks the model for something: the JSON body, or the
      answer to give instead (wrong key, no JSON, a fault). It records the body and waits `delay`.
    - for other requests `denied(request)`, and `hindered(request)` where faults are wanted.
    - `has_model(name)`, `see(file)` for each file of a request, `calls(…)` and `answer(…)` for
      what the model does, `next_ending()` for how the answer ends, and `send(body)` last.

    Public attributes may be changed while it runs. `api_key`: empty admits any key, but not none.
    `models`: empty means that every model exists. `replies`: from the text of the last user
    message to the answer. `tool_replies`: from that text and the tools' outputs to the answer.
    `tool_rule`: from that text and the names of the tools offered to the calls that the model
    makes at once, each a name and arguments. `asides`: from that text to what the model writes
    beside its calls. `delay`: seconds before each answer. `reshape`: the
    last word on an answer's JSON. `requests`: the body of every authenticated POST that asks the
    model for something, in order. `files_seen`: the files of all these, in order."""

    def __init__(
        self,
        *,
        api_key: str = "",
        models: Collection[str] = (),
        replies: Callable[[str], str] = bakery.reply,
        delay: float = 0.0,
    ) -> None:
        super().__init__()
        self.api_key = api_key
        self.models = models
        self.replies = replies
        self.tool_replies: Callable[[str, Sequence[str]], str] = lambda _, told: "\n".join(told)
        self.tool_rule: ToolRule = lambda *_: ()
        self.asides: Callable[[str], str] = lambda _: ""
        self.delay = delay
        self.reshape: Callable[[Body], Body] | None = None
        self.requests: list[Body] = []
        self.files_seen: list[File] = []
        self._calls: deque[tuple[str, str]] = deque()
        self._endings: deque[Ending] = deque()

    # --- what tests and the demo say ---

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 500,
        code: str = "",
        message: str = "The server had an error while processing your request.",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` requests are refused with an HTTP error."""
        self._faults.extend([Fault(status, code, message, headers=headers or {})] * n)

    def drop_next(self, n: int = 1) -> None:
        """The next `n` requests lose their connection without an answer."""
        self._faults.extend([Fault()] * n)

    def finish_next(self, n: int = 1, *, status: str, reason: str) -> None:
        """The next `n` answers come with HTTP 200 and another end: see Ending."""
        self._endings.extend([Ending(status, reason)] * n)

    def refuse_next(self, n: int = 1, *, refusal: str = "I can't help with that.") -> None:
        """The next `n` answers hold a refusal instead of text."""
        self._endings.extend([Ending("refused", refusal)] * n)

    def call_next(self, name: str, arguments: Mapping[str, Any] | str, n: int = 1) -> None:
        """The next `n` answers to requests that offer tools call this one, offered or not.
        `arguments`: text is sent as it is, broken or not."""
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        self._calls.extend([(name, text)] * n)

    # --- what the APIs ask ---

    def denied(self, request: web.Request) -> web.Response | None:
        """401 for a wrong key."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key and key == (self.api_key or key):
            return None
        return error(401, "Incorrect API key provided.", code="invalid_api_key")

    async def hindered(self, request: web.Request) -> web.Response | None:
        """After `delay`, what the next fault does instead of an answer."""
        if self.delay:
            await asyncio.sleep(self.delay)
        fault = self._next_fault()
        if fault is None:
            return None
        if fault.status == 0:
            return drop(request)
        return error(fault.status, fault.message, code=fault.code, headers=fault.headers)

    async def accept(self, request: web.Request) -> Body | web.Response:
        """The body of an authenticated request, or the answer to give instead."""
        body = await self.record(request)
        if isinstance(body, web.Response):
            return body
        return await self.hindered(request) or body

    async def record(self, request: web.Request) -> Body | web.Response:
        """The first half of `accept`; `hindered` is the second."""
        body = self.denied(request) or await json_body(request)
        if not isinstance(body, web.Response):
            self.requests.append(body)
        return body

    def has_model(self, name: str) -> bool:
        return not self.models or name in self.models

    def see(self, file: File) -> None:
        self.files_seen.append(file)

    def calls(
        self, text: str, offered: Collection[str], outputs: Sequence[str] = ()
    ) -> list[tuple[str, str]]:
        """The calls that the model makes at once, each a name and JSON text. `outputs`: those of
        its earlier calls for the same user message, after which no rule applies any more."""
        if not offered:
            return []
        if self._calls:
            return [self._calls.popleft()]
        if outputs:
            return []
        return [(name, json.dumps(given)) for name, given in self.tool_rule(text, offered)]

    def answer(self, text: str, outputs: Sequence[str] = ()) -> str:
        """The model's answer to the last user message and the tools' outputs since."""
        return self.tool_replies(text, outputs) if outputs else self.replies(text)

    def next_ending(self) -> Ending | None:
        return self._endings.popleft() if self._endings else None

    def send(self, body: Body) -> web.Response:
        """HTTP 200, with the headers that every answer of the model has."""
        if self.reshape is not None:
            body = self.reshape(body)
        headers = {"x-request-id": f"req_{uuid.uuid4().hex}", **rate_limits()}
        return web.json_response(body, headers=headers)


async def json_body(request: web.Request) -> Body | web.Response:
    """The JSON object of a request, or the answer to something else."""
    try:
        body = json.loads(await request.text())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return error(400, "We could not parse the JSON body of your request.")
    return body
