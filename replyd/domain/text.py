"""Texts: opt-out words, and replies that fit the channel."""

import unicodedata
from functools import lru_cache

from replyd.domain.splitting import Splitter

# Twilio refuses longer bodies (errors 21617, 21658).
MAX_BODY = 1600

# WhatsApp's marks for struck-out and fixed-width text; those for bold and italic are punctuation.
_MARKS = "~`"


def normalised(text: str) -> str:
    """A message as it is compared with opt-out words: case, full width, invisible characters,
    outer space and punctuation aside."""
    if text.isascii():
        plain = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", text).casefold()
        plain = "".join(c for c in folded if unicodedata.category(c) != "Cf")
    line = " ".join(plain.split())
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
    """The reply in parts of at most `limit` UTF-16 units, without white space around them: cut at
    a paragraph, else a line, a sentence, a word, and inside a word only where one alone is longer.

    What is one to the reader stays whole where it fits into a part: a character with its accents
    or of several emoji, a web or e-mail address, a telephone number, text in WhatsApp's marks.
    Longer formatted text is closed at a part's end and reopened in the next, and a quote goes on
    as one; below 40 units nothing is.

    A character of two units is never cut, so that a limit of 1 counts as 2."""
    text, limit = text.strip(), max(2, limit)
    if units(text) <= limit:
        return (text,) if text else ()
    return tuple(Splitter(text, limit).parts())
