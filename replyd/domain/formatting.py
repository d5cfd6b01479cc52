"""A model's Markdown, written in WhatsApp's own formatting."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

# The parser drops what is nested deeper; a text that comes near is left as it is.
MAX_NESTING = 20

_RULES = (
    *("paragraph", "heading", "list", "blockquote", "fence", "table", "hr"),
    *("text", "escape", "backticks", "strikethrough", "emphasis", "link", "image"),
    *("balance_pairs", "fragments_join"),
)
# Marks in the order in which they enclose one another where they mean the same text.
_BOLD, _ITALIC, _STRIKE = "*", "_", "~"
_MARKS = {"strong": _BOLD, "em": _ITALIC, "s": _STRIKE}
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
_TASK = re.compile(r"\[([ xX])\]\s+(?=\S)")


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


_MARKDOWN = _Markdown("zero", {"maxNesting": MAX_NESTING}).enable(_RULES)
_MARKDOWN.inline.ruler.before("escape", "address", _address)


def whatsapp(text: str) -> str:
    """The text as WhatsApp writes it (https://faq.whatsapp.com/539178204879377): bold, italic,
    struck out, code, lists and quotes in its marks; headings in bold; a link as "text (url)"; a
    table as a line for each row; nested bullets as "◦", since WhatsApp has lists of one level.

    Text without Markdown stays as it is, but for trailing space and more than two blank lines in
    a row. Text in WhatsApp's form is read as Markdown: "*bold*" becomes "_bold_". Bold and the
    like end at a line's end and begin again on the next; inside a word, where WhatsApp would show
    the marks, they are dropped, except where they are likely to be arithmetic or masked text.

    Never raises. Takes about 15 µs a character at worst."""
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    tokens: list[Token] = []
    _MARKDOWN.block.parse(source, _MARKDOWN, {}, tokens)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return text
    writer = _Writer(source.split("\n"))
    return "\n".join(writer.blocks(SyntaxTreeNode(tokens).children)).rstrip()


# --- blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Writer:
    """`source`: the lines that the nodes' maps count."""

    source: Sequence[str]

    def blocks(
        self, nodes: Sequence[SyntaxTreeNode], depth: int = 0, quoted: bool = False
    ) -> list[str]:
        """`depth`: of lists; `quoted`: inside a quote, whose mark the outermost one writes."""
        lines: list[str] = []
        for number, node in enumerate(nodes):
            if number:
                lines += self._gap(node)
            lines += self._block(node, depth, quoted)
        return lines

    def _gap(self, node: SyntaxTreeNode) -> list[str]:
        """The blank lines above, at most two."""
        start = _lines_of(node)[0]
        above = [line.strip(" \t>") for line in self.source[max(0, start - 2) : start]]
        blank = next((n for n, line in enumerate(reversed(above)) if line), len(above))
        return [""] * blank

    def _block(self, node: SyntaxTreeNode, depth: int, quoted: bool) -> list[str]:
        match node.type:
            case "bullet_list" | "ordered_list":
                return self._list(node, depth, quoted)
            case "blockquote":
                lines = self.blocks(node.children, 0, True)
                return lines if quoted else [f"> {line}" if line else "" for line in lines]
            case "fence":
                return self._fence(node, quoted)
            case "table":
                return _table(node)
            case "heading":
                return [_inline(node.children[0].content, heading=True) or node.markup]
            case "hr":
                return ["———"]
            case _:
                return self._paragraph(node)

    def _paragraph(self, node: SyntaxTreeNode) -> list[str]:
        start, end = _lines_of(node)
        if node.level == 0:
            # The parser's own copy has lost the indentation.
            return _trimmed(_inline("\n".join(self.source[start:end])))
        return [line.lstrip() for line in _trimmed(_inline(node.children[0].content))]

    def _list(self, node: SyntaxTreeNode, depth: int, quoted: bool) -> list[str]:
        lines: list[str] = []
        markers = _markers(node, depth)
        for number, (item, marker) in enumerate(zip(node.children, markers, strict=True)):
            if number:
                lines += self._gap(item)
            lines += self._item(item, "    " * depth + marker, depth, quoted)
        return lines

    def _item(self, item: SyntaxTreeNode, marker: str, depth: int, quoted: bool) -> list[str]:
        if not item.children:
            return [marker]
        first, *rest = item.children
        if first.type not in ("paragraph", "heading"):
            return [marker, *self.blocks(item.children, depth + 1, quoted)]
        head, *more = self._block(first, depth, quoted) or [""]
        if item.markup in "-*+" and (task := _TASK.match(head)):
            marker = f"{marker[: -len(item.markup)]}{'☐' if task[1] == ' ' else '☑'}"
            head = head[task.end() :]
        hang = " " * (len(marker) + 1)
        lines = [f"{marker} {head}".rstrip()]
        lines += [f"{hang}{line}" if self._is_indented(first) else line for line in more]
        for block in rest:
            lines += self._gap(block)
            inner = self._block(block, depth + 1, quoted)
            indent = hang if block.type in ("paragraph", "heading", "table") else ""
            lines += [f"{indent}{line}" if line else "" for line in inner]
        return lines

    def _is_indented(self, paragraph: SyntaxTreeNode) -> bool:
        start, end = _lines_of(paragraph)
        return start + 1 < end and self.source[start + 1][:1] in (" ", "\t")

    def _fence(self, node: SyntaxTreeNode, quoted: bool) -> list[str]:
        end = _lines_of(node)[1]
        content = node.content.removesuffix("\n")
        is_closed = self.source[end - 1].strip(" \t>").startswith(node.markup) and (
            end - 1 > _lines_of(node)[0]
        )
        if not is_closed and ("```" in content or not content.strip()):
            # No block: "```" in a paragraph, or at the end of an answer that was cut off.
            return [f"{node.markup}{node.info}", *_trimmed(content)]
        # One word is the language; more is something that the customer should see.
        head = [node.info.strip()] if len(node.info.split()) > 1 else []
        lines = [*head, *content.split("\n")]
        # WhatsApp ends a block at the first "```", and at the end of a quote's line.
        return lines if quoted or "```" in content else ["```", *lines, "```"]


def _lines_of(node: SyntaxTreeNode) -> tuple[int, int]:
    return node.map or (0, 0)


def _trimmed(text: str) -> list[str]:
    return [line.rstrip(" \t") for line in text.split("\n")] if text.strip() else []


def _markers(node: SyntaxTreeNode, depth: int) -> list[str]:
    items = node.children
    if node.type == "ordered_list":
        numbers = [item.info for item in items]
        if len(items) > 1 and len(set(numbers)) == 1:
            # Markdown counts by itself, WhatsApp does not.
            numbers = [str(int(numbers[0]) + n) for n in range(len(items))]
        return [f"{number}{node.markup}" for number in numbers]
    if depth:
        return ["◦"] * len(items)
    # A single "*" may be a footnote's, and "+" an advantage: "-" would say something else.
    is_list = node.markup == "*" and len(items) > 1
    return ["-" if is_list else node.markup] * len(items)


def _table(node: SyntaxTreeNode) -> list[str]:
    head, *rows = (
        [cell.children[0].content for cell in row.children]
        for part in node.children
        for row in part.children
    )
    values = [[_inline(cell).strip() for cell in row] for row in rows]
    if len(head) > 2 and rows:
        names = [_inline(cell).strip() for cell in head]
        return [_row(names, row) for row in values if any(row)]
    title = _inline(": ".join(filter(None, head)), heading=True)
    return [line for line in (title, *(": ".join(filter(None, row)) for row in values)) if line]


def _row(head: Sequence[str], row: Sequence[str]) -> str:
    cells = [(name, value) for name, value in zip(head, row, strict=True) if value]
    if len(cells) == 1:
        # A line between the rows, or right behind the table.
        return cells[0][1]
    return ", ".join(f"{name}: {value}" if name else value for name, value in cells)


# --- inside a paragraph ------------------------------------------------------------------------


@dataclass(slots=True)
class _Span:
    """Characters of the text without marks. `markup`: what stood around them in Markdown;
    `loose`: only we take it for a mark."""

    start: int
    end: int
    mark: str
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
            self.spans.append(_Span(start, self.length, _BOLD, "**", loose=True))
            at = found.end()
        self.add(text[at:])


def _inline(content: str, heading: bool = False) -> str:
    if not content:
        return ""
    tokens: list[Token] = []
    _MARKDOWN.inline.parse(content, _MARKDOWN, {}, tokens)
    text = _Text()
    opened: list[_Span] = []
    label, href = 0, ""
    for token in tokens:
        kind, _, side = token.type.partition("_")
        if kind in _MARKS and side == "open":
            opened.append(_Span(text.length, 0, _MARKS[kind], token.markup))
            text.spans.append(opened[-1])
        elif kind in _MARKS:
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
            text.add(_verbatim(token))
    if heading:
        text.spans.append(_Span(0, text.length, _BOLD, ""))
    return _marked("".join(text.parts), text.spans)


def _verbatim(token: Token) -> str:
    """Code, an escaped character, or a line's end."""
    if token.type == "code_inline":
        ticks = "```" if len(token.markup) > 1 else "`"
        return f"{ticks}{token.content}{ticks}"
    return token.content or "\n"


def _host_form(url: str) -> str:
    return _SCHEME.sub("", url.strip()).rstrip("/").casefold()


def _marked(text: str, spans: Sequence[_Span]) -> str:
    """The text with its marks; of marks of one kind inside one another, the outermost."""
    opening: defaultdict[int, list[str]] = defaultdict(list)
    closing: defaultdict[int, list[str]] = defaultdict(list)
    marked_to: defaultdict[str, int] = defaultdict(int)
    for span in sorted(spans, key=lambda s: (s.start, -s.end, s.mark)):
        if span.start < marked_to[span.mark]:
            continue
        marks = _marks(text, span)
        if marks is None:
            opening[span.start].append(span.markup)
            closing[span.end].append(span.markup)
            continue
        for start, end in marks:
            opening[start].append(span.mark)
            closing[end].append(span.mark)
            marked_to[span.mark] = span.end
    out: list[str] = []
    done = 0
    for at in sorted(opening.keys() | closing.keys()):
        out += (text[done:at], *reversed(closing[at]), *opening[at])
        done = at
    return "".join((*out, text[done:]))


def _marks(text: str, span: _Span) -> list[tuple[int, int]] | None:
    """Where the marks go, line by line and without outer spaces; nowhere, when WhatsApp would
    show them as they are; None when they are no marks at all."""
    start, end = _stripped(text, span.start, span.end)
    if start == end:
        return []
    if span.loose and not _is_meant(text, span):
        return None
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if _is_word(before) or _is_word(after):
        return None if _is_literal(text, span, before, after) else []
    marks = []
    while start < end:
        stop = text.find("\n", start, end)
        line_end = end if stop < 0 else stop
        first, last = _stripped(text, start, line_end)
        if first < last:
            marks.append((first, last))
        start = line_end + 1
    return marks


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
    if span.mark == _ITALIC:
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
