"""A contact that a customer shares, as a line of text. vCard, RFC 6350: what people read of it."""

import re

MAX_CHARACTERS = 300

_FOLDED = re.compile(r"\r?\n[ \t]")
_ESCAPED = re.compile(r"\\([\\,;nN])")
# Ahead of the name there may be a group, behind it parameters.
_LINE = re.compile(r"(?:[\w-]+\.)?(FN|ORG|TEL|EMAIL)(?:;[^:\n]*)?:(.+)", re.IGNORECASE)


def contacts(data: bytes) -> str:
    """Names, companies, numbers and addresses in the order of the card, shortened; empty where
    there are none."""
    text = _FOLDED.sub("", data.decode("utf-8", "replace"))
    found: list[str] = []
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line.strip())) is None:
            continue
        value = _ESCAPED.sub(lambda m: " " if m[1] in "nN" else m[1], match[2])
        value = " ".join(value.removeprefix("tel:").replace(";", " ").split())
        if value and value not in found:
            found.append(value)
    shown = ", ".join(found)
    return shown if len(shown) <= MAX_CHARACTERS else shown[:MAX_CHARACTERS] + "…"
