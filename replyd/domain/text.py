"""Texts: opt-out words, and replies that fit the channel."""

import re

# Twilio refuses longer bodies (errors 21617, 21658).
MAX_BODY = 1600

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+")


def normalised(text: str) -> str:
    """A message as it is compared with opt-out words: case, outer space and punctuation aside."""
    return " ".join(text.casefold().split()).strip(" .!?\"'“”‘’")


def is_word(text: str, words: tuple[str, ...]) -> bool:
    """Whether the whole message is one of these words."""
    return normalised(text) in {normalised(word) for word in words}


def units(text: str) -> int:
    """Length in UTF-16 code units, the most that a vendor can mean by characters."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def split_reply(text: str, limit: int = MAX_BODY) -> tuple[str, ...]:
    """The reply in parts of at most `limit` UTF-16 units, cut at a paragraph, else a line, a
    sentence, a word, and inside a word only where one alone is longer."""
    parts: list[str] = []
    rest = text.strip()
    while units(rest) > limit:
        cut = _cut(rest, limit)
        parts.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return (*parts, rest) if rest else tuple(parts)


def _cut(text: str, limit: int) -> int:
    """Where to end the first part: after the last separator that fits and is not too early."""
    end = _fitting(text, limit)
    head = text[: end + 1]
    for separator in ("\n\n", "\n"):
        at = head.rfind(separator)
        if at > end // 3:
            return at
    sentences = [m.start() for m in _SENTENCE_END.finditer(head) if m.start() <= end]
    if sentences and sentences[-1] > end // 3:
        return sentences[-1]
    word = max(head.rfind(" "), head.rfind("\n"))
    return word if word > 0 else end


def _fitting(text: str, limit: int) -> int:
    """How many characters of `text` fit into `limit` UTF-16 units."""
    end = min(limit, len(text))
    while units(text[:end]) > limit:
        end -= max(1, (units(text[:end]) - limit) // 2)
    return end
