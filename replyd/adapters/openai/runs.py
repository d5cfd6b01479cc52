"""What a run of the Assistants API has come to,
https://platform.openai.com/docs/assistants/deep-dive#run-lifecycle.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from openai.types.beta.threads import Message, Run

from replyd.adapters.openai.failures import NAME, plain
from replyd.domain.tools import ToolCall
from replyd.errors import Busy, DependencyError, Permanent, Temporary
from replyd.ports import Finish, ModelReply

WORKING = ("queued", "in_progress", "cancelling")
ACTIVE = (*WORKING, "requires_action")

_CITATION = re.compile(r"[ \t]*【[^【】]*†[^【】]*】")


def calls_of(run: Run, thread_id: str, model: str) -> ModelReply:
    """The tools that a run in `requires_action` waits for."""
    action: Any = run.required_action
    asked: Any = getattr(getattr(action, "submit_tool_outputs", None), "tool_calls", None) or ()
    calls = tuple(
        ToolCall(call.id, call.function.name or "", call.function.arguments or "")
        for call in asked
        if call.id and call.function
    )
    if not calls:
        raise Temporary(NAME, "the run waits for something that is no function", code="no_calls")
    return ModelReply(
        text="",
        thread_id=thread_id,
        model=str(run.model or model),
        calls=calls,
        state=(thread_id, run.id),
    )


def reply_of(run: Run, messages: Sequence[Message], thread_id: str, model: str) -> ModelReply:
    """The answer of a run that has ended, from its `messages`, oldest first.

    Raises Busy, Temporary or Permanent where the run ended without one."""
    if run.status not in ("completed", "incomplete"):
        raise _failure(run)
    text, refused = _text(messages)
    usage: Any = run.usage
    return ModelReply(
        text=text,
        thread_id=thread_id,
        model=str(run.model or model),
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(_get(usage, "prompt_token_details"), "cached_tokens"),
        finish="refused" if refused else _finish(run, messages, text),
    )


def _finish(run: Run, messages: Iterable[Message], text: str) -> Finish:
    # Content filters stop a message; some servers tell it of the run as well.
    details = (run.incomplete_details, *(message.incomplete_details for message in messages))
    reasons = {_get(each, "reason") for each in details}
    if "content_filter" in reasons:
        return "filtered"
    if run.status == "incomplete":
        return "truncated"
    return "complete" if text else "empty"


def _failure(run: Run) -> DependencyError:
    if run.status != "failed":
        status = plain(run.status)
        return Temporary(NAME, f"the run ended as {status}", code=f"run_{status}")
    code = plain(_get(run.last_error, "code"))
    reason = f"the run failed ({code})"
    if code == "rate_limit_exceeded":
        return Busy(NAME, reason, code=code)
    if code == "invalid_prompt":
        return Permanent(NAME, reason, code=code)
    return Temporary(NAME, reason, code=code)


def _text(messages: Iterable[Message]) -> tuple[str, bool]:
    """The text of the answers, citations left out, and whether there is a refusal."""
    found, refused = [], False
    for message in messages:
        parts: list[Any] = list(message.content or ())
        refused = refused or any(_get(part, "type") == "refusal" for part in parts)
        texts = [_plain_text(part.text) for part in parts if _get(part, "type") == "text"]
        found.append("".join(texts).strip())
    return "\n\n".join(filter(None, found)), refused


def _plain_text(text: Any) -> str:
    """What a text part says, without the marks of its sources, such as 【4:0†menu.pdf】."""
    value = str(_get(text, "value") or "")
    for annotation in _get(text, "annotations") or ():
        mark = _get(annotation, "text")
        if mark and _get(annotation, "type") == "file_citation":
            value = value.replace(f" {mark}", "").replace(mark, "")
    return _CITATION.sub("", value)


def _count(usage: Any, name: str) -> int:
    return int(_get(usage, name) or 0)


def _get(item: Any, name: str) -> Any:
    """A field that the SDK's type may not know, hence perhaps a plain dict's."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)
