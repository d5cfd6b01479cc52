"""Tools that the model calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs. `turn`: the same for all attempts at a turn, so that a tool that is
    asked again can know it."""

    conversation_id: str
    customer: str
    business: str
    turn: str


class Toolbox(Protocol):
    async def run(self, name: str, arguments: Mapping[str, Any], call: ToolContext) -> str:
        """The result of a tool, for the model to read. Raises Temporary or DependencyDown when it
        failed for now, Permanent when these arguments will never do, Ambiguous when it may have
        happened. Ends within the tool's time limit."""
        ...

    def check(self, name: str, arguments: str) -> Mapping[str, Any]:
        """The arguments, read and compared with the tool's schema. Raises ValueError with a
        sentence that the model can act on."""
        ...
