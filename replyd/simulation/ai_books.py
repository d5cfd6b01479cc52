"""The oracle's books on what happens beside replies: tools, farewells, notices, and the cost."""

from collections import Counter
from collections.abc import Callable, Mapping

from replyd.domain import record as r
from replyd.domain.expressions import Step
from replyd.domain.turn import BY_AI
from replyd.simulation.table import Item

Broke = Callable[[str, str, str, str], None]


class AiBooks:
    """`broke` takes the promise, the conversation, by whom, and what. `day_turns`: how many turns
    of a conversation the AI may answer, None for any number."""

    def __init__(self, broke: Broke) -> None:
        self._broke = broke
        self.day_turns: int | None = None
        # By conversation and oldest message.
        self._armed: set[tuple[str, str]] = set()
        # By conversation, tool and oldest message.
        self._ran: Counter[tuple[str, str, str]] = Counter()
        self.tools_run = 0
        self.handed_over = 0
        self._answered: Counter[str] = Counter()
        # Confirmations of STOP by their turn: how often they were accepted.
        self._notices: dict[str, int] = {}

    def stepped(self, name: str, who: str, step: Step, before: Item, after: Item) -> None:
        """A step that took place."""
        if step.name == "arm_tool":
            if before.get(r.HANDOFF) is True or r.OPTED_OUT in before:
                self._broke("P4", name, who, "a tool was armed after people or STOP")
            self._armed.add((name, before[r.PENDING][0]["sid"]))
        elif step.name == "intend_notice":
            self._notice_intended(name, who, before, after)
        elif step.name == "commit":
            self._committed(name, who, before, after)

    def _committed(self, name: str, who: str, before: Item, after: Item) -> None:
        outbox = before[r.OUTBOX]
        if r.TOOLS in after:
            self._broke("P2", name, who, "tools of a settled turn were left")
        if outbox["reason"] == BY_AI and outbox["kind"] == "handoff":
            self.handed_over += 1
            if after.get(r.HANDOFF) is not True:
                self._broke("P4", name, who, "the AI has handed over, and the flag is down")
        if outbox["kind"] == "reply":
            self._answered[name] += 1
            if self.day_turns is not None and self._answered[name] > self.day_turns:
                self._broke("limits", name, who, f"answered more than {self.day_turns} turns")

    def ran(self, name: str, who: str, tool: str, turn: str) -> None:
        """A tool with effects was carried out for the turn of this oldest message."""
        self.tools_run += 1
        self._ran[name, tool, turn] += 1
        if self._ran[name, tool, turn] > 1:
            self._broke("P2", name, who, f"{tool} ran twice for {turn}")
        if (name, turn) not in self._armed:
            self._broke("P2", name, who, f"{tool} ran without being written down")

    def _notice_intended(self, name: str, who: str, before: Item, after: Item) -> None:
        """The confirmation of a STOP is about to be sent."""
        if r.OPTED_OUT not in before:
            self._broke("P4", name, who, "STOP is confirmed to somebody who has not said it")
        self._notices.setdefault(after[r.OUTBOX]["turn_id"], 0)

    def notice_sent(self, name: str, who: str, turn: str) -> None:
        """The channel took the confirmation of a STOP."""
        if turn not in self._notices:
            self._broke("P4", name, who, "STOP is confirmed without an INTENT")
            return
        self._notices[turn] += 1
        if self._notices[turn] > 1:
            self._broke("P2", name, who, "a STOP was confirmed twice")

    def balance(self, items: Mapping[str, Item]) -> None:
        """At the end: nothing that is in the history is missing from the account."""
        for name, item in items.items():
            entries = item.get(r.MESSAGES, [])
            tokens = sum(e.get("input_tokens", 0) + e.get("output_tokens", 0) for e in entries)
            counted = item.get(r.USAGE, {}).get("total", {}).get("tokens", 0)
            if counted < tokens:
                what = f"{tokens} tokens are in the history, {counted} in the account"
                self._broke("limits", name, "nobody", what)
