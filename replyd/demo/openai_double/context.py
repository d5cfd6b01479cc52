"""What the model of the Responses API reads: the items of a chain, a conversation, a request."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from replyd.demo.openai_double.wire import Body, tokens
from replyd.ports import File

_TOKENS_OF_A_FILE = 800


class UnreadableError(Exception):
    """The input cannot be read."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Context:
    """What the model has read. `outputs`: the tools' for the last user message, whose text is
    `text`. `pending`: the ids of calls without an output."""

    tokens: int = 0
    text: str = ""
    outputs: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()

    def reading(self, items: Iterable[Body]) -> Self:
        """Raises UnreadableError for an output without a call."""
        context = self
        for item in items:
            context = context._reading(item)
        return context

    def _reading(self, item: Body) -> Self:
        match item.get("type", "message"):
            case "message":
                text, files = content(item)
                size = self.tokens + tokens(text) + _TOKENS_OF_A_FILE * len(files)
                if item.get("role") == "user":
                    return replace(self, tokens=size, text=text, outputs=())
                return replace(self, tokens=size)
            case "function_call":
                size = self.tokens + tokens(item["name"] + item["arguments"])
                return replace(self, tokens=size, pending=(*self.pending, item["call_id"]))
            case "function_call_output":
                return self._told(item["call_id"], str(item["output"]))
            case "reasoning" if not item.get("encrypted_content"):
                message = f"Item with id '{item.get('id')}' not found. Items are not persisted "
                raise UnreadableError(message + "when `store` is set to false.", 404)
            case _:
                return self

    def _told(self, call: str, output: str) -> Self:
        if call not in self.pending:
            message = f"No tool call found for function call output with call_id {call}."
            raise UnreadableError(message)
        return replace(
            self,
            tokens=self.tokens + tokens(output),
            outputs=(*self.outputs, output),
            pending=tuple(other for other in self.pending if other != call),
        )


def content(item: Body) -> tuple[str, list[File]]:
    """The text and the files of a message."""
    given = item.get("content") or ""
    if isinstance(given, str):
        return given, []
    texts = [str(part.get("text") or part.get("refusal") or "") for part in given]
    files = [
        (part.get("filename") or "", part.get("file_data") or part.get("image_url") or "")
        for part in given
        if part["type"] in ("input_file", "input_image")
    ]
    return "\n".join(filter(None, texts)), [_file(name, url) for name, url in files]


def _file(name: str, url: str) -> File:
    """A file from its data URL."""
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return File(name, kind, base64.b64decode(data))
