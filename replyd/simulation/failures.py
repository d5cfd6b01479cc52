"""The oracle's books on parts that were not delivered: people have to learn of each."""

import re
from collections.abc import Callable

from replyd.simulation.vendors import Accepted, said

_PART_SID = re.compile(r"reply (\w+) was not delivered")


class Failures:
    """`broke` takes the promise, the conversation, by whom, and what. `unrecorded`: texts of which
    the record knows nothing, so that people get them with another message."""

    def __init__(self, broke: Callable[[str, str, str, str], None]) -> None:
        self._broke = broke
        self.unrecorded: set[str] = set()
        # By the SID of the part: what it said, those reported as failed, those people know of.
        self._parts: dict[str, Accepted] = {}
        self._failed: set[str] = set()
        self._told: set[str] = set()

    def sent(self, part: Accepted) -> None:
        self._parts[part.sid] = part

    def reported(self, part_sid: str) -> None:
        """The channel reports that this part was not delivered."""
        self._failed.add(part_sid)

    def acknowledged(self, part_sid: str, who: str) -> None:
        """A report of that got its 204: it will not come again."""
        if part_sid not in self._told:
            name = self._parts[part_sid].conversation
            self._broke("P1", name, who, f"204 for the failure of {part_sid}, people know nothing")

    def told_of(self, name: str, who: str, sid: str, detail: str) -> None:
        """People got this message because a part of its reply was not delivered."""
        found = _PART_SID.match(detail)
        part_sid = found[1] if found else ""
        if part_sid not in self._failed:
            self._broke("P1", name, who, f"people were told of {part_sid}, which did not fail")
            return
        text = self._parts[part_sid].part.text
        words = None if text in self.unrecorded else said(text)
        if self._parts[part_sid].conversation != name or (words and words.sids[-1] != sid):
            self._broke("P1", name, who, f"people got {sid} for {part_sid}")
        self._told.add(part_sid)
