"""The model, and what goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from replyd.domain.tools import ToolCall, ToolResult


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the conversation: `role` is user or assistant."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class File:
    """The contents of a file that came with a message."""

    name: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One user turn. `unseen` are lines the thread at the vendor does not know, `history` all of
    them, for when there is no thread or the vendor no longer knows it.

    `files`: what the turn's text calls file 1, 2, …, for models that take them. `sids`: the
    messages of the turn. `customer`: their address, which must not reach the vendor as it is.
    `business`: the company's number, whose customers share limits fairly. `profile`: which model
    and settings, empty for the default. `again`: the thread at the vendor may hold an answer to
    this turn that the customer has not seen.

    `results` answer the `calls` of the last reply to this request, whose `state` comes along: the
    model goes on from there, and only `state` and `results` are new to it."""

    turn: str
    thread_id: str
    unseen: tuple[Line, ...]
    history: tuple[Line, ...]
    conversation_id: str
    sids: tuple[str, ...] = ()
    customer: str = ""
    business: str = ""
    profile: str = ""
    files: tuple[File, ...] = ()
    again: bool = False
    state: Any = None
    results: tuple[ToolResult, ...] = ()


# How an answer ended: as it should, without any text, with a refusal, at the token limit, or
# stopped by the vendor's content filter.
Finish = Literal["complete", "empty", "refused", "truncated", "filtered"]


@dataclass(frozen=True, slots=True)
class ModelReply:
    """`thread_id`: what continues the conversation at the vendor, empty where nothing does.
    `input_tokens` include the `cached_tokens`; `output_tokens` include thinking.

    `calls`: the model waits for these before it answers; `state` is for the request that brings
    their results, and means nothing to anybody else."""

    text: str
    thread_id: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    finish: Finish = "complete"
    calls: tuple[ToolCall, ...] = ()
    state: Any = None


class ReplyModel(Protocol):
    async def respond(self, request: ModelRequest) -> ModelReply:
        """One answer, or the tools it waits for. Raises Temporary, Busy, DependencyDown, or
        Permanent for a request that the vendor will never answer. Has no effect that the customer
        sees."""
        ...


class Transcriber(Protocol):
    async def transcribe(self, recording: File) -> str:
        """The words of a voice note, empty when there are none. Raises as a model does."""
        ...


class Moderator(Protocol):
    async def flagged(self, text: str) -> Sequence[str]:
        """The names of the categories that a text falls into, none for a harmless one. Raises as
        a model does."""
        ...
