"""The text inside a paragraph: its emphasis, links and code in a channel's marks."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from replyd.domain.formatting.marks import Emphasis, Marks

# The parser drops what is nested deeper; a text that comes near is left as it is.
MAX_NESTING = 20

_RULES = (
    *("paragraph", "heading", "list", "blockquote", "fence", "table", "hr"),
    *("text", "escape", "backticks", "strikethrough", "emphasis", "link", "image"),
    *("balance_pairs", "fragments_join"),
)
_EMPHASIS = {"strong": Emphasis.BOLD, "em": Emphasis.ITALIC, "s": Emphasis.STRIKE}
# The rest of an address behind its scheme. A mark belongs to it in pairs, or where it goes on.
_ADDRESS = re.compile(
    r"""://(?:[^\s<>"`|()\[\]*_~\\]+|\([^\s()*]*\)"""
    r"""|(?<=[=/?&#:,.-])([*_~])[^\s*_~()\[\]]+\1(?!\1)|[*_~]+(?=[\w/=&?#%+-]))+"""
)
# Bold that Markdown does not take for bold: "**Note: **", "**“Note”**text".
_LOOSE = re.compile(r"(?<!\*)\*\*(?!\*)(?=[^*\n]*[^\W\d_])([^*\n]+)\*\*(?!\*)")
# Scripts without spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0003ffff]")
_SCHEME = re.compile(r"^(?:https?://(?:www\.)?|mailto:|tel:)", re.IGNORECASE)


class _Markdown(MarkdownIt):
    """Leaves the destinations of links as they are."""

    def normalizeLink(self, url: str) -> str:  # noqa: N802
        return url

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802
        return True


def _address(state: StateInline, silent: bool) -> bool:
    """A bare web address, in which "*" and "_" are no Markdown."""
    if state.src[state.pos] != ":":
        return False
    if not state.src[max(0, state.pos - 5) : state.pos].lower().endswith(("http", "https")):
        return False
    found = _ADDRESS.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


MARKDOWN = _Markdown("zero", {"maxNesting": MAX_NESTING}).enable(_RULES)
MARKDOWN.inline.ruler.before("escape", "address", _address)


@dataclass(slots=True)
class _Span:
    """Characters of the text without marks. `markup`: what stood around them in Markdown;
    `loose`: only we take it for a mark."""

    start: int
    end: int
    kind: Emphasis
    markup: str
    loose: bool = False


class _Text:
    """A paragraph's text without its marks, and where they go."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.spans: list[_Span] = []

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def end_link(self, part: int, url: str) -> None:
        """What was added from `part` on is a link's text."""
        label = "".join(self.parts[part:])
        target = re.sub(r"^(?:mailto|tel):", "", url)
        if not url or label == target:
            return
        if label.strip() and _host_form(label) != _host_form(url):
            self.add(f" ({target})")
            return
        start = self.length - len(label)
        del self.parts[part:]
        self.length = start
        self.add(target)
        for span in reversed(self.spans):
            if span.start < start:
                break
            span.start, span.end = start, self.length

    def add_text(self, text: str) -> None:
        at = 0
        while found := _LOOSE.search(text, at):
            self.add(text[at : found.start()])
            start = self.length
            self.add(found[1])
            self.spans.append(_Span(start, self.length, Emphasis.BOLD, "**", loose=True))
            at = found.end()
        self.add(text[at:])


def inline(content: str, marks: Marks, heading: bool = False) -> str:
    if not content:
        return ""
    tokens: list[Token] = []
    MARKDOWN.inline.parse(content, MARKDOWN, {}, tokens)
    text = _Text()
    opened: list[_Span] = []
    label, href = 0, ""
    for token in tokens:
        kind, _, side = token.type.partition("_")
        if kind in _EMPHASIS and side == "open":
            opened.append(_Span(text.length, 0, _EMPHASIS[kind], token.markup))
            text.spans.append(opened[-1])
        elif kind in _EMPHASIS:
            opened.pop().end = text.length
        elif token.type == "link_open":
            label, href = len(text.parts), str(token.attrs["href"])
        elif token.type == "link_close":
            text.end_link(label, href)
        elif token.type == "image":
            image = len(text.parts)
            text.add(token.content)
            text.end_link(image, str(token.attrs["src"]))
        elif token.type == "text":
            text.add_text(token.content)
        else:
            text.add(_verbatim(token, marks))
    if heading:
        text.spans.append(_Span(0, text.length, Emphasis.BOLD, ""))
    return _marked("".join(text.parts), text.spans, marks)


def _verbatim(token: Token, marks: Marks) -> str:
    """Code, an escaped character, or a line's end."""
    if token.type == "code_inline":
        ticks = marks.block if len(token.markup) > 1 else marks.code
        return f"{ticks}{token.content}{ticks}"
    return token.content or "\n"


def _host_form(url: str) -> str:
    return _SCHEME.sub("", url.strip()).rstrip("/").casefold()


def _marked(text: str, spans: Sequence[_Span], marks: Marks) -> str:
    """The text with its marks; of marks of one kind inside one another, the outermost."""
    opening: defaultdict[int, list[str]] = defaultdict(list)
    closing: defaultdict[int, list[str]] = defaultdict(list)
    marked_to: defaultdict[Emphasis, int] = defaultdict(int)
    for span in sorted(spans, key=lambda s: (s.start, -s.end, s.kind)):
        if span.start < marked_to[span.kind]:
            continue
        places = _places(text, span)
        if places is None:
            opening[span.start].append(span.markup)
            closing[span.end].append(span.markup)
            continue
        for start, end in places:
            opening[start].append(marks.emphasis[span.kind])
            closing[end].append(marks.emphasis[span.kind])
            marked_to[span.kind] = span.end
    out: list[str] = []
    done = 0
    for at in sorted(opening.keys() | closing.keys()):
        out += (text[done:at], *reversed(closing[at]), *opening[at])
        done = at
    return "".join((*out, text[done:]))


def _places(text: str, span: _Span) -> list[tuple[int, int]] | None:
    """Where its marks go, line by line and without outer spaces; nowhere, when WhatsApp would
    show them as they are; None when they are no marks at all."""
    start, end = _stripped(text, span.start, span.end)
    if start == end:
        return []
    if span.loose and not _is_meant(text, span):
        return None
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if _is_word(before) or _is_word(after):
        return None if _is_literal(text, span, before, after) else []
    places = []
    while start < end:
        stop = text.find("\n", start, end)
        line_end = end if stop < 0 else stop
        first, last = _stripped(text, start, line_end)
        if first < last:
            places.append((first, last))
        start = line_end + 1
    return places


def _is_meant(text: str, span: _Span) -> bool:
    """Whether "**" that is no mark in Markdown was meant as one."""
    before = text[span.start - 1] if span.start else "\n"
    if text[span.start].isspace():
        return before == "\n" or not text[span.end - 1].isspace()
    return not _is_word(before) or bool(_UNSPACED.match(before))


def _is_literal(text: str, span: _Span, before: str, after: str) -> bool:
    """Whether marks that touch a word are rather meant as they are: 2*3*4, 2**8, f**k and s**t."""
    if _UNSPACED.match(before) or _UNSPACED.match(after):
        return False
    if span.kind is Emphasis.ITALIC:
        return True
    first, last = text[span.start], text[span.end - 1]
    if (before.isdigit() and first.isdigit()) or (last.isdigit() and after.isdigit()):
        return True
    return (
        _is_word(before)
        and _is_word(after)
        and (
            text.find(" ", span.start, span.end) >= 0
            or any(c.isdigit() for c in (before, first, last, after))
        )
    )


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _is_word(character: str) -> bool:
    """Whether WhatsApp takes no mark beside it; of accents that stand alone, too."""
    return (
        character.isalnum() or character == "_" or unicodedata.category(character or " ")[0] == "M"
    )
