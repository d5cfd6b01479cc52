"""A team's own tools behind one port: their names, their time limits, what the model may read."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from replyd.domain.tools import ToolSpec
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary
from replyd.ports import ToolContext

NAME = "tools"
# What the model reads of one result, in characters: some 5,000 tokens of English, paid again with
# every request of the conversation that carries it.
MAX_RESULT = 20_000
CUT = "\n[The rest is left out: the result is too long.]"

_MAX_NAME = 64


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    async def run(self, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """As `Toolbox.run`, but without a time limit. Raises TimeoutError when the tool itself
        gave up waiting for something."""
        ...


class Tools:
    """Implements `ports.Toolbox`."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        """Raises ValueError for two tools of one name."""
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.spec.name in self._tools:
                raise ValueError(f"there are two tools named {tool.spec.name}")
            self._tools[tool.spec.name] = tool

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            raise ValueError(f"there is no tool {name[:_MAX_NAME]!r}; the tools are: {known}")
        # Whoever has tools has it already: each compares its schema when it is made.
        from replyd.adapters.tools.schema import read_arguments  # noqa: PLC0415 - as said above

        return read_arguments(arguments, tool.spec)

    async def run(self, name: str, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """At most 20,000 characters, with a note where more were left out. `arguments` have
        passed `check`."""
        tool = self._tools.get(name)
        if tool is None:
            raise Permanent(NAME, "there is no tool of this name", code="unknown_tool")
        limit = asyncio.timeout(tool.spec.timeout_seconds)
        try:
            async with limit:
                return readable(await tool.run(arguments, call))
        except TimeoutError:
            pass
        except DependencyError:
            # What a tool makes of being cancelled by us is no answer.
            if not limit.expired():
                raise
        raise unsure(tool.spec, "did not answer in time", code="timeout")


def unsure(spec: ToolSpec, happening: str, *, code: str) -> DependencyError:
    """For a call that may have been carried out. `happening` goes after the tool's name."""
    kind = Ambiguous if spec.effects else Temporary
    return kind(NAME, f"the tool {spec.name} {happening}", code=code)


def readable(text: str, *, more: bool = False) -> str:
    """What the model is given of a text; `more`: there was more of it."""
    # Half a surrogate pair can be neither stored nor sent.
    text = text.encode(errors="replace").decode()
    return text[:MAX_RESULT] + CUT if more or len(text) > MAX_RESULT else text
