"""What the Responses API is sent and what it answers,
https://platform.openai.com/docs/api-reference/responses/object."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replyd.adapters.openai.client import count, part, parts
from replyd.adapters.openai.failures import NAME, plain
from replyd.domain.tools import ToolCall, ToolResult, ToolSpec
from replyd.errors import Busy, DependencyError, Permanent, Temporary
from replyd.ports import File, Finish, Line, ModelRequest

# JSON, as it goes and comes: the SDK's types, one for each of dozens of kinds, take as long to be
# made as the request takes otherwise.
Item = dict[str, Any]

_PDF = "application/pdf"
_NO_PARAMETERS = {"type": "object", "properties": {}}
_DRAFTS = (
    "Before this there may be earlier copies of the messages below, with drafts of an answer. The "
    "drafts were not sent to the customer. Ignore them, and answer as if they were not there."
)


# --- what is sent ------------------------------------------------------------------------------


def message(line: Line) -> Item:
    return {
        "type": "message",
        "role": "assistant" if line.role == "assistant" else "user",
        "content": line.text,
    }


def turn(text: str, files: Sequence[File]) -> Item:
    """The user's turn: its text, and behind it the files that it speaks of, in their order."""
    if not files:
        return message(Line("user", text))
    content: list[Item] = [{"type": "input_text", "text": text}]
    for number, file in enumerate(files, start=1):
        if file.content_type.startswith("image/"):
            content.append({"type": "input_image", "detail": "auto", "image_url": _data_url(file)})
        elif file.content_type == _PDF:
            name = file.name or f"file-{number}.pdf"
            content.append({"type": "input_file", "filename": name, "file_data": _data_url(file)})
        else:
            # Without a part in its place, the next file would be taken for this one.
            content.append({"type": "input_text", "text": f"(file {number} cannot be shown)"})
    return {"type": "message", "role": "user", "content": content}


def drafts() -> Item:
    """For a conversation that may hold an answer which the customer has not seen."""
    return {"type": "message", "role": "developer", "content": _DRAFTS}


def outputs(results: Iterable[ToolResult]) -> list[Item]:
    return [
        {"type": "function_call_output", "call_id": result.id, "output": result.output}
        for result in results
    ]


def function_tools(specs: Iterable[ToolSpec]) -> list[Item]:
    """Not strict: strict schemas are a subset, https://platform.openai.com/docs/guides/structured-outputs,
    and the arguments are checked where they are used."""
    return [
        {
            "type": "function",
            "name": spec.name,
            "description": spec.description,
            "parameters": dict(spec.parameters or _NO_PARAMETERS),
            "strict": False,
        }
        for spec in specs
    ]


def json_format(schema: Mapping[str, Any]) -> Item:
    """`schema`: a `name`, and the JSON Schema as `schema`."""
    return {
        "format": {
            "type": "json_schema",
            "name": schema["name"],
            "schema": schema["schema"],
            "strict": True,
        }
    }


def continued(request: ModelRequest) -> list[Item]:
    """What a thread that is still there does not know yet."""
    if request.state is not None:
        return outputs(request.results)
    new = [message(line) for line in request.unseen]
    # A chain branches at the response it continues; a conversation keeps all answers.
    if request.again and request.thread_id.startswith("conv_"):
        new.insert(0, drafts())
    return [*new, turn(request.turn, request.files)]


def rebuilt(request: ModelRequest) -> list[Item]:
    """All of it, for where there is no thread."""
    lines = [message(line) for line in request.history]
    return [*lines, turn(request.turn, request.files), *rounds(request)]


def rounds(request: ModelRequest) -> list[Item]:
    """The calls of this turn so far, and their results."""
    earlier = request.state["items"] if request.state is not None else ()
    return [*earlier, *outputs(request.results)]


def _data_url(file: File) -> str:
    return f"data:{file.content_type};base64,{base64.b64encode(file.data).decode()}"


# --- what is answered --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response says. `call_items`: the calls alone, as another input may repeat them."""

    text: str
    finish: Finish
    calls: tuple[ToolCall, ...]

    @property
    def call_items(self) -> list[Item]:
        return [
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in self.calls
        ]


def answer(response: Item) -> Answer:
    """Nobody has validated what came, so each part is looked at before it is used.

    Raises Busy, Temporary or Permanent for a response that failed."""
    status = response.get("status")
    if status == "failed":
        raise _failure(response)
    if status not in ("completed", "incomplete", None):
        raise Temporary(NAME, f"the response ended as {plain(status)}", code="not_completed")
    output = items(response)
    text, refused = _text(output)
    # The last call of an answer that was cut off may be cut off too.
    calls = () if status == "incomplete" else _calls(output)
    finish: Finish = "complete" if text or calls else "empty"
    if status == "incomplete":
        reason = part(response, "incomplete_details").get("reason")
        finish = "filtered" if reason == "content_filter" else "truncated"
    elif refused:
        finish = "refused"
    return Answer(text, finish, calls)


def items(response: Item) -> list[Item]:
    """All of a response's output, as another input may repeat it."""
    return parts(response, "output")


def tokens(response: Item) -> tuple[int, int, int]:
    """Input with cached, output, cached."""
    usage = part(response, "usage")
    details = part(usage, "input_tokens_details")
    return (
        count(usage, "input_tokens"),
        count(usage, "output_tokens"),
        count(details, "cached_tokens"),
    )


def _text(output: Iterable[Item]) -> tuple[str, bool]:
    """The final messages' text, commentary left out, and whether a refusal is part of it."""
    messages, refused = [], False
    for item in output:
        if item.get("type") != "message" or item.get("phase") == "commentary":
            continue
        texts = []
        for content in parts(item, "content"):
            kind = content.get("type")
            if kind == "refusal":
                refused = True
                texts.append(content.get("refusal"))
            if kind == "output_text":
                texts.append(content.get("text"))
        messages.append("".join(text for text in texts if isinstance(text, str)))
    return "\n\n".join(filter(None, messages)).strip(), refused


def _calls(output: Iterable[Item]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(str(item.get("call_id")), str(item.get("name")), str(item.get("arguments")))
        for item in output
        if item.get("type") == "function_call"
    )


def _failure(response: Item) -> DependencyError:
    code = plain(part(response, "error").get("code"))
    reason = f"the response failed ({code})"
    if code == "rate_limit_exceeded":
        return Busy(NAME, reason, code=code)
    if code in ("server_error", "vector_store_timeout", "unknown"):
        return Temporary(NAME, reason, code=code)
    return Permanent(NAME, reason, code=code)
