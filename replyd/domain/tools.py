"""Tools: what the model may have done for it, and what came of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Function names, https://platform.openai.com/docs/api-reference/responses/create (tools).
NAME_PATTERN = r"[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it. `parameters`: a JSON Schema of type object.

    `effects`: it changes something outside, and runs at most once in a turn."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    effects: bool = False
    timeout_seconds: float = 10


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model wants done. `arguments`: JSON text as the model wrote it, perhaps broken."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told of a call: a result, or why there is none. `id`: the call's."""

    id: str
    output: str


HAND_OVER = ToolSpec(
    name="hand_over",
    description="Give this conversation to a human colleague. Use it when the customer asks for a "
    "person, or when you cannot or must not help. After it you do not write to the customer any "
    "more. The text of your answer, if you write one, is still sent to the customer.",
    parameters={
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "Why, in a few words."},
            "summary": {
                "type": "string",
                "description": "What the colleague needs to know, in a few sentences.",
            },
        },
        "required": ["reason", "summary"],
        "additionalProperties": False,
    },
)


def hand_over_arguments(text: str) -> tuple[str, str]:
    """Reason and summary of a call of `hand_over`. A model that gets them wrong still means it."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    given = given if isinstance(given, dict) else {}
    reason, summary = given.get("reason"), given.get("summary")
    return (
        reason if isinstance(reason, str) else "",
        summary if isinstance(summary, str) else "",
    )
