"""The canned assistant of the demo: a small bakery's.

Deterministic, so that a demo and its tests can be told in advance. A burst of messages comes as
one text; every question in it is answered, in one reply.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from replyd.domain.tools import HAND_OVER
from replyd.ports import File

# When each message of a burst came.
_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] ", re.M)
_PERSON = re.compile(
    r"\b(talk|speak|chat) (to|with) (a )?(real )?(person|human|somebody|someone|colleague)\b", re.I
)
_ORDER_NUMBER = re.compile(r"\border\b\D{0,20}\b(\d{4})\b", re.I)
# A tool of somebody's own, tried without a model that could choose it: its name, its arguments.
_CALL = re.compile(r"^(\w+) (\{.*\})$", re.M)
_FILE = re.compile(r"\[sent ([^\]]*?) \([^\]]*: file \d+\]")

_GREETING = re.compile(r"\b(hi|hello|hey|good (morning|afternoon|evening))\b", re.I)
_THANKS = re.compile(r"\b(thanks|thank you|cheers|thx)\b", re.I)

_ANSWERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"\b(open|opening|hours|close|closed)\b(?!.*\bsunday)", re.I),
        "We are open Tuesday to Saturday from 7:30 to 18:00, and closed on Mondays.",
    ),
    (re.compile(r"\bsundays?\b", re.I), "On Sundays we are open from 8:00 to 13:00."),
    (
        re.compile(r"\b(where|address|directions|find you|parking)\b", re.I),
        "You find us at 12 Mill Lane, next to the library, with parking behind it.",
    ),
    (
        re.compile(r"\bsourdough loaves\b.*\bsaturday\b", re.I),
        "Two sourdough loaves come to £8.40, and on Saturday they are ready from 7:30.",
    ),
    (
        re.compile(r"\b(order|reserve|pre-?order|pick ?up|collect)\b(?!.*\bloaves\b)", re.I),
        "You can order until 16:00 for the next day: tell me what, how many, and when you collect.",
    ),
    (
        re.compile(r"\b(cakes?|birthday|wedding)\b", re.I),
        "Cakes need two days' notice; a birthday cake for eight starts at £28.",
    ),
    (
        re.compile(r"\b(gluten|vegan|allerg\w*|nuts?)\b", re.I),
        "Our seeded loaf is vegan; the kitchen uses wheat and nuts, so nothing is free of traces.",
    ),
    (
        re.compile(r"\b(price|prices|cost|costs|how much)\b", re.I),
        "A sourdough loaf is £4.20 and a croissant £2.10.",
    ),
    (
        re.compile(r"\b(deliver|delivery|delivering)\b", re.I),
        "We deliver within five miles on orders over £20, before 10:00.",
    ),
    (
        re.compile(r"\[sent [^\]]*;", re.I),
        "I cannot look at files here; could you tell me in words what you need?",
    ),
)
# For a model that has to be told.
FACTS = " ".join(answer for _, answer in _ANSWERS[:-1])
_FALLBACK = "I can help with opening hours, orders, cakes, prices and delivery. What do you need?"


FAREWELL = "Of course: a colleague takes over from here and will write to you."


def reply(text: str, told: Sequence[str] = (), files: Sequence[File] = ()) -> str:
    """One answer to everything asked in `text`, never empty. `told`: what the tools answered,
    `files`: what came with the text."""
    text = _STAMP.sub("", text)
    if _CALL.search(text) and told:
        return "\n".join(f"The tool says: {output}" for output in told)
    found = [_status(output) for output in told]
    if told:
        text = "\n".join(line for line in text.split("\n") if not _ORDER_NUMBER.search(line))
    found += [_seen(kind, file) for kind, file in zip(_FILE.findall(text), files, strict=False)]
    found += [answer for pattern, answer in _ANSWERS if pattern.search(text)]
    if not found and _THANKS.search(text):
        return "You're welcome! See you soon at the bakery."
    if _GREETING.search(text):
        return " ".join(["Hello from the Mill Lane Bakery!", *(found or [_FALLBACK])])
    return " ".join(found or [_FALLBACK])


def files_in(text: str) -> int:
    """How many files came with a text."""
    return len(_FILE.findall(text))


def calls(text: str, offered: Collection[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """The tools, of those offered, that a text wants: a person goes before everything else."""
    text = _STAMP.sub("", text)
    if HAND_OVER.name in offered and _PERSON.search(text):
        wish = {"reason": "The customer asks for a person.", "summary": f"They wrote: {text}"}
        return [(HAND_OVER.name, wish)]
    if named := [(name, given) for name, given in _CALL.findall(text) if name in offered]:
        return [(name, _arguments(given)) for name, given in named]
    if "order_status" not in offered:
        return []
    return [("order_status", {"number": number}) for number in _ORDER_NUMBER.findall(text)]


def aside(text: str) -> str:
    """What is said beside the tools' calls: a farewell, when a person takes over."""
    return FAREWELL if _PERSON.search(text) else ""


def _arguments(text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(text)
    except ValueError:
        # What does not fit the tool's schema comes back as what is wrong with it.
        return {}
    return found


def _status(output: str) -> str:
    try:
        order = json.loads(output)
        number, state = order["number"], order["state"]
    except (ValueError, KeyError, TypeError):
        return "I cannot look into our orders right now."
    if state == "unknown":
        return f"I find no order {number}; is that the right number?"
    return f"Your order {number}, {order['items']}, is {state}."


def _seen(kind: str, file: File) -> str:
    """That the file itself has come, not just word of it."""
    if file.content_type != "image/png":
        return f"I see that you sent {kind}."
    width, height = (int.from_bytes(file.data[at : at + 4]) for at in (16, 20))
    return f"I see your picture, {width} by {height} pixels: lovely!"
