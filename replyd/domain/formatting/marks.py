"""How a channel shows what Markdown marks."""

from dataclasses import dataclass
from enum import IntEnum


class Emphasis(IntEnum):
    """In the order in which the marks enclose one another where they mean the same text."""

    BOLD = 0
    ITALIC = 1
    STRIKE = 2


@dataclass(frozen=True, slots=True)
class Marks:
    """`emphasis`: around bold, italic and struck-out text; `code`: around code in a line, `block`:
    above and below several lines of it; each empty for no mark. `rule`: a line between paragraphs;
    `nested`: a bullet in another list; `boxes`: of a task to do, and of one that is done."""

    emphasis: tuple[str, str, str]
    code: str
    block: str
    rule: str
    nested: str
    boxes: tuple[str, str]


WHATSAPP = Marks(("*", "_", "~"), "`", "```", "———", "◦", ("☐", "☑"))
# GSM-7 alone: one other character more than halves what fits into an SMS segment, see
# https://www.twilio.com/docs/glossary/what-is-gsm-7-character-encoding.
PLAIN = Marks(("", "", ""), "", "", "---", "-", ("[ ]", "[x]"))
