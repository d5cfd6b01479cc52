"""The canned assistant of the demo: a small bakery's.

Deterministic, so that a demo and its tests can be told in advance. A burst of messages comes as
one text; every question in it is answered, in one reply.
"""

import re

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
        re.compile(r"\b(order|reserve|pre-?order|pick ?up|collect)\b", re.I),
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
        re.compile(r"\[sent (a|an) ", re.I),
        "I cannot look at files here; could you tell me in words what you need?",
    ),
)
# For a model that has to be told.
FACTS = " ".join(answer for _, answer in _ANSWERS[:-1])
_FALLBACK = "I can help with opening hours, orders, cakes, prices and delivery. What do you need?"


def reply(text: str) -> str:
    """One answer to everything asked in `text`, never empty."""
    found = [answer for pattern, answer in _ANSWERS if pattern.search(text)]
    if not found and _THANKS.search(text):
        return "You're welcome! See you soon at the bakery."
    if _GREETING.search(text):
        return " ".join(["Hello from the Mill Lane Bakery!", *(found or [_FALLBACK])])
    return " ".join(found or [_FALLBACK])
