"""Paragraphs, lists, quotes, code and tables, written in a channel's marks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from replyd.domain.formatting.inline import MARKDOWN, MAX_NESTING, inline
from replyd.domain.formatting.marks import PLAIN, WHATSAPP, Marks

_TASK = re.compile(r"\[([ xX])\]\s+(?=\S)")


def whatsapp(text: str) -> str:
    """The text as WhatsApp writes it (https://faq.whatsapp.com/539178204879377): bold, italic,
    struck out, code, lists and quotes in its marks; headings in bold; a link as "text (url)"; a
    table as a line for each row; nested bullets as "◦", since WhatsApp has lists of one level.

    Text without Markdown stays as it is, but for trailing space and more than two blank lines in
    a row. Text in WhatsApp's form is read as Markdown: "*bold*" becomes "_bold_". Bold and the
    like end at a line's end and begin again on the next; inside a word, where WhatsApp would show
    the marks, they are dropped, except where they are likely to be arithmetic or masked text.

    Never raises. Takes about 15 µs a character at worst."""
    return _written(text, WHATSAPP)


def plain(text: str) -> str:
    """The text for a channel that shows characters as they are, such as SMS: read as `whatsapp`
    does and written without marks. Emphasis and code lose theirs, headings are lines, bullets
    "-" on every level, tasks "[ ]" and "[x]"; links, tables, quotes and numbers as there. What it
    writes itself is in the alphabet of GSM-7.

    Never raises. Takes about 15 µs a character at worst."""
    return _written(text, PLAIN)


def _written(text: str, marks: Marks) -> str:
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    tokens: list[Token] = []
    MARKDOWN.block.parse(source, MARKDOWN, {}, tokens)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return text
    writer = _Writer(source.split("\n"), marks)
    return "\n".join(writer.blocks(SyntaxTreeNode(tokens).children)).rstrip()


@dataclass(frozen=True, slots=True)
class _Writer:
    """`source`: the lines that the nodes' maps count."""

    source: Sequence[str]
    marks: Marks

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
                return _table(node, self.marks)
            case "heading":
                title = inline(node.children[0].content, self.marks, heading=True)
                return [title or node.markup]
            case "hr":
                return [self.marks.rule]
            case _:
                return self._paragraph(node)

    def _paragraph(self, node: SyntaxTreeNode) -> list[str]:
        start, end = _lines_of(node)
        if node.level == 0:
            # The parser's own copy has lost the indentation.
            return _trimmed(inline("\n".join(self.source[start:end]), self.marks))
        text = inline(node.children[0].content, self.marks)
        return [line.lstrip() for line in _trimmed(text)]

    def _list(self, node: SyntaxTreeNode, depth: int, quoted: bool) -> list[str]:
        lines: list[str] = []
        markers = _markers(node, depth, self.marks)
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
            marker = marker[: -len(item.markup)] + self.marks.boxes[task[1] != " "]
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
        block = "" if quoted or "```" in content else self.marks.block
        return [block, *lines, block] if block else lines


def _lines_of(node: SyntaxTreeNode) -> tuple[int, int]:
    return node.map or (0, 0)


def _trimmed(text: str) -> list[str]:
    return [line.rstrip(" \t") for line in text.split("\n")] if text.strip() else []


def _markers(node: SyntaxTreeNode, depth: int, marks: Marks) -> list[str]:
    items = node.children
    if node.type == "ordered_list":
        numbers = [item.info for item in items]
        if len(items) > 1 and len(set(numbers)) == 1:
            # Markdown counts by itself, WhatsApp does not.
            numbers = [str(int(numbers[0]) + n) for n in range(len(items))]
        return [f"{number}{node.markup}" for number in numbers]
    if depth:
        return [marks.nested] * len(items)
    # A single "*" may be a footnote's, and "+" an advantage: "-" would say something else.
    is_list = node.markup == "*" and len(items) > 1
    return ["-" if is_list else node.markup] * len(items)


def _table(node: SyntaxTreeNode, marks: Marks) -> list[str]:
    head, *rows = (
        [cell.children[0].content for cell in row.children]
        for part in node.children
        for row in part.children
    )
    values = [[inline(cell, marks).strip() for cell in row] for row in rows]
    if len(head) > 2 and rows:
        names = [inline(cell, marks).strip() for cell in head]
        return [_row(names, row) for row in values if any(row)]
    title = inline(": ".join(filter(None, head)), marks, heading=True)
    return [line for line in (title, *(": ".join(filter(None, row)) for row in values)) if line]


def _row(head: Sequence[str], row: Sequence[str]) -> str:
    cells = [(name, value) for name, value in zip(head, row, strict=True) if value]
    if len(cells) == 1:
        # A line between the rows, or right behind the table.
        return cells[0][1]
    return ", ".join(f"{name}: {value}" if name else value for name, value in cells)
