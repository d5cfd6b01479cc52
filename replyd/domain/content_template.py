"""A template of the vendor's content API, and the values of its variables.

https://www.twilio.com/docs/content/using-variables-with-content-api
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from replyd.domain.record import Entry
from replyd.domain.text import split_reply, units

# All values together, in UTF-16 units: WhatsApp takes 1024 characters with the template's own
# words, which only Twilio knows.
MAX_VALUES = 900
MAX_NAME = 100

# Stand for the answer, and for the customer's profile name.
TEXT, NAME = "{text}", "{name}"
# In the history entry of a part that goes out as a template: its SID and the values.
ATTRIBUTE = "template"

_PLACE = re.compile("|".join(map(re.escape, (TEXT, NAME))))
_CUT = "…"


@dataclass(frozen=True, slots=True)
class ContentTemplate:
    """`sid`: HX…; `variables`: name to text, TEXT stands in one of them."""

    sid: str
    variables: Mapping[str, str]

    def room(self, name: str) -> int:
        """How long an answer may be, in UTF-16 units."""
        return MAX_VALUES - sum(units(value) for value in self._values("", name).values())

    def fits(self, text: str, name: str) -> bool:
        return units(_line(text)) <= self.room(name)

    def shortened(self, text: str, name: str) -> str:
        """The answer as the template can carry it: one line, cut at a sentence or a word."""
        line, room = _line(text), self.room(name)
        if units(line) <= room:
            return line
        return (split_reply(line, room - len(_CUT))[0]) + _CUT

    def attribute(self, text: str, name: str) -> dict[str, object]:
        """ATTRIBUTE of an entry with this text."""
        return {"sid": self.sid, "variables": self._values(text, name)}

    def _values(self, text: str, name: str) -> dict[str, str]:
        """Twilio refuses empty values, line breaks and rows of spaces (21656); for a variable that
        is left out it has a default."""
        words = {TEXT: text, NAME: name[:MAX_NAME]}
        filled = {
            variable: _line(_PLACE.sub(lambda place: words[place[0]], pattern))
            for variable, pattern in self.variables.items()
        }
        return {variable: value for variable, value in filled.items() if value}


@dataclass(frozen=True, slots=True)
class Filled:
    """What a part sends instead of its text; `sid` is empty where it sends the text."""

    sid: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


def filled_of(entry: Entry) -> Filled:
    """The template of an entry in an outbox."""
    noted = entry.get(ATTRIBUTE)
    if not isinstance(noted, Mapping) or not noted.get("sid"):
        return Filled()
    return Filled(str(noted["sid"]), {str(n): str(v) for n, v in noted["variables"].items()})


def _line(text: str) -> str:
    return " ".join(text.split())
