"""Tools that are Python functions of the team's own."""

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from replyd.adapters.tools.box import NAME
from replyd.adapters.tools.schema import check_schema
from replyd.domain.tools import ToolSpec
from replyd.errors import Busy, DependencyError, Permanent
from replyd.ports import ToolContext

CONTEXT_PARAMETER = "call"
# Calls at once in this process of functions that are not async, those that hang among them.
MAX_THREADS = 32

_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_free_threads = threading.BoundedSemaphore(MAX_THREADS)


class PythonTool:
    """Calls a function with the arguments by name, and with `call`, the ToolContext, where it has
    a parameter of that name."""

    def __init__(self, spec: ToolSpec, target: str) -> None:
        """`target`: "package.module:function". The module is imported here, with all that its
        import does.

        A function that is not async runs in a thread, which its time limit cannot stop: it goes
        on to its end, or that of the process, and is one of the 32 at once until then.

        Raises ValueError when there is no such function, when it does not take the arguments, or
        when the schema is not valid."""
        check_schema(spec.parameters)
        self.spec = spec
        self._function = _imported(target)
        self._wants_context = _wants_context(self._function, spec.parameters, target)

    async def run(self, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """A text as it is, anything else as JSON. Raises what the function raises of replyd's own
        errors, and Permanent, without its text, for everything else but a TimeoutError; Busy,
        before anything ran, when there is no thread for it."""
        given = {**arguments, CONTEXT_PARAMETER: call} if self._wants_context else {**arguments}
        try:
            return _text(await self._called(given))
        except (DependencyError, TimeoutError):
            raise
        except _NotJsonError:
            reason = "returned what is neither text nor JSON"
        except Exception as error:  # noqa: BLE001 - the team's code may raise anything
            reason = f"failed with {type(error).__name__}"
        raise Permanent(NAME, f"the tool {self.spec.name} {reason}", code="failed")

    async def _called(self, given: Mapping[str, Any]) -> object:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**given)
        result = await _in_thread(self._function, given)
        # A decorator or a class can hide that a function is async.
        return await result if inspect.isawaitable(result) else result


class _NotJsonError(Exception):
    pass


def _in_thread(
    function: Callable[..., object], given: Mapping[str, Any]
) -> "asyncio.Future[object]":
    """The result of the function, in a daemon thread of its own.

    Not asyncio.to_thread: the loop waits at its end for the threads of its executor, and resolves
    host names in them, so that functions which hang would stop both."""
    if not _free_threads.acquire(blocking=False):
        raise Busy(NAME, f"{MAX_THREADS} calls run in threads already", code="threads")
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(_called, function, given)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the caller gets it
            error = raised
        finally:
            _free_threads.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, future, result, error)

    try:
        threading.Thread(target=work, name=NAME, daemon=True).start()
    except RuntimeError:
        _free_threads.release()
    else:
        return future
    raise Busy(NAME, "the process can start no more threads", code="threads")


def _called(function: Callable[..., object], given: Mapping[str, Any]) -> object:
    try:
        return function(**given)
    except StopIteration:
        # No future can hold it: the call would never end. A coroutine does the same with it.
        raise RuntimeError("the function raised StopIteration") from None


def _settle(future: "asyncio.Future[object]", result: object, error: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    try:
        return json.dumps(result, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise _NotJsonError from None


def _imported(target: str) -> Callable[..., Any]:
    found = _TARGET.fullmatch(target)
    if found is None:
        raise ValueError(f"{target!r} is not of the form package.module:function")
    module_name, name = found.groups()
    problem = ""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        problem = f"there is no module {missing}"
        if missing != module_name:
            problem += f", which importing {module_name} needs"
    except Exception as error:  # noqa: BLE001 - importing runs the team's code
        problem = f"importing the module {module_name} failed with {type(error).__name__}"
    if problem:
        raise ValueError(problem)
    function = getattr(module, name, None)
    if not callable(function):
        what = "has no function" if function is None else "has something else than a function as"
        raise ValueError(f"the module {module_name} {what} {name}")
    return function  # type: ignore[no-any-return]


def _wants_context(
    function: Callable[..., object], parameters: Mapping[str, Any], target: str
) -> bool:
    try:
        taken = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ValueError(f"it cannot be told which parameters {target} has") from None
    by_name = {name for name, parameter in taken.items() if parameter.kind in _BY_NAME}
    properties = parameters.get("properties", {})
    wants_context = CONTEXT_PARAMETER in by_name
    if wants_context and CONTEXT_PARAMETER in properties:
        raise ValueError(
            f"{CONTEXT_PARAMETER} is both an argument in the schema and the parameter of {target} "
            "for the conversation's data: name the argument otherwise"
        )
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    unknown = [name for name in properties if name not in by_name]
    if unknown and not takes_any:
        raise ValueError(f"{target} has no parameter {', '.join(unknown)}, which the schema has")
    return wants_context
