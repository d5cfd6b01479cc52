"""The oracle's books on people who answer: what they wrote, what went out, what is recorded."""

from collections import Counter
from collections.abc import Callable, Iterable

from replyd.domain import record as r
from replyd.domain.expressions import Step
from replyd.simulation.table import Item
from replyd.simulation.vendors import Accepted

Broke = Callable[[str, str, str, str], None]


class PeopleBooks:
    """`broke` takes the promise, the conversation, by whom, and what."""

    def __init__(self, broke: Broke) -> None:
        self._broke = broke
        # Parts of people's answers, with their conversations.
        self._wrote: dict[str, str] = {}
        self._accepted: Counter[str] = Counter()
        self._intended: set[str] = set()
        # Conversations from a person's INTENT until the flag is lowered.
        self._theirs: set[str] = set()
        self.answered = 0
        # The tokens of their leases, and of workers who settled what a person left: with nothing
        # pending nobody waits for a lease that could not be given back.
        self.tokens: set[str] = set()

    def writes(self, conversation: str, parts: Iterable[str]) -> None:
        """A person is about to send this."""
        self._wrote |= dict.fromkeys(parts, conversation)

    def is_theirs(self, text: str) -> bool:
        return text in self._wrote

    def stepped(self, name: str, who: str, step: Step, before: Item, after: Item) -> None:
        """A step that took place."""
        if step.name == "intend_person":
            if r.OPTED_OUT in before:
                self._broke("P4", name, who, "a person writes to somebody who has opted out")
            self._intended.add(after[r.OUTBOX]["turn_id"])
            self._theirs.add(name)
        elif step.name == "take" or (step.name == "claim" and _is_persons(before)):
            self.tokens.add(after[r.LEASE]["token"])
        elif step.name == "commit_person":
            self.answered += 1
        if before.get(r.HANDOFF) is True and after.get(r.HANDOFF) is not True:
            self._theirs.discard(name)

    def accepted(self, effect: Accepted) -> None:
        """The channel took a part of a person's answer."""
        name, who, text = effect.conversation, effect.who, effect.part.text
        self._accepted[text] += 1
        if self._accepted[text] > 1:
            self._broke("P2", name, who, f"{_label(text)} was accepted twice")
        if effect.turn_id not in self._intended:
            self._broke("P4", name, who, f"{_label(text)} was sent without an INTENT")

    def ai_sent(self, name: str, who: str, label: str) -> None:
        """The channel took a part of a reply of the AI's."""
        if name in self._theirs:
            self._broke("P4", name, who, f"{label} went out, a person has answered")

    def balance(self, entries: Iterable[Item]) -> None:
        """What went out is recorded once, and nothing twice."""
        recorded = Counter(e["content"] for e in entries if e.get("role") == "human")
        for text, name in self._wrote.items():
            times = recorded[text]
            if times > 1 or (times == 0 and self._accepted[text]):
                what = f"{_label(text)} is {times} times in the record"
                self._broke("P2", name, "nobody", what)


def _is_persons(item: Item) -> bool:
    outbox = item.get(r.OUTBOX)
    return outbox is not None and outbox["kind"] == "person"


def _label(text: str) -> str:
    return text.partition(" |")[0]
