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
    # Twilio repeats in Body what was tapped, picked or reacted with.
    if body and not (lines and body in _repeated(message)):
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


def _repeated(message: InboundMessage) -> set[str]:
    shown = [message.param(n) for n in ("ButtonText", "ListTitle", "Label", "Address")]
    _, title, _ = _from_interactive_data(message.param("InteractiveData"))
    emoji = (message.param("ReactionEmoji") or message.body) if _is_reaction(message) else ""
    return {text.strip() for text in (*shown, title, emoji)}


def _choice(message: InboundMessage) -> list[str]:
    """A tapped button or a picked list entry. Its text is what the customer saw and chose."""
    kind, title, chosen = _from_interactive_data(message.param("InteractiveData"))
    if kind != "list_reply":
        title = message.param("ButtonText") or title
        chosen = message.param("ButtonPayload") or chosen
        if title:
            return [f'[tapped the button "{title}"' + (f", id {chosen}]" if chosen else "]")]
        if chosen:
            return [f"[tapped a button, id {chosen}]"]
    title = title or message.param("ListTitle")
    chosen = chosen or message.param("ListId")
    if title or chosen:
        title = title or "an entry"
        return [f'[chose "{title}" from the list' + (f", id {chosen}]" if chosen else "]")]
    return []


def _from_interactive_data(raw: str) -> tuple[str, str, str]:
    """Kind, title and id of what was chosen; empty where the JSON shows none."""
    try:
        data = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return "", "", ""
    for place in (data, data.get("interactive") if isinstance(data, dict) else None):
        for kind in ("list_reply", "button_reply"):
            found = place.get(kind) if isinstance(place, dict) else None
            if isinstance(found, dict):
                title, chosen = found.get("title"), found.get("id")
                return (
                    kind,
                    title if isinstance(title, str) else "",
                    str(chosen) if isinstance(chosen, str | int) else "",
                )
    return "", "", ""


def _is_reaction(message: InboundMessage) -> bool:
    return message.param("MessageType").lower() == "reaction"


def _reaction(message: InboundMessage) -> list[str]:
    if not _is_reaction(message):
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
    thread that somebody else started is taken to contain those, and turns that the AI answered
    in another thread stay there, question and answer."""
    for index in range(len(history) - 1, -1, -1):
        if history[index].get("response_id") == thread_id:
            return history[index + 1 :]
    answered = {str(e.get("turn_id")) for e in history if e.get("response_id")}
    return [e for e in history if e.get("turn_id") and str(e["turn_id"]) not in answered]


def lines(history: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """History entries as (role, text); what has no text or another role is left out."""
    return [
        ("assistant" if e.get("role") in ("assistant", "human", "agent") else "user", e["content"])
        for e in history
        if e.get("role") in ("user", "assistant", "human", "agent")
        and isinstance(e.get("content"), str)
        and e["content"]
    ]
