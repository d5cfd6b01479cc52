"""replyd's own notes in what the model reads: lines that no customer can write.

A note stands in square brackets at the beginning of a line, behind the time in a burst. Text that
somebody else wrote never begins a line with such a bracket, and has none inside a note.
"""

import re
import unicodedata

# Seen as nothing at all, though they are letters and symbols to Unicode.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
_OPENING, _CLOSING = "[\ufe47\uff3b", "]\ufe48\uff3d"
_BRACKET = re.compile(f"[{re.escape(_OPENING)}]")
_INSIDE = str.maketrans(dict.fromkeys(_OPENING, "(") | dict.fromkeys(_CLOSING, ")") | {'"': "'"})


def note(text: str) -> str:
    """`text` is replyd's own; what others wrote goes into it through `quoted`."""
    return f"[{text}]"


def quoted(text: str) -> str:
    """What somebody else wrote, for the inside of a note: on one line, without square brackets and
    double quotes, so that it ends neither the note nor a quotation in it."""
    return " ".join(text.translate(_INSIDE).split())


def foreign(text: str) -> str:
    """What somebody else wrote, as lines of their own: a bracket at the beginning of a line, also
    behind what cannot be seen, gets a backslash, as in Markdown. All else stays as it is."""
    if not _BRACKET.search(text):
        return text
    return "".join(_escaped(line) for line in text.splitlines(keepends=True))


def _escaped(line: str) -> str:
    at = next((i for i, c in enumerate(line) if not _is_unseen(c)), len(line))
    return f"{line[:at]}\\{line[at:]}" if line[at : at + 1] in tuple(_OPENING) else line


def _is_unseen(character: str) -> bool:
    # Separators, controls and formats, marks without a letter.
    return character in _BLANK or unicodedata.category(character)[0] in "ZCM"
