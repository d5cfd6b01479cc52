"""Structured output: an answer that says itself whether a person should take over."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# All required and nothing else allowed: what strict structured outputs take,
# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "content": {
            "type": "string",
            "description": "The message to the customer; empty to write nothing.",
        },
        "handoff": {
            "type": "boolean",
            "description": "Whether a human colleague should take over the conversation.",
        },
        "handoff_reason": {
            "type": "string",
            "description": "Why, in a few words; empty without a handoff.",
        },
        "handoff_summary": {
            "type": "string",
            "description": "What the colleague needs to know, in a few sentences; empty without "
            "a handoff.",
        },
    },
    "required": ["content", "handoff", "handoff_reason", "handoff_summary"],
    "additionalProperties": False,
}

# Objects that are tried in one text, each perhaps to the text's end.
_MAX_OBJECTS = 20

_TRUE = frozenset({"true", "yes", "1"})
_OBJECT = re.compile(r'\{\s*"')
# One of our keys, also in single quotes or in JSON inside a JSON string.
_KEY = re.compile(
    r"""[{,]\s*\\?["'](?:content|handoff|handoff_reason|handoff_summary)\\?["']\s*:"""
)
# Cut off before the first key's end.
_STUB = re.compile(r"""(?:```\w*\s*)?\{\s*(?:["']\w*["']?\s*)?""")
# Raw line breaks in strings are what models get wrong most.
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wants said and done. `content`: for the customer, perhaps empty.

    `broken`: the answer was meant as an object and cannot be read; nothing of it may be sent."""

    content: str
    handoff: bool = False
    reason: str = ""
    summary: str = ""
    broken: bool = False


_BROKEN = Answer(content="", broken=True)


def parse(text: str) -> Answer:
    """An answer in the form of SCHEMA, alone, in a fence, or with text around it, which is left
    out. Further keys are ignored; "content" or "handoff" is enough. Other text is the content.

    Several objects that differ, and one that is cut off or not quite JSON, are broken. Never
    raises."""
    answers = []
    rest = []
    end = 0
    for found, start, stop in _objects(text):
        if "content" in found or "handoff" in found:
            answers.append(_answer(found))
            rest.append(text[end:start])
            end = stop
    rest.append(text[end:])
    if ("{" in text and any(map(_KEY.search, rest))) or _STUB.fullmatch(text.strip()):
        return _BROKEN
    if not answers:
        return Answer(content=text)
    return answers[0] if len(set(answers)) == 1 else _BROKEN


def _objects(text: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """The JSON objects in a text, none inside another, with where they start and end."""
    at = 0
    for _ in range(_MAX_OBJECTS):
        begin = _OBJECT.search(text, at)
        if begin is None:
            return
        try:
            found, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.end()
            continue
        yield found, begin.start(), at


def _answer(found: Mapping[str, Any]) -> Answer:
    content = found.get("content")
    if isinstance(content, bool | list | dict):
        return _BROKEN
    return Answer(
        content=_string(content),
        handoff=_truth(found.get("handoff")),
        reason=_string(found.get("handoff_reason")),
        summary=_string(found.get("handoff_summary")),
    )


def _string(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return ""
    # JSON can spell half a character, which nothing behind us could send.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in _TRUE
    return isinstance(value, int | float) and bool(value)
