"""What the model reads: messages as text, a burst as one turn, the history as lines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replyd.domain.delivery import NOT_DELIVERED, UNKNOWN
from replyd.domain.messages import InboundMessage, Media
from replyd.domain.notes import foreign, note, quoted
from replyd.domain.record import iso

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


_QUOTED_AT_MOST = 300


def readable(
    message: InboundMessage, *, reply_to: str = "", notes: Mapping[int, str] | None = None
) -> str:
    """A message of any type as text. What has no text says in a note what it was. `reply_to`: what
    it replies to; `notes`: what is known of its files, by their place."""
    lines = [*_choice(message), *_reaction(message), *_location(message)]
    body = message.body.strip()
    # Twilio repeats in Body what was tapped, picked or reacted with.
    if body and not (lines and body in _repeated(message)):
        lines.insert(0, foreign(message.body))
    lines += [(notes or {}).get(i) or unread(m) for i, m in enumerate(message.media)]
    if not lines:
        kind = message.param("MessageType") or "unknown"
        lines.append(note(f"sent a message without text, of type {quoted(kind[:40])}"))
    lines[:0] = _circumstances(message, reply_to)
    return "\n".join(lines)


def _circumstances(message: InboundMessage, reply_to: str) -> list[str]:
    """How the message came: what it replies to, whose words it may be, which advertisement."""
    lines = [note(f'in reply to "{quoted(reply_to)}"')] if reply_to else []
    if "true" in (message.param(n).lower() for n in ("Forwarded", "FrequentlyForwarded")):
        lines.append(note("forwarded: these need not be the customer's own words"))
    shown = [message.param(n).strip() for n in ("ReferralHeadline", "ReferralBody")]
    if any(shown) or message.param("ReferralSourceUrl"):
        about = quoted(" - ".join(filter(None, shown)))[:_QUOTED_AT_MOST]
        lines.append(note(f'came from the advertisement "{about}"' if about else "came from an ad"))
    return lines


def unread(media: Media, why: str = "its contents cannot be seen here") -> str:
    """A file whose contents the model does not get."""
    return note(f"sent {_named(media)}; {why}")


def shown(media: Media, number: int) -> str:
    """A file that the model gets as its file `number`."""
    return note(f"sent {_named(media)}: file {number}")


def contact(details: str) -> str:
    """A contact, by what its card says."""
    shown = quoted(details)
    return note(f"shared a contact: {shown}" if shown else "shared a contact without details")


def heard(words: str) -> str:
    """A voice note."""
    return (
        f"{note('voice note')} {foreign(words)}"
        if words
        else note("sent a voice note without words")
    )


def _named(media: Media) -> str:
    kind = next(
        (name for prefix, name in _KINDS if media.content_type.lower().startswith(prefix)),
        "a file",
    )
    return f"{kind} ({quoted(media.content_type[:60]) or 'unknown type'})"


def quoted_sid(message: InboundMessage) -> str:
    """The SID of what a message replies to; empty for no reply."""
    return message.param("OriginalRepliedMessageSid")


def quoted_text(message: InboundMessage, known: Mapping[str, str]) -> str:
    """What a message replies to, shortened; `known`: texts by their SID. Empty for no reply."""
    if not (sid := quoted_sid(message)):
        return ""
    text = " ".join(known.get(sid, "").split())
    if not text:
        return "an earlier message"
    return text if len(text) <= _QUOTED_AT_MOST else text[:_QUOTED_AT_MOST] + "…"


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
            return [note(f'tapped the button "{quoted(title)}"{_with_id(chosen)}')]
        if chosen:
            return [note(f"tapped a button{_with_id(chosen)}")]
    title = title or message.param("ListTitle")
    chosen = chosen or message.param("ListId")
    if title or chosen:
        title = title or "an entry"
        return [note(f'chose "{quoted(title)}" from the list{_with_id(chosen)}')]
    return []


def _with_id(chosen: str) -> str:
    return f", id {quoted(chosen)}" if chosen else ""


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
    return [note(f"reacted with {quoted(emoji)}" if emoji else "took a reaction back")]


def _location(message: InboundMessage) -> list[str]:
    latitude, longitude = message.param("Latitude"), message.param("Longitude")
    if not latitude or not longitude:
        return []
    named = [t for t in (message.param("Label"), message.param("Address")) if t]
    place = quoted(", ".join([*named, latitude, longitude]))
    return [note(f"shared a location: {place}")]


def burst(messages: Sequence[tuple[int, str]]) -> str:
    """A burst as one user turn, in order; messages given as (arrival, epoch ms, and text). Several
    messages tell when each one came, UTC."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n".join(f"{note(iso(at)[11:19])} {text}" for at, text in messages)


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
        ("assistant" if e.get("role") in _ANSWERING else "user", _said(e))
        for e in history
        if e.get("role") in ("user", *_ANSWERING)
        and isinstance(e.get("content"), str)
        and e["content"]
    ]


def _said(entry: Mapping[str, Any]) -> str:
    """What replyd wrote down of a customer is as `readable` made it; only there are notes."""
    content: str = entry["content"]
    if entry.get("role") == "user" and entry.get("turn_id"):
        return content
    return foreign(content) + _fate(entry)


_ANSWERING = ("assistant", "human", "agent")
_FATES = dict.fromkeys(NOT_DELIVERED, "this was never delivered to the customer") | {
    UNKNOWN: "perhaps this never reached the customer"
}


def _fate(entry: Mapping[str, Any]) -> str:
    fate = _FATES.get(str(entry.get("delivery", "")))
    return f"\n{note(fate)}" if fate and entry.get("role") in _ANSWERING else ""


def undelivered(history: Sequence[Mapping[str, Any]], thread_id: str) -> list[tuple[str, str]]:
    """What the vendor's thread takes for said last, and the customer never saw: as lines for it."""
    answers = [e for e in history if thread_id and e.get("response_id") == thread_id]
    return [
        (
            "user",
            note(f"of your last answer, this was never delivered to the customer: {quoted(text)}"),
        )
        for e in answers
        if e.get("turn_id") == answers[-1].get("turn_id")
        and str(e.get("delivery", "")) in NOT_DELIVERED
        and isinstance(text := e.get("content"), str)
    ]
