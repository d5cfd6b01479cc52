"""Texts: opt-out words, and replies that fit the channel."""

import re
import unicodedata
from functools import lru_cache

# Twilio refuses longer bodies (errors 21617, 21658).
MAX_BODY = 1600

# Chinese and Japanese put no space behind a full stop.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*")
# WhatsApp's marks for struck-out and fixed-width text; those for bold and italic are punctuation.
_MARKS = "~`"


def normalised(text: str) -> str:
    """A message as it is compared with opt-out words: case, full width, invisible characters,
    outer space and punctuation aside."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c for c in plain if unicodedata.category(c) != "Cf").split()
    line = " ".join(words)
    start, end = 0, len(line)
    while start < end and _is_outer(line[start]):
        start += 1
    while end > start and _is_outer(line[end - 1]):
        end -= 1
    return line[start:end]


def _is_outer(character: str) -> bool:
    return character in _MARKS or unicodedata.category(character)[0] in "PZC"


def is_word(text: str, words: tuple[str, ...]) -> bool:
    """Whether the whole message is one of these words; a message without words never is."""
    plain = normalised(text)
    return plain != "" and plain in _all_normalised(words)


@lru_cache(maxsize=16)
def _all_normalised(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normalised, words))


def units(text: str) -> int:
    """Length in UTF-16 code units, the most that a vendor can mean by characters."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def split_reply(text: str, limit: int = MAX_BODY) -> tuple[str, ...]:
    """The reply in parts of at most `limit` UTF-16 units, cut at a paragraph, else a line, a
    sentence, a word, and inside a word only where one alone is longer.

    A character of two units is never cut, so that a limit of 1 counts as 2 there."""
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
    for separator in ("\n\n", "\n"):
        at = text.rfind(separator, 0, end + len(separator))
        if at > end // 3:
            return at
    head = text[: end + 1]
    sentences = [m.start() for m in _SENTENCE_END.finditer(head) if m.start() <= end]
    if sentences and sentences[-1] > end // 3:
        return sentences[-1]
    word = max(head.rfind(" "), head.rfind("\n"), head.rfind("\t"))
    return word if word > 0 else end


def _fitting(text: str, limit: int) -> int:
    """How many characters of `text` fit into `limit` UTF-16 units; one at least, or there would
    be no end to the parts."""
    end = min(limit, len(text))
    while units(text[:end]) > limit:
        end -= max(1, (units(text[:end]) - limit) // 2)
    return max(1, end)
