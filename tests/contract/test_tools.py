"""What every toolbox does. Real clocks and sockets here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from replyd.adapters.memory.tools import MemoryToolbox
from replyd.adapters.tools.box import Tools
from replyd.adapters.tools.http import Endpoint, HttpTool
from replyd.adapters.tools.python import PythonTool
from replyd.domain.tools import ToolSpec
from replyd.errors import Ambiguous, Busy, DependencyError, Permanent, Temporary
from replyd.ports import Toolbox, ToolContext

PARAMETERS = {
    "type": "object",
    "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["sku"],
    "additionalProperties": False,
}
LOOK = ToolSpec("look", "Look.", PARAMETERS, timeout_seconds=5)
ORDER = ToolSpec("order", "Order.", PARAMETERS, effects=True, timeout_seconds=5)
QUICK_LOOK = ToolSpec("quick_look", "Look.", PARAMETERS, timeout_seconds=0.05)
QUICK_ORDER = ToolSpec("quick_order", "Order.", PARAMETERS, effects=True, timeout_seconds=0.05)
STATUS = ToolSpec("status", "No arguments.", {"type": "object"})
SPECS = (LOOK, ORDER, QUICK_LOOK, QUICK_ORDER, STATUS)

CALL = ToolContext("c-1", "whatsapp:+447700900001", "whatsapp:+447700900100", "turn-1")
SKU = "a word that no error may quote"

Answer = Callable[[Mapping[str, Any], ToolContext], str]


@dataclass
class Team:
    """What the team's own code does. `failures` come first, in order."""

    answer: Answer = lambda *_: "in stock ☺"
    failures: list[type[DependencyError]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


team = Team()


async def function(call: ToolContext, **arguments: Any) -> str:
    await team.gate.wait()
    if team.failures:
        raise team.failures.pop(0)("tools", "the team's own words")
    return team.answer(arguments, call)


async def endpoint(request: web.Request) -> web.Response:
    await team.gate.wait()
    if team.failures:
        kind = team.failures.pop(0)
        if kind is Permanent:
            raise web.HTTPFound("/elsewhere")
        return web.Response(status=429 if kind is Busy else 500)
    sent = await request.json()
    call = ToolContext(*(sent[n] for n in ("conversation_id", "customer", "business", "turn")))
    return web.Response(text=team.answer(sent["arguments"], call))


@dataclass
class Memory:
    port: MemoryToolbox

    def answer(self, answer: Answer) -> None:
        self.port.functions = {spec.name: answer for spec in SPECS}

    def refuse(self, kind: type[DependencyError]) -> None:
        self.port.failures.append(kind("tools", "refused"))

    def hang(self) -> None:
        self.port.seconds = 10

    def go_on(self) -> None:
        self.port.seconds = 0


@dataclass
class Real:
    port: Tools

    def answer(self, answer: Answer) -> None:
        team.answer = answer

    def refuse(self, kind: type[DependencyError]) -> None:
        team.failures.append(kind)

    def hang(self) -> None:
        team.gate.clear()

    def go_on(self) -> None:
        team.gate.set()


@asynccontextmanager
async def over_http() -> AsyncIterator[Tools]:
    app = web.Application()
    app.router.add_post("/", endpoint)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        at = Endpoint(str(server.make_url("/")))
        yield Tools([HttpTool(spec, at, session) for spec in SPECS])
        team.gate.set()


@pytest.fixture(params=["memory", "python", "http"])
async def owner(request: pytest.FixtureRequest) -> AsyncIterator[Memory | Real]:
    team.__init__()  # type: ignore[misc]
    team.gate.set()
    if request.param == "memory":
        yield Memory(MemoryToolbox(SPECS))
    elif request.param == "python":
        yield Real(Tools([PythonTool(spec, f"{__name__}:function") for spec in SPECS]))
    else:
        async with over_http() as tools:
            yield Real(tools)


Owner = Memory | Real


@pytest.fixture
def toolbox(owner: Owner) -> Toolbox:
    return owner.port


async def failure(toolbox: Toolbox, name: str) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        await toolbox.run(name, {"sku": SKU}, CALL)
    assert caught.value.dependency == "tools"
    for hidden in (SKU, CALL.customer, CALL.business):
        assert hidden not in str(caught.value)
    return caught.value


async def test_a_tool_gets_its_arguments_and_for_whom_it_runs(
    owner: Owner, toolbox: Toolbox
) -> None:
    seen: list[tuple[Mapping[str, Any], ToolContext]] = []

    def answer(arguments: Mapping[str, Any], call: ToolContext) -> str:
        seen.append((arguments, call))
        return "three of them ☺\n漢字"

    owner.answer(answer)
    arguments = toolbox.check("order", '{"sku": "bread ☺", "count": 3}')
    assert await toolbox.run("order", arguments, CALL) == "three of them ☺\n漢字"
    assert seen == [({"sku": "bread ☺", "count": 3}, CALL)]


async def test_many_calls_at_once_keep_their_results(owner: Owner, toolbox: Toolbox) -> None:
    owner.answer(lambda arguments, call: f"{arguments['sku']} for {call.turn}")
    calls = [
        toolbox.run("look", {"sku": f"s{n}"}, ToolContext("c", "a", "b", f"t{n}"))
        for n in range(12)
    ]
    assert await asyncio.gather(*calls) == [f"s{n} for t{n}" for n in range(12)]


@pytest.mark.parametrize("text", ["", " \n", "{}", " { } "])
def test_no_arguments_are_an_empty_object(toolbox: Toolbox, text: str) -> None:
    assert toolbox.check("status", text) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "sku"),
        ("{}", "sku"),
        ('{"sku": 5}', "sku"),
        ('{"sku": "bread", "count": 0}', "count"),
        ('{"sku": "bread", "color": "red"}', "additionalProperties"),
        ('{"sku": "bre', "JSON object"),
        ('["bread"]', "JSON object"),
        ("null", "JSON object"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_wrong(
    owner: Owner, toolbox: Toolbox, text: str, named: str
) -> None:
    with pytest.raises(ValueError, match="arguments of look") as caught:
        toolbox.check("look", text)
    if named == "additionalProperties" and isinstance(owner, Real):
        named = "color"
    assert named in str(caught.value)


def test_an_unknown_tool_is_refused_with_the_names_of_those_there_are(toolbox: Toolbox) -> None:
    with pytest.raises(ValueError, match="there is no tool 'nonsense") as caught:
        toolbox.check("nonsense" * 1_000, "{}")
    assert all(spec.name in str(caught.value) for spec in SPECS)
    assert len(str(caught.value)) < 300


async def test_an_unknown_tool_does_not_run(toolbox: Toolbox) -> None:
    assert type(await failure(toolbox, "nonsense")) is Permanent


@pytest.mark.parametrize("kind", [Temporary, Busy, Permanent])
async def test_a_failure_has_its_kind_and_hinders_nothing(
    owner: Owner, toolbox: Toolbox, kind: type[DependencyError]
) -> None:
    owner.refuse(kind)
    assert type(await failure(toolbox, "look")) is kind
    assert await toolbox.run("look", {"sku": "bread"}, CALL)


async def test_what_may_have_happened_is_ambiguous(owner: Owner, toolbox: Toolbox) -> None:
    owner.refuse(Ambiguous)
    assert type(await failure(toolbox, "order")) is Ambiguous
    assert await toolbox.run("order", {"sku": "bread"}, CALL)


@pytest.mark.parametrize(("name", "kind"), [("quick_look", Temporary), ("quick_order", Ambiguous)])
async def test_a_tool_ends_within_its_time_limit(
    owner: Owner, toolbox: Toolbox, name: str, kind: type[DependencyError]
) -> None:
    owner.hang()
    async with asyncio.timeout(4.5):  # less than the other tools' limit
        error = await failure(toolbox, name)
    assert (type(error), error.code) == (kind, "timeout")
    owner.go_on()
    assert await toolbox.run("look", {"sku": "bread"}, CALL)


async def test_a_call_may_be_given_up(owner: Owner, toolbox: Toolbox) -> None:
    owner.hang()
    call = asyncio.create_task(toolbox.run("look", {"sku": "bread"}, CALL))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    owner.go_on()
    assert await toolbox.run("look", {"sku": "bread"}, CALL)
