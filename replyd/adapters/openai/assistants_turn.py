"""A turn as messages of the Assistants API, which later attempts at it know again."""

from dataclasses import dataclass
from typing import Self

from openai.types.beta.threads import Message, MessageContentPartParam, Run

from replyd.adapters.openai.assistants_api import AssistantsApi, NewMessage, NotFoundError
from replyd.errors import Permanent
from replyd.ports import File, Line, ModelRequest

IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")  # what vision takes


@dataclass(frozen=True, slots=True)
class Mark:
    """By what a turn's messages and runs are known again: its first and its last message. The
    first stays when the burst grows. Without it nothing is known again."""

    turn: str
    upto: str

    @classmethod
    def of(cls, request: ModelRequest) -> Self:
        return cls(request.sids[0], request.sids[-1]) if request.sids else cls("", "")

    def metadata(self, **more: str) -> dict[str, str]:
        return {"turn": self.turn, "upto": self.upto, **more} if self.turn else {}

    def is_on(self, item: Message | Run) -> bool:
        """The turn is the same; the burst may have grown since."""
        return (item.metadata or {}).get("turn") == self.turn

    def is_exactly_on(self, item: Message | Run) -> bool:
        return self.is_on(item) and (item.metadata or {}).get("upto") == self.upto


async def turn_message(api: AssistantsApi, request: ModelRequest) -> NewMessage:
    """The customer's message. Images are uploaded; other files, and images that the server does
    not take, are named in the text."""
    images: list[MessageContentPartParam] = []
    unreadable = []
    for number, file in enumerate(request.files, 1):
        if file_id := await _uploaded(api, file):
            images.append({"type": "image_file", "image_file": {"file_id": file_id}})
        else:
            unreadable.append(f"[file {number} ({file.name}) cannot be shown to you]")
    text = "\n".join((request.turn, *unreadable))
    return {
        "role": "user",
        "content": [{"type": "text", "text": text}, *images] if images else text,
        "metadata": Mark.of(request).metadata(),
    }


def line_message(line: Line, metadata: dict[str, str] | None = None) -> NewMessage:
    return {
        "role": "assistant" if line.role == "assistant" else "user",
        "content": line.text,
        "metadata": metadata or {},
    }


def is_turn(message: Message) -> bool:
    """Whether it is the customer's message itself, not a line before it."""
    return message.role == "user" and "line" not in (message.metadata or {})


async def _uploaded(api: AssistantsApi, file: File) -> str:
    """The id of an image; empty for other files, and when the server does not take it."""
    if file.content_type not in IMAGES:
        return ""
    try:
        return await api.upload_image(file)
    except (Permanent, NotFoundError):
        return ""
