"""A team's tools in memory."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from referencing import Registry

from replyd.domain.tools import ToolSpec
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary
from replyd.ports import ToolContext

Function = Callable[[Mapping[str, Any], ToolContext], str]


@dataclass(slots=True)
class MemoryToolbox:
    """`functions`, by the names of `specs`, answer after `seconds`; a tool without one says "ok".

    `failures` come first, in order; None means success. A function has run when a failure is
    Ambiguous, and has not for any other. `calls`: all that were begun."""

    specs: Sequence[ToolSpec] = ()
    functions: dict[str, Function] = field(default_factory=dict)
    seconds: float = 0.0
    failures: list[DependencyError | None] = field(default_factory=list)
    calls: list[tuple[str, Mapping[str, Any], ToolContext]] = field(default_factory=list)

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        spec = self._spec(name)
        if spec is None:
            known = ", ".join(spec.name for spec in self.specs) or "none"
            raise ValueError(f"there is no tool {name[:64]!r}; the tools are: {known}")
        try:
            read = json.loads(arguments.strip() or "{}")
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise ValueError(f"the arguments of {name} cannot be used: they are not a JSON object")
        schema = jsonschema.Draft202012Validator(dict(spec.parameters), registry=Registry())
        for error in schema.iter_errors(read):
            lacking = ""
            if error.validator == "required":
                lacking = ", ".join(n for n in error.validator_value if n not in error.instance)
            where = ".".join(map(str, error.absolute_path)) or lacking
            raise ValueError(f"the arguments of {name} cannot be used: {where} {error.validator}")
        return read

    async def run(self, name: str, arguments: Mapping[str, Any], call: ToolContext) -> str:
        spec = self._spec(name)
        if spec is None:
            raise Permanent("tools", "there is no tool of this name", code="unknown_tool")
        self.calls.append((name, arguments, call))
        await asyncio.sleep(min(self.seconds, spec.timeout_seconds))
        if self.seconds >= spec.timeout_seconds:
            kind = Ambiguous if spec.effects else Temporary
            raise kind("tools", f"the tool {name} did not answer in time", code="timeout")
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None and not isinstance(failure, Ambiguous):
            raise failure
        result = self.functions[name](arguments, call) if name in self.functions else "ok"
        if failure is not None:
            raise failure
        return result

    def _spec(self, name: str) -> ToolSpec | None:
        return next((spec for spec in self.specs if spec.name == name), None)
