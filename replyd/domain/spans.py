"""What a reader takes for one thing: addresses, telephone numbers, text in WhatsApp's marks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# The digits of a telephone number without its area. No most: two may stand side by side.
_PHONE_DIGITS = 7

# In a web address a mark is a part of it in pairs, or where it goes on behind it.
_ADDRESS = re.compile(
    r"""(?<![a-z\d])(?:
        (?P<url>(?:https?://|www\.|wa\.me/)(?:
            [^\s<>"`|()\[\]*_~\u3000-\u303f\uff00-\uff0f\uff1a-\uff20]+
            |\([^\s()*]*\)
            |(?<=[=/?&\#:,.-])(?P<mark>[*_~])[^\s*_~()\[\]]+(?P=mark)(?!(?P=mark))
            |[*_~]+(?=[^\W_]|[/=&?\#%+(-])
        )+)
        |(?<![a-z\d_.%+-])_*+(?P<mail>[a-z\d][a-z\d_.%+-]*+@[\w-]++(?:\.[\w-]++)++)
        |(?P<phone>\+?\(?\d{1,15}+\)?(?:[ \xa0./\u2011-]{0,2}+\(?\d{1,15}+\)?){0,9}+(?![a-z\d]))
    )[.,;:!?*_~)\]}'»”’…]*+""",
    re.VERBOSE | re.IGNORECASE,
)
# What an address does not end with.
_NO_END = {"url": ".,;:!?'»”’…", "mail": "_-", "phone": ""}
_TOKEN = re.compile(r"```.+?```|`[^`\n]+`|[*_~\n]|^> (?=[^\n])", re.DOTALL | re.MULTILINE)
_EMPHASIS = "*_~"
QUOTE, BLOCK = "> ", "```\n"


@dataclass(frozen=True, slots=True)
class Address:
    """`behind`: the end of the punctuation right behind it."""

    start: int
    end: int
    behind: int


@dataclass(frozen=True, slots=True)
class Span:
    """Text with marks around it. `head`, `tail`: where that which they enclose begins and ends;
    `opening`, `closing`: what a part that is cut inside begins and ends with."""

    start: int
    head: int
    tail: int
    end: int
    opening: str
    closing: str


def find_addresses(text: str) -> list[Address]:
    """Web and e-mail addresses and telephone numbers, in their order. A few numbers with nothing
    but spaces between them count as one."""
    found = []
    for match in _ADDRESS.finditer(text):
        kind = next(kind for kind in _NO_END if match[kind])
        start, address = match.start(kind), match[kind].rstrip(_NO_END[kind])
        if kind != "phone" or sum(c.isdigit() for c in address) >= _PHONE_DIGITS:
            found.append(Address(start, start + len(address), match.end()))
    return found


def find_spans(text: str, addresses: Sequence[Address]) -> list[Span]:
    """What WhatsApp shows as formatted (https://faq.whatsapp.com/539178204879377). All but a
    block of code ends with its line, and none begins in an address."""
    spans: list[Span] = []
    opened: list[tuple[str, int]] = []
    upcoming = iter(addresses)
    address = next(upcoming, None)
    for token in _TOKEN.finditer(text):
        mark, at = token[0], token.start()
        while address and address.end <= at:
            address = next(upcoming, None)
        if mark == "\n":
            spans += _quote(opened, at)
            opened.clear()
        elif mark[0] == "`":
            spans += _code(mark, at)
            if "\n" in mark:
                opened.clear()
        elif mark == QUOTE:
            opened.append((QUOTE, at))
        elif not address or at < address.start:
            spans += _emphasis(text, mark, at, opened)
    return [*spans, *_quote(opened, len(text))]


def _quote(opened: Sequence[tuple[str, int]], end: int) -> list[Span]:
    return [Span(at, at + 2, end, end, QUOTE, "") for mark, at in opened if mark == QUOTE]


def _code(code: str, at: int) -> list[Span]:
    end = at + len(code)
    if not code.startswith("```"):
        return [Span(at, at + 1, end - 1, end, "`", "`")]
    content = code[3:-3]
    head = at + 3 + len(content) - len(content.lstrip())
    tail = end - 3 - len(content) + len(content.rstrip())
    if head >= tail:
        return []
    is_block = "\n" in content
    return [Span(at, head, tail, end, *((BLOCK, "\n```") if is_block else ("```", "```")))]


def _emphasis(text: str, mark: str, at: int, opened: list[tuple[str, int]]) -> list[Span]:
    """The span that this mark ends, if any; otherwise it may open one."""
    before = text[max(0, at - 3) : at].rstrip(_EMPHASIS)[-1:]
    after = text[at + 1 : at + 4].lstrip(_EMPHASIS)[:1]
    outer = next((n for n, (m, _) in enumerate(opened) if m == mark), None)
    if outer is not None:
        start = opened[outer][1]
        if start + 1 < at and not text[at - 1].isspace() and not after.isalnum():
            del opened[outer:]
            return [Span(start, start + 1, at, at + 1, mark, mark)]
    elif not before.isalnum() and not text[at + 1 : at + 2].isspace():
        opened.append((mark, at))
    return []
