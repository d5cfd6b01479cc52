"""The steps of tools with effects: each runs at most once for the messages of a turn, whatever
becomes of the workers that answer them. `reply_tools` in the record, removed at COMMIT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replyd.domain import record as r
from replyd.domain.expressions import (
    Action,
    All,
    Applied,
    Compare,
    Condition,
    Missing,
    Set,
    Step,
    StepResult,
)
from replyd.domain.record import Conversation
from replyd.domain.steps import FLAG_DOWN, NOT_OPTED_OUT, holds, pending_from
from replyd.domain.turn import Holds, LeaseLost, Silenced, is_ours, silenced


def arm_tool(
    token: str, name: str, entry: Mapping[str, Any], expires_at: int, *, head: str, first: bool
) -> Step:
    """Write down that a tool with effects is called, before it is: refused when it was called for
    the same messages before. `entry` names the token. `first`: there is no `reply_tools` yet."""
    note: tuple[Condition, Action] = (
        (Missing((r.TOOLS,)), Set((r.TOOLS,), {name: dict(entry)}))
        if first
        else (Missing((r.TOOLS, name)), Set((r.TOOLS, name), dict(entry)))
    )
    terms = (holds(token), *pending_from(head), FLAG_DOWN, NOT_OPTED_OUT, note[0])
    return Step("arm_tool", All(terms), (note[1], Set((r.LEASE, "expires_at"), expires_at)))


def note_tool(token: str, name: str, entry: Mapping[str, Any]) -> Step:
    """What has come of a tool with effects."""
    condition = All((holds(token), Compare((r.TOOLS, name, "token"), "=", token)))
    return Step("note_tool", condition, (Set((r.TOOLS, name), dict(entry)),))


@dataclass(frozen=True, slots=True)
class CalledBefore:
    """An earlier claim for the same messages has called the tool, whatever came of it."""

    conversation: Conversation


def after_tool_armed(
    result: StepResult, conversation: Conversation | None, *, token: str, name: str
) -> Holds | LeaseLost | Silenced | CalledBefore:
    if isinstance(result, Applied):
        return Holds()
    if not is_ours(conversation, token):
        return LeaseLost()
    there = conversation.tools.get(name)
    if isinstance(there, Mapping):
        # Ours, and its answer was lost: within one claim a tool is called once.
        return Holds() if there.get("token") == token else CalledBefore(conversation)
    return silenced(conversation) or LeaseLost()
