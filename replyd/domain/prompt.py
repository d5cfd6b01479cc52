"""What the model reads: messages as text, a burst as one turn, the history as lines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replyd.domain.messages import InboundMessage, Media

_KINDS = (
    ("image/webp", "a sticker or picture"),
    ("image/", "a picture"),
    ("audio/", "a voice note"),
    ("video/", "a video"),
    ("text/vcard", "a contact"),
    ("text/x-vcard", "a contact"),
    ("text/directory", "a contact"),
    ("application/pdf", "a PDF document"),
)


def readable(message: InboundMessage) -> str:
    """A message of any type as text. What has no text says in brackets what it was."""
    lines = [*_choice(message), *_reaction(message), *_location(message)]
    body = message.body.strip()
    if (body and not lines) or (body and body not in " ".join(lines)):
        lines.insert(0, message.body)
    lines += [_media(m) for m in message.media]
    if lines:
        return "\n".join(lines)
    kind = message.param("MessageType") or "unknown"
    return f"[sent a message without text, of type {kind[:40]}]"


def _media(media: Media) -> str:
    kind = next(
        (name for prefix, name in _KINDS if media.content_type.lower().startswith(prefix)),
        "a file",
    )
    shown = media.content_type[:60] or "unknown type"
    return f"[sent {kind} ({shown}); its contents cannot be seen here]"


def _choice(message: InboundMessage) -> list[str]:
    """A tapped button or a picked list entry. Its text is what the customer saw and chose."""
    if text := message.param("ButtonText"):
        payload = message.param("ButtonPayload")
        return [f'[tapped the button "{text}"' + (f", id {payload}]" if payload else "]")]
    if payload := message.param("ButtonPayload"):
        return [f"[tapped a button, id {payload}]"]
    listed = {"title": message.param("ListTitle"), "id": message.param("ListId")}
    listed = _from_interactive_data(message.param("InteractiveData")) or listed
    if listed.get("title") or listed.get("id"):
        title, chosen = listed.get("title") or "an entry", listed.get("id")
        return [f'[chose "{title}" from the list' + (f", id {chosen}]" if chosen else "]")]
    return []


def _from_interactive_data(raw: str) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        data = json.loads(raw)
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    for name in ("list_reply", "button_reply"):
        found = data.get(name) or (data.get("interactive") or {}).get(name)
        if isinstance(found, dict):
            return found
    return {}


def _reaction(message: InboundMessage) -> list[str]:
    if message.param("MessageType").lower() != "reaction":
        return []
    emoji = message.param("ReactionEmoji") or message.body.strip()
    return [f"[reacted with {emoji}]" if emoji else "[took a reaction back]"]


def _location(message: InboundMessage) -> list[str]:
    latitude, longitude = message.param("Latitude"), message.param("Longitude")
    if not latitude or not longitude:
        return []
    named = [t for t in (message.param("Label"), message.param("Address")) if t]
    return [f"[shared a location: {', '.join([*named, f'{latitude}, {longitude}'])}]"]


def burst(messages: Iterable[InboundMessage]) -> str:
    """A burst as one user turn, in order."""
    return "\n".join(readable(m) for m in messages)


def unseen_by_thread(
    history: Sequence[Mapping[str, Any]], thread_id: str
) -> Sequence[Mapping[str, Any]]:
    """The history that the vendor's thread does not contain: what people and handoffs added
    after the thread's last response. Entries that replyd did not write carry no `turn_id`; a
    thread that somebody else started is taken to contain those."""
    for index in range(len(history) - 1, -1, -1):
        if history[index].get("response_id") == thread_id:
            return history[index + 1 :]
    return [e for e in history if e.get("turn_id") and not e.get("response_id")]


def lines(history: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """History entries as (role, text); what has no text or another role is left out."""
    return [
        ("assistant" if e.get("role") in ("assistant", "human", "agent") else "user", e["content"])
        for e in history
        if e.get("role") in ("user", "assistant", "human", "agent")
        and isinstance(e.get("content"), str)
        and e["content"]
    ]
