"""The team's tools: arguments, Python functions, and endpoints behind a server on loopback."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer, unused_port

from replyd.adapters.tools.box import CUT, MAX_RESULT, Tool, Tools
from replyd.adapters.tools.http import Endpoint, HttpTool
from replyd.adapters.tools.python import MAX_THREADS, PythonTool
from replyd.adapters.tools.schema import MAX_ARGUMENT_BYTES, MAX_DEPTH, check_schema, read_arguments
from replyd.domain.tools import HAND_OVER, ToolSpec
from replyd.errors import Ambiguous, Busy, ConfigError, DependencyError, Permanent, Temporary
from replyd.ports import ToolContext

CALL = ToolContext("c-1", "whatsapp:+447700900001", "whatsapp:+447700900100", "turn-1")
ANYTHING = ToolSpec("any", "Takes anything.", {"type": "object"}, timeout_seconds=5)
EFFECTS = replace(ANYTHING, effects=True)
HIDDEN = "a word that no error may quote"


async def failure(run: Awaitable[object]) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        await run
    error = caught.value
    assert error.dependency == "tools"
    assert HIDDEN not in str(error)
    assert error.__context__ is None
    return error


# --- schemas -------------------------------------------------------------------------------------


def accepting(properties: dict[str, Any], **rest: Any) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, **rest}
    check_schema(parameters)
    return ToolSpec("order", "Order.", parameters)


def refused(text: str, spec: ToolSpec) -> str:
    with pytest.raises(ValueError, match="the arguments of order cannot be used: ") as caught:
        read_arguments(text, spec)
    return str(caught.value).removeprefix("the arguments of order cannot be used: ")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({}, '"type": "object"'),
        ({"type": "array"}, '"type": "object"'),
        ({"type": ["object", "null"]}, '"type": "object"'),
        ({"type": "objekt"}, "not valid at type: 'objekt'"),
        ({"type": "object", "properties": {"a": {"type": "str"}}}, "at properties.a.type"),
        ({"type": "object", "required": "sku"}, "at required"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "at properties.a.pattern"),
        ({"type": "object", "patternProperties": {"(": {}}}, "not valid"),
        ({"type": "object", "default": {1, 2}}, "written as JSON"),
        ({"type": "object", "maximum": float("nan")}, "written as JSON"),
        ({"type": "object", "$schema": "https://example.com/mine"}, "$schema must be one of"),
        ({"type": "object", "$schema": 5}, "$schema must be one of"),
        ({"type": "object", "$ref": "#"}, "refers to itself"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="schema") as caught:
        check_schema(schema)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#anchor"},
        {"$ref": "#/required/x"},
        {"$ref": "#/required/0"},
        {"$ref": "http://["},
        {"$dynamicRef": "#missing"},
        {"$id": "https://example.com/a.json", "$ref": "b.json"},
        {"allOf": [{"not": {"$ref": "other.json"}}]},
        {"$ref": "#/elsewhere/hidden"},
    ],
)
def test_a_reference_that_leads_out_of_the_schema_is_refused(schema: dict[str, Any]) -> None:
    whole = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": schema},
        "elsewhere": {"hidden": {"items": {"$ref": "other.json"}}},
    }
    with pytest.raises(ValueError, match="does not lead to a schema within it"):
        check_schema(whole)


def test_what_a_reference_leads_to_is_checked_too() -> None:
    schema = {"type": "object", "not": {"$ref": "#/elsewhere"}, "elsewhere": {"type": 5}}
    with pytest.raises(ValueError, match="not valid at type"):
        check_schema(schema)


def test_references_within_the_schema_are_followed() -> None:
    spec = accepting(
        {"tree": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}, "eg": {"$ref": "#flag"}},
        **{
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}},
                },
                "flag": {"$anchor": "flag", "type": "boolean"},
            },
            "examples": [{"$ref": "https://example.com/is-no-reference"}],
        },
    )
    assert read_arguments('{"tree": {"next": {"n": 1}}, "eg": true}', spec)
    problem = refused('{"tree": {"next": {"n": "x"}}}', spec)
    assert problem == "tree.next.n must be of type integer"
    assert refused('{"eg": 1}', spec) == "eg must be of type boolean"


def test_references_are_read_from_where_they_are() -> None:
    node = {"$id": "https://example.com/a/", "properties": {"n": {"$ref": "b"}}}
    spec = accepting({"a": {**node, "$defs": {"b": {"$id": "b", "type": "integer"}}}})
    assert refused('{"a": {"n": "x"}}', spec) == "a.n must be of type integer"


@pytest.mark.filterwarnings("ignore:Automatically retrieving:DeprecationWarning")
def test_nothing_is_fetched_even_for_a_schema_that_was_not_checked(tmp_path: Path) -> None:
    there = tmp_path / "schema.json"
    there.write_text('{"type": "string"}')
    schema = {"type": "object", "properties": {"a": {"$ref": there.as_uri()}}}
    assert "cannot be compared" in refused('{"a": 5}', ToolSpec("order", "", schema))


def test_the_built_in_tool_has_a_good_schema() -> None:
    check_schema(HAND_OVER.parameters)


def test_the_dialect_is_the_declared_one() -> None:
    """`items` as a list is a tuple in draft 7 and not valid in 2020-12."""
    schema = {"type": "object", "properties": {"a": {"items": [{"type": "string"}]}}}
    with pytest.raises(ValueError, match=r"not valid at properties\.a\.items"):
        check_schema(schema)
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    check_schema(schema)
    assert refused('{"a": [5]}', ToolSpec("order", "", schema)) == "a[0] must be of type string"


# --- arguments -----------------------------------------------------------------------------------

ORDER = accepting(
    {
        "sku": {"type": "string", "maxLength": 10},
        "size": {"enum": ["small", "large"]},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"count": {"type": ["integer", "null"]}},
                "required": ["count", "unit"],
                "additionalProperties": False,
            },
        },
        "never": False,
    },
    required=["sku"],
)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "the object of all arguments lacks the required sku"),
        ({"sku": HIDDEN * 100}, 'sku does not satisfy {"maxLength": 10}'),
        ({"sku": "x", "size": HIDDEN}, 'size does not satisfy {"enum": ["small", "large"]}'),
        ({"sku": "x", "lines": {}}, "lines must be of type array"),
        (
            {"sku": "x", "never": 1},
            "the object of all arguments has something that must not be given",
        ),
        ({"sku": "x", "lines": [{}]}, "lines[0] lacks the required count, unit"),
        (
            {"sku": "x", "lines": [{"count": HIDDEN, "unit": 1}]},
            (
                "lines[0] may only have count, and not unit; "
                "lines[0].count must be of type integer or null"
            ),
        ),
    ],
)
def test_a_refusal_names_the_argument_and_the_rule_but_no_value(
    arguments: dict[str, Any], problem: str
) -> None:
    assert refused(json.dumps(arguments), ORDER) == problem


def test_names_that_fit_a_pattern_are_not_called_unknown() -> None:
    spec = accepting({"a": {}}, patternProperties={"^x_": {}}, additionalProperties=False)
    problem = "the object of all arguments may only have a, ^x_, and not b"
    assert refused('{"a": 1, "x_1": 1, "b": 1}', spec) == problem


def test_a_refusal_is_short_whatever_the_model_wrote() -> None:
    many = {"sku": 1, "lines": [{"count": "x", "n" * 5_000: n} for n in range(10)]}
    problem = refused(json.dumps(many), ORDER)
    assert problem.count(";") == 2
    assert len(problem) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{'sku': 'x'}",
        '"x"',
        "[]",
        '{"sku": NaN}',
        '{"sku": 1e999}',
        '{"sku": ' + "9" * 5_000 + "}",
        '{"sku": "\\ud83d"}',
        '{"\\ud83d": 1}',
        '{"sku": ' + "[" * 20_000 + "]" * 20_000 + "}",
    ],
    ids=range(10),
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert refused(text, ORDER) == "they are not a JSON object"


def test_arguments_are_bounded_in_bytes() -> None:
    spec = accepting({})
    padding = MAX_ARGUMENT_BYTES - len('{"a":""}')
    assert read_arguments('{"a":"' + "x" * padding + '"}', spec)
    assert refused('{"a":"' + "x" * (padding + 1) + '"}', spec) == "they are longer than 64 KiB"
    assert "longer" in refused('{"a":"' + "漢" * (padding // 2) + '"}', spec)


def test_arguments_are_bounded_in_depth() -> None:
    spec = accepting({})
    arrays = MAX_DEPTH - 1
    assert read_arguments('{"a":' + "[" * arrays + "]" * arrays + "}", spec)
    assert "32 levels" in refused('{"a":' + "[" * (arrays + 1) + "]" * (arrays + 1) + "}", spec)


def test_numbers_that_cannot_be_compared_are_refused() -> None:
    spec = accepting({"n": {"multipleOf": 0.01}})
    assert "cannot be compared" in refused('{"n": 1' + "0" * 400 + "}", spec)


def test_a_schema_that_refers_to_itself_further_down_ends_too() -> None:
    spec = accepting({"a": {"$ref": "#/properties/a"}})
    assert "cannot be compared" in refused('{"a": 1}', spec)


# --- the box -------------------------------------------------------------------------------------


class Saying:
    """A tool that says what it is given, or raises it."""

    def __init__(self, result: str | Exception, spec: ToolSpec = ANYTHING) -> None:
        self.spec = spec
        self._result = result

    async def run(self, *_: object) -> str:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def box(tool: Tool) -> Tools:
    return Tools([tool])


async def test_the_model_reads_the_beginning_of_a_long_result() -> None:
    fits = "x" * MAX_RESULT
    assert await box(Saying(fits)).run("any", {}, CALL) == fits
    assert await box(Saying(fits + "x")).run("any", {}, CALL) == fits + CUT


async def test_half_a_surrogate_pair_does_not_get_through() -> None:
    assert await box(Saying("a\ud83db ☺")).run("any", {}, CALL) == "a?b ☺"


@pytest.mark.parametrize(("spec", "kind"), [(ANYTHING, Temporary), (EFFECTS, Ambiguous)])
async def test_a_tool_that_gave_up_waiting_is_one_that_did_not_answer(
    spec: ToolSpec, kind: type[DependencyError]
) -> None:
    error = await failure(box(Saying(TimeoutError(HIDDEN), spec)).run("any", {}, CALL))
    assert (type(error), error.code) == (kind, "timeout")


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools named any"):
        Tools([Saying("a"), Saying("b")])


def test_a_box_without_tools_knows_none() -> None:
    with pytest.raises(ValueError, match="the tools are: none"):
        Tools([]).check("any", "{}")


# --- Python functions ----------------------------------------------------------------------------


async def add(a: int, b: int = 1) -> int:
    return a + b


def thread(**_: Any) -> str:
    return threading.current_thread().name


def hidden_async(**arguments: Any) -> Awaitable[int]:
    return add(**arguments)


def context(call: ToolContext) -> dict[str, str]:
    return {"turn": call.turn}


def named_call(call: str) -> str:
    return call


def positional(a: int, /) -> int:
    return a


def raising(error: str) -> None:
    raise ERRORS[error]


async def raising_async(error: str) -> None:
    raise ERRORS[error]


def returning(what: str) -> object:
    return RESULTS[what]


async def stubborn() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise Permanent("tools", "the team's own words") from None


released = threading.Event()


def blocking() -> None:
    released.wait()


not_a_function = 5
ERRORS: dict[str, Exception] = {
    "Temporary": Temporary("tools", "the team's own words"),
    "Busy": Busy("tools", "the team's own words"),
    "Permanent": Permanent("tools", "the team's own words"),
    "Ambiguous": Ambiguous("tools", "the team's own words"),
    "KeyError": KeyError(HIDDEN),
    "StopIteration": StopIteration(HIDDEN),
    "ConfigError": ConfigError([HIDDEN]),
    "OSError": OSError(HIDDEN),
}
RESULTS: dict[str, object] = {
    "text": "☺",
    "dict": {"a": [1, None, "☺"]},
    "none": None,
    "set": {HIDDEN},
    "nan": float("nan"),
    "bytes": HIDDEN.encode(),
}


def python_box(name: str, spec: ToolSpec = ANYTHING) -> Tools:
    return box(PythonTool(spec, f"{__name__}:{name}"))


async def test_an_async_function_is_called_by_name() -> None:
    assert await python_box("add").run("any", {"b": 2, "a": 3}, CALL) == "5"


async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    assert await python_box("thread").run("any", {}, CALL) == "tools"


async def test_a_function_that_hides_that_it_is_async_is_awaited() -> None:
    assert await python_box("hidden_async").run("any", {"a": 1}, CALL) == "2"


async def test_a_function_that_asks_for_it_gets_the_context() -> None:
    assert await python_box("context").run("any", {"call": "forged"}, CALL) == '{"turn": "turn-1"}'


@pytest.mark.parametrize(
    ("what", "text"), [("text", "☺"), ("dict", '{"a": [1, null, "☺"]}'), ("none", "null")]
)
async def test_a_result_is_text_or_json(what: str, text: str) -> None:
    assert await python_box("returning").run("any", {"what": what}, CALL) == text


@pytest.mark.parametrize("what", ["set", "nan", "bytes"])
async def test_a_result_that_is_neither_is_a_failure(what: str) -> None:
    error = await failure(python_box("returning").run("any", {"what": what}, CALL))
    assert type(error) is Permanent
    assert error.reason == "the tool any returned what is neither text nor JSON"


@pytest.mark.parametrize("function", ["raising", "raising_async"])
@pytest.mark.parametrize("kind", [Temporary, Busy, Permanent, Ambiguous])
async def test_our_own_errors_pass(function: str, kind: type[DependencyError]) -> None:
    with pytest.raises(DependencyError, match="the team's own words") as caught:
        await python_box(function).run("any", {"error": kind.__name__}, CALL)
    assert type(caught.value) is kind


@pytest.mark.parametrize("function", ["raising", "raising_async"])
@pytest.mark.parametrize("name", ["KeyError", "ConfigError", "OSError", "StopIteration"])
async def test_other_errors_are_named_and_not_quoted(function: str, name: str) -> None:
    error = await failure(python_box(function).run("any", {"error": name}, CALL))
    assert type(error) is Permanent
    shown = "RuntimeError" if name == "StopIteration" else name
    assert error.reason == f"the tool any failed with {shown}"


async def test_arguments_that_the_function_does_not_take_are_a_failure() -> None:
    error = await failure(python_box("add").run("any", {"c": 1}, CALL))
    assert error.reason == "the tool any failed with TypeError"


@pytest.mark.parametrize("function", ["blocking", "stubborn"])
@pytest.mark.parametrize(("effects", "kind"), [(False, Temporary), (True, Ambiguous)])
async def test_the_time_limit_counts_whatever_the_function_does(
    function: str, effects: bool, kind: type[DependencyError]
) -> None:
    spec = replace(ANYTHING, effects=effects, timeout_seconds=0.02)
    released.clear()
    try:
        error = await failure(python_box(function, spec).run("any", {}, CALL))
    finally:
        released.set()
    assert (type(error), error.code) == (kind, "timeout")


async def test_functions_that_hang_keep_no_one_else_from_anything() -> None:
    loop = asyncio.get_running_loop()
    for left_over in [t for t in threading.enumerate() if t.name == "tools"]:
        left_over.join()
    released.clear()
    try:
        hung = [
            asyncio.create_task(python_box("blocking").run("any", {}, CALL))
            for _ in range(MAX_THREADS)
        ]
        await asyncio.sleep(0)
        error = await failure(python_box("thread", EFFECTS).run("any", {}, CALL))
        assert (type(error), error.code) == (Busy, "threads")
        assert await python_box("add").run("any", {"a": 1}, CALL) == "2"
        # Host names are resolved in threads, too.
        assert await asyncio.wait_for(loop.getaddrinfo("127.0.0.1", 80), 60)
    finally:
        released.set()
    assert await asyncio.gather(*hung) == ["null"] * MAX_THREADS
    assert await python_box("thread").run("any", {}, CALL) == "tools"


async def test_a_process_that_can_start_no_thread_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError(HIDDEN)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(MAX_THREADS + 1):
            error = await failure(python_box("thread").run("any", {}, CALL))
            assert (type(error), error.reason) == (Busy, "the process can start no more threads")
    assert await python_box("thread").run("any", {}, CALL) == "tools"


HANG = """
import asyncio, threading
from replyd.adapters.tools.box import Tools
from replyd.adapters.tools.python import PythonTool
from replyd.domain.tools import ToolSpec
from replyd.errors import Temporary
from replyd.ports import ToolContext

def hang():
    threading.Event().wait()

async def main():
    spec = ToolSpec("any", "", {"type": "object"}, timeout_seconds=0.02)
    try:
        await Tools([PythonTool(spec, "hang:hang")]).run("any", {}, ToolContext("", "", "", ""))
    except Temporary as error:
        print(error.code)

if __name__ == "__main__":
    asyncio.run(main())
    print("ended")
"""


def test_a_function_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(HANG)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "timeout\nended\n", "")


@pytest.fixture
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "team_needs.py").write_text("import team_missing\n")
    (tmp_path / "team_broken.py").write_text(f"raise KeyError({HIDDEN!r})\n")
    (tmp_path / "team_syntax.py").write_text("def\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("team_"):
            del sys.modules[name]


@pytest.mark.usefixtures("_modules")
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("json", "'json' is not of the form package.module:function"),
        ("json:a.b", "'json:a.b' is not of the form package.module:function"),
        (".json:dumps", "'.json:dumps' is not of the form package.module:function"),
        ("team_nowhere:f", "there is no module team_nowhere"),
        (
            "team_nowhere.tools:f",
            "there is no module team_nowhere, which importing team_nowhere.tools needs",
        ),
        ("team_needs:f", "there is no module team_missing, which importing team_needs needs"),
        ("team_broken:f", "importing the module team_broken failed with KeyError"),
        ("team_syntax:f", "importing the module team_syntax failed with SyntaxError"),
        ("json:nothing", "the module json has no function nothing"),
        (
            f"{__name__}:not_a_function",
            f"the module {__name__} has something else than a function as not_a_function",
        ),
    ],
)
def test_a_function_that_is_not_there_is_refused_with_what_is_missing(
    target: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        PythonTool(ANYTHING, target)
    assert str(caught.value) == problem
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "argument", "problem"),
    [
        ("add", "c", "has no parameter c, which the schema has"),
        ("positional", "a", "has no parameter a, which the schema has"),
        ("named_call", "call", "call is both an argument"),
    ],
)
def test_a_function_that_does_not_go_with_its_schema_is_refused(
    name: str, argument: str, problem: str
) -> None:
    spec = accepting({argument: {}})
    with pytest.raises(ValueError, match=problem):
        PythonTool(spec, f"{__name__}:{name}")
    PythonTool(spec, f"{__name__}:thread")


def test_a_function_whose_parameters_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be told which parameters builtins:dict has"):
        PythonTool(ANYTHING, "builtins:dict")


# --- endpoints -----------------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers with `handler`, and remembers what came."""

    def __init__(self) -> None:
        self.handler: Handler = self._fine
        self.requests: list[web.Request] = []
        self.url = ""

    async def _fine(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="fine")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        return await self.handler(request)

    def answer(self, **response: Any) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return web.Response(**response)

        self.handler = handler


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    async with TestServer(app) as running:
        made.url = str(running.make_url("/tool"))
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Make = Callable[..., Tools]


@pytest.fixture
def make(server: Server, session: aiohttp.ClientSession) -> Make:
    def build(spec: ToolSpec = ANYTHING, url: str = "", **settings: Any) -> Tools:
        endpoint = Endpoint(url or server.url, **settings)
        return box(HttpTool(spec, endpoint, session))

    return build


KINDS = pytest.mark.parametrize(("spec", "kind"), [(ANYTHING, Temporary), (EFFECTS, Ambiguous)])


async def test_a_post_brings_the_arguments_and_for_whom(server: Server, make: Make) -> None:
    tools = make(headers={"X-Key": "secret"})
    assert await tools.run("any", {"a": [1, "☺"]}, CALL) == "fine"
    (request,) = server.requests
    assert request.method == "POST"
    assert request.content_type == "application/json"
    assert request.headers["X-Key"] == "secret"
    assert "Idempotency-Key" not in request.headers
    assert await request.json() == {
        "tool": "any",
        "arguments": {"a": [1, "☺"]},
        "conversation_id": "c-1",
        "customer": CALL.customer,
        "business": CALL.business,
        "turn": "turn-1",
    }


async def test_a_tool_with_effects_can_know_a_call_again(server: Server, make: Make) -> None:
    await make(EFFECTS, headers={"idempotency-key": "theirs"}).run("any", {}, CALL)
    assert server.requests[0].headers.getall("Idempotency-Key") == ["turn-1:any"]


async def test_a_get_has_the_arguments_in_its_query(server: Server, make: Make) -> None:
    tools = make(url=server.url + "?key=a%26b", method="GET")
    given = {"text": "a&b=☺ +", "n": 3, "x": 0.5, "yes": True, "nothing": None}
    assert await tools.run("any", given, CALL) == "fine"
    (request,) = server.requests
    assert request.method == "GET"
    assert dict(request.query) == {
        "key": "a&b",
        "text": "a&b=☺ +",
        "n": "3",
        "x": "0.5",
        "yes": "true",
    }
    assert await request.read() == b""


@pytest.mark.parametrize("value", [[HIDDEN], {"a": HIDDEN}])
async def test_a_get_takes_no_arrays_and_objects(server: Server, make: Make, value: object) -> None:
    error = await failure(make(method="GET").run("any", {"a": value}, CALL))
    assert type(error) is Permanent
    assert server.requests == []


@pytest.mark.parametrize(
    "response",
    [
        {"text": '{"a": "☺"}', "content_type": "application/json"},
        {"text": '{"a": "☺"}', "content_type": "application/hal+json"},
        {"text": '{"a": "☺"}', "content_type": "text/html", "charset": "utf-16"},
        {"text": '{"a": "☺"}', "status": 201},
        {
            "body": '{"a": "☺"}'.encode(),
            "headers": {"Content-Type": "text/plain; charset=nonsense"},
        },
    ],
)
async def test_json_and_text_are_a_result(
    server: Server, make: Make, response: dict[str, Any]
) -> None:
    server.answer(**response)
    assert await make().run("any", {}, CALL) == '{"a": "☺"}'


async def test_an_answer_without_text_says_so(server: Server, make: Make) -> None:
    server.answer(status=204)
    result = await make().run("any", {}, CALL)
    assert result == "The tool answered with HTTP 204 and no text."


@pytest.mark.parametrize(("spec", "kind"), [(ANYTHING, Permanent), (EFFECTS, Ambiguous)])
@pytest.mark.parametrize(
    "response",
    [
        {"body": b"\x89PNG", "content_type": "image/png"},
        {"body": b"unknown"},
        {"status": 302, "headers": {"Location": "/elsewhere"}},
        {"status": 307, "headers": {"Location": "/elsewhere"}},
        {"status": 304},
    ],
    ids=["image", "bytes", "302", "307", "304"],
)
async def test_an_answer_of_no_use_is_not_asked_for_again(
    server: Server, make: Make, response: dict[str, Any], spec: ToolSpec, kind: type[Exception]
) -> None:
    server.answer(**response)
    error = await failure(make(spec).run("any", {}, CALL))
    assert type(error) is kind
    assert error.code == f"http_{response.get('status', 200)}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("letter", ["x", "漢", "😀"])
async def test_a_long_answer_is_cut(server: Server, make: Make, letter: str) -> None:
    server.answer(text=letter * 200_000)
    result = await make().run("any", {}, CALL)
    text = result.removesuffix(CUT)
    assert text != result
    assert text.rstrip("\ufffd") == letter * len(text.rstrip("\ufffd"))
    assert 16_000 < len(text) <= MAX_RESULT


async def test_an_endless_answer_is_not_waited_for(server: Server, make: Make) -> None:
    gate = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"x" * 70_000)
        await gate.wait()
        return response

    server.handler = endless
    assert (await make().run("any", {}, CALL)).endswith(CUT)
    gate.set()


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_the_model_reads_why_the_tool_refused(
    server: Server, make: Make, status: int
) -> None:
    server.answer(status=status, text="no such bread ☺")
    result = await make(EFFECTS).run("any", {}, CALL)
    assert result == f"The tool refused with HTTP {status}: no such bread ☺"


@pytest.mark.parametrize("response", [{}, {"body": b"\x89PNG", "content_type": "image/png"}])
async def test_a_refusal_without_text(server: Server, make: Make, response: dict[str, Any]) -> None:
    server.answer(status=422, **response)
    assert await make().run("any", {}, CALL) == "The tool refused with HTTP 422: (no text)"


async def broken_off(request: web.Request, status: int) -> web.StreamResponse:
    response = web.StreamResponse(
        status=status, headers={"Content-Type": "text/plain", "Content-Length": "100"}
    )
    await response.prepare(request)
    await response.write(b"the beginning")
    assert request.transport is not None
    request.transport.close()
    return response


async def test_a_refusal_whose_text_is_lost_is_a_refusal(server: Server, make: Make) -> None:
    server.handler = lambda request: broken_off(request, 422)
    assert await make(EFFECTS).run("any", {}, CALL) == "The tool refused with HTTP 422: (no text)"


@KINDS
async def test_a_result_whose_text_is_lost(
    server: Server, make: Make, spec: ToolSpec, kind: type[Exception]
) -> None:
    server.handler = lambda request: broken_off(request, 200)
    error = await failure(make(spec).run("any", {}, CALL))
    assert (type(error), error.code) == (kind, "disconnected")


@pytest.mark.parametrize(
    ("status", "headers", "delay"),
    [
        (429, {}, None),
        (429, {"Retry-After": "7"}, 7.0),
        (503, {"Retry-After": "120"}, 120.0),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
async def test_a_tool_that_asks_for_patience_is_busy(
    server: Server, make: Make, status: int, headers: dict[str, str], delay: float | None
) -> None:
    server.answer(status=status, headers=headers, text=HIDDEN)
    error = await failure(make(EFFECTS).run("any", {}, CALL))
    assert isinstance(error, Busy)
    assert error.delay == delay


@KINDS
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_server_error_proves_nothing(
    server: Server, make: Make, status: int, spec: ToolSpec, kind: type[Exception]
) -> None:
    server.answer(status=status, text=HIDDEN)
    error = await failure(make(spec).run("any", {}, CALL))
    assert (type(error), error.code) == (kind, f"http_{status}")
    assert len(server.requests) == 1


@KINDS
@pytest.mark.parametrize("warm", [False, True])
async def test_a_lost_answer(
    server: Server, make: Make, spec: ToolSpec, kind: type[Exception], warm: bool
) -> None:
    async def reset(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    tools = make(spec)
    if warm:
        await tools.run("any", {}, CALL)
    server.handler = reset
    error = await failure(tools.run("any", {"a": HIDDEN}, CALL))
    assert (type(error), error.code) == (kind, "disconnected")
    assert len(server.requests) == 1 + warm


@KINDS
async def test_an_answer_that_does_not_come(
    server: Server, make: Make, spec: ToolSpec, kind: type[Exception]
) -> None:
    gate = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    server.handler = silent
    error = await failure(make(replace(spec, timeout_seconds=0.05)).run("any", {}, CALL))
    assert (type(error), error.code) == (kind, "timeout")
    gate.set()


class NoResolver(AbstractResolver):
    async def resolve(self, *_: object, **__: object) -> list[ResolveResult]:
        raise OSError(HIDDEN)

    async def close(self) -> None:
        pass


async def test_what_was_never_sent_may_be_sent_again(server: Server, make: Make) -> None:
    error = await failure(
        make(EFFECTS, url=f"http://127.0.0.1:{unused_port()}").run("any", {}, CALL)
    )
    assert (type(error), error.code) == (Temporary, "unreachable")
    assert "cannot be connected to" in error.reason
    error = await failure(
        make(EFFECTS, url=server.url.replace("http:", "https:")).run("any", {}, CALL)
    )
    assert (type(error), error.code) == (Temporary, "unreachable")
    assert "TLS" in error.reason
    connector = aiohttp.TCPConnector(resolver=NoResolver())
    async with aiohttp.ClientSession(connector=connector) as session:
        tool = HttpTool(EFFECTS, Endpoint("https://tools.example.com"), session)
        error = await failure(box(tool).run("any", {}, CALL))
    assert (type(error), error.code) == (Temporary, "unreachable")
    assert "host name" in error.reason


async def test_a_connection_that_does_not_come_about_shows_before_the_time_is_up(
    server: Server,
) -> None:
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await gate.wait()
        return web.Response(text="late")

    server.handler = silent
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        endpoint = Endpoint(server.url)
        first = asyncio.create_task(box(HttpTool(EFFECTS, endpoint, session)).run("any", {}, CALL))
        await arrived.wait()
        hurried = HttpTool(replace(EFFECTS, timeout_seconds=0.05), endpoint, session)
        error = await failure(box(hurried).run("any", {}, CALL))
        assert (type(error), error.code) == (Temporary, "unreachable")
        gate.set()
        assert await first == "late"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"url": "ftp://example.com"}, "must begin with https://"),
        ({"url": "example.com/tool"}, "must begin with https://"),
        ({"url": "https://"}, "must begin with https://"),
        ({"url": "https://[::1"}, "cannot be read"),
        ({"url": "https://example.com:port/"}, "cannot be read"),
        ({"url": "https://example.com/a b"}, "no spaces"),
        ({"url": f"https://me:{HIDDEN}@example.com"}, "put them into a header"),
        ({"method": "DELETE"}, "must be one of POST, GET"),
        ({"method": "post"}, "must be one of POST, GET"),
        ({"headers": {"X Key": HIDDEN}}, "'X Key' is not the name of a header"),
        ({"headers": {"X-Key": f"{HIDDEN}\r\nHost: x"}}, "the header X-Key has a character"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Endpoint(**{"url": "https://example.com", **settings})
    assert problem in str(caught.value)
    assert HIDDEN not in str(caught.value)


def test_an_endpoint_does_not_show_its_headers() -> None:
    assert HIDDEN not in repr(Endpoint("https://example.com", headers={"X-Key": HIDDEN}))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (EFFECTS, "effects needs the method POST"),
        (accepting({"a": {"type": "array"}}), "a is an array or object"),
        (accepting({"b": True, "a": {"type": ["object", "null"]}}), "a is an array or object"),
    ],
)
def test_what_a_get_cannot_do_is_refused(make: Make, spec: ToolSpec, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make(spec, method="GET")
    make(spec)


async def test_an_invalid_schema_is_refused_when_the_tool_is_built(make: Make) -> None:
    spec = ToolSpec("any", "", {"type": "object", "properties": {"a": {"$ref": "far.json"}}})
    with pytest.raises(ValueError, match="others are not fetched"):
        make(spec)
    with pytest.raises(ValueError, match="others are not fetched"):
        PythonTool(spec, f"{__name__}:thread")
