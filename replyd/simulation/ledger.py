"""The oracle's own books: what customers sent, what happened, and what broke as it happened."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from replyd.domain import record as r
from replyd.domain.expressions import Step
from replyd.domain.messages import ConversationKey
from replyd.domain.turn import UNDELIVERED
from replyd.simulation.ai_books import AiBooks
from replyd.simulation.failures import Failures
from replyd.simulation.people_books import PeopleBooks
from replyd.simulation.table import Item
from replyd.simulation.vendors import STOP_NOTICE, Accepted, Said, is_farewell, said

_HOLDERS_STEPS = frozenset({
    "renew", "intend_reply", "intend_handoff", "arm", "arm_tool", "note_tool", "commit",
    "commit_apology", "release", "intend_person", "arm_person", "commit_person",
})  # fmt: skip
# Leases are in whole milliseconds.
_ROUNDING_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which, when (virtual seconds), in which conversation, by whom."""

    promise: str
    time: float
    conversation: str
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.time:.3f} s, {self.conversation}, {self.who}: {self.what}"


@dataclass(slots=True)
class Intended:
    """A reply's INTENT, as it first took place. `silenced`: people or STOP were there before."""

    conversation: str
    silenced: str
    # Parts accepted since the silence that began at this time.
    after: dict[float, int] = field(default_factory=dict)
    parts: int = 0


@dataclass(slots=True)
class Conversation:
    """`staged`: SIDs in order of STAGE; the first `settled` of them are in a committed turn."""

    staged: list[str] = field(default_factory=list)
    settled: int = 0
    entries: list[Item] = field(default_factory=list)
    silent_since: float | None = None
    holder: str = ""
    held_until: float = 0.0


class Ledger:
    """Nothing here asks the daemons: times are the loop's, and only effects count. `offset`: how
    many seconds an owner's wall clock is ahead of the loop's."""

    def __init__(self, time: Callable[[], float], offset: Callable[[str], float]) -> None:
        self._time = time
        self._offset = offset
        self.violations: list[Violation] = []
        self.conversations: dict[str, Conversation] = {}
        self.sent: dict[str, float] = {}
        self.acked: dict[str, float] = {}
        self.settled: dict[str, float] = {}
        self.answered: dict[str, Said] = {}
        self.texts: dict[str, str] = {}
        # Whether the table refuses texts, and those that were settled without a record.
        self.may_go_unrecorded = False
        self.unrecorded: set[str] = set()
        # The turns of apologies that were accepted, and their conversations.
        self.apologies: dict[str, str] = {}
        self.failures = Failures(self.broke)
        self.ai = AiBooks(self.broke)
        self.people = PeopleBooks(self.broke)
        self.handed: dict[str, list[str]] = {}
        self.intended: dict[str, Intended] = {}
        self.deliveries: dict[str, list[tuple[float, str]]] = {}
        self.staged_at: dict[str, float] = {}
        # Until when lookups made before the engine's second record of a customer may serve.
        self.unsure_until: dict[str, float] = {}
        # SIDs that are in two records for a reason that no condition can exclude.
        self.excused: set[str] = set()
        self.turns = 0

    def broke(self, promise: str, conversation: str, who: str, what: str) -> None:
        self.violations.append(Violation(promise, self._time(), conversation, who, what))

    # --- customers -----------------------------------------------------------------------------

    def customer_sent(self, sid: str) -> None:
        self.sent[sid] = self._time()

    def delivery(self, sid: str, who: str) -> None:
        """A webhook with this message has come to a process."""
        self.deliveries.setdefault(sid, []).append((self._time(), who))

    def acknowledged(self, sid: str) -> None:
        self.acked.setdefault(sid, self._time())

    # --- the table -----------------------------------------------------------------------------

    def stepped(
        self, who: str, key: ConversationKey, step: Step, before: Item, after: Item
    ) -> None:
        """A step that took place."""
        name = key.sort
        books = self.conversations.setdefault(name, Conversation())
        if step.name == "stage":
            self._staged(name, books, who, after)
        elif step.name in ("claim", "take"):
            self._claimed(name, books, who)
        elif step.name == "intend_reply":
            turn_id = after[r.OUTBOX]["turn_id"]
            self.intended.setdefault(turn_id, Intended(name, _silence(before)))
        elif step.name == "commit":
            self._committed(name, books, who, before, after)
        elif step.name in ("commit_apology", "commit_person"):
            books.entries += _added(before, after)
        self.ai.stepped(name, who, step, before, after)
        self.people.stepped(name, who, step, before, after)
        if step.name in _HOLDERS_STEPS and who != books.holder and self._time() < books.held_until:
            self.broke("P3", name, who, f"{step.name} in the turn of {books.holder}")
        if step.name != "commit" and _sids(before) != _sids(after)[: len(_sids(before))]:
            self.broke("P1", name, who, f"{step.name} removed a pending message")
        self._note_lease(books, after)
        if not _silence(after):
            books.silent_since = None
        elif books.silent_since is None:
            books.silent_since = self._time()

    def _note_lease(self, books: Conversation, after: Item) -> None:
        lease = after.get(r.LEASE)
        if lease is None:
            books.held_until = 0.0
        elif "expires_at" in lease:
            # As its owner's clock has it, which is what the owner goes by.
            books.held_until = lease["expires_at"] / 1000 - self._offset(lease["owner"])
            books.holder = lease["owner"]

    def _staged(self, name: str, books: Conversation, who: str, after: Item) -> None:
        sid = after[r.PENDING][-1]["sid"]
        first = self.staged_at.setdefault(sid, self._time())
        if first != self._time() or any(sid in c.staged for c in self.conversations.values()):
            built = after[r.PENDING][-1]["received_at"] / 1000 - self._offset(who)
            known = max(first, self.unsure_until.get(name.removesuffix("b"), 0.0))
            if self._delivery_began(sid, who, built) < known and sid not in books.staged:
                # The engine started a conversation between two deliveries, and the lookup of one
                # could not know what the other did: docs/turn-protocol.md, known gap.
                self.excused.add(sid)
            else:
                self.broke("P2", name, who, f"{short([sid])} was staged twice")
        books.staged.append(sid)

    def _delivery_began(self, sid: str, who: str, built: float) -> float:
        """When the delivery came whose STAGE this process has built at that time."""
        built += _ROUNDING_SECONDS
        every = self.deliveries.get(sid, ())
        return max((at for at, by in every if by == who and at <= built), default=inf)

    def _claimed(self, name: str, books: Conversation, who: str) -> None:
        left = books.held_until - self._time()
        if left > _ROUNDING_SECONDS:
            self.broke(
                "P3", name, who, f"took the conversation while {books.holder} had {left:.1f} s left"
            )

    def _committed(
        self, name: str, books: Conversation, who: str, before: Item, after: Item
    ) -> None:
        self.turns += 1
        had, left = _sids(before), _sids(after)
        gone = had[: len(had) - len(left)]
        entries = _added(before, after)
        if not entries and self.may_go_unrecorded:
            self.unrecorded.update(e["content"] for e in before[r.OUTBOX]["entries"])
            self.failures.unrecorded |= self.unrecorded
        else:
            self._recorded(name, who, before[r.OUTBOX], entries, gone)
        expected = books.staged[books.settled : books.settled + len(gone)]
        if gone != expected:
            self.broke("P3", name, who, f"settled {short(gone)} before {short(expected)}")
        books.settled += len(gone)
        books.entries += entries
        for sid in gone:
            if sid in self.settled and sid not in self.excused:
                self.broke("P2", name, who, f"{short([sid])} is in two turns")
            self.settled[sid] = self._time()
            if sid not in self.answered and sid not in self.handed:
                self.broke("P1", name, who, f"{short([sid])} settled, nobody answered or got it")

    def _recorded(
        self, name: str, who: str, outbox: Item, entries: list[Item], gone: list[str]
    ) -> None:
        written = [e["message_id"] for e in entries if e.get("role") == "user"]
        if written != gone:
            self.broke("P2", name, who, f"settled {short(gone)} but recorded {short(written)}")
        for report in (outbox.get("delivery") or {}).values():
            if not any(report.items() <= e.items() for e in entries):
                self.broke("P2", name, who, f"a report on {report['message_id']} was lost")

    # --- effects -------------------------------------------------------------------------------

    def accepted(self, effect: Accepted, item: Item | None) -> None:
        """The channel took a part; `item` is the conversation's item at that instant."""
        self.failures.sent(effect)
        words = said(effect.part.text)
        if words is None:
            self._no_reply(effect)
        else:
            self._replied(effect, words, item)

    def _no_reply(self, effect: Accepted) -> None:
        text = effect.part.text
        if text == STOP_NOTICE:
            self.ai.notice_sent(effect.conversation, effect.who, effect.turn_id)
        elif is_farewell(text):
            self._apologised(effect)
        elif self.people.is_theirs(text):
            self.people.accepted(effect)
        else:
            self.broke("P2", effect.conversation, effect.who, "sent a text that no model gave")

    def _replied(self, effect: Accepted, words: Said, item: Item | None) -> None:
        name, who = effect.conversation, effect.who
        label = f"r{words.answer} part {words.part}"
        if effect.part.text in self.texts:
            self.broke("P2", name, who, f"{label} was accepted twice")
        self.texts[effect.part.text] = name
        for sid in words.sids:
            first = self.answered.setdefault(sid, words)
            if sid in self.excused:
                continue
            if first.answer != words.answer:
                self.broke("P2", name, who, f"{short([sid])} answered in r{first.answer}, {label}")
            if sid in self.handed and "ambiguous" not in self.handed[sid]:
                self.broke("P2", name, who, f"{short([sid])} is with people, {label} went out")
            if f"apology-{sid}" in self.apologies:
                self.broke("P2", name, who, f"{short([sid])} was apologised for, {label} went out")
        self._judge_silence(effect, label)
        self.people.ai_sent(name, who, label)
        outbox = (item or {}).get(r.OUTBOX) or {}
        if outbox.get("turn_id") != effect.turn_id:
            self.broke("P3", name, who, f"{label} went out outside its turn")

    def _apologised(self, effect: Accepted) -> None:
        """Once for what is pending, under the conditions of a reply. It may arrive late: nobody
        waits to see, for what counts is that people get the messages."""
        if effect.turn_id in self.apologies:
            self.broke("P2", effect.conversation, effect.who, "apologised twice")
        self.apologies[effect.turn_id] = effect.conversation
        self._judge_silence(effect, "an apology")

    def _judge_silence(self, effect: Accepted, label: str) -> None:
        name, who = effect.conversation, effect.who
        intent = self.intended.get(effect.turn_id)
        if intent is None:
            self.broke("P4", name, who, f"{label} was sent without an INTENT")
            return
        intent.parts += 1
        if intent.silenced:
            self.broke("P4", name, who, f"{label} was intended after {intent.silenced}")
        since = self.conversations[name].silent_since
        if since is not None:
            intent.after[since] = intent.after.get(since, 0) + 1
            if intent.after[since] > 1:
                self.broke("P4", name, who, f"{label} is the second part since {since:.3f} s")

    def given_to_people(
        self,
        who: str,
        bodies: Sequence[str],
        items: Mapping[ConversationKey, Item],
        *,
        late: bool,
    ) -> None:
        for body in bodies:
            data = json.loads(body)
            key = ConversationKey(data["key"][r.RECIPIENT_TEL], data["key"][r.CONVERSATION_ID])
            name, sid, reason = key.sort, data["message"]["sid"], data["handoff_reason"]
            if reason == UNDELIVERED:
                self.failures.told_of(name, who, sid, data["handoff_detail"])
                continue
            outbox = (items.get(key) or {}).get(r.OUTBOX) or {}
            self.handed.setdefault(sid, []).append(reason)
            ours = outbox.get("kind") == "handoff" and data["seq"] in outbox.get("seqs", ())
            if not (ours or late):
                self.broke("P3", name, who, f"{short([sid])} given to people outside its turn")
            if reason != "ambiguous" and sid in self.answered.keys() - self.excused:
                self.broke("P2", name, who, f"{short([sid])} answered, given to people: {reason}")


def _silence(item: Item) -> str:
    if item.get(r.HANDOFF) is True:
        return "people took over"
    return "STOP" if r.OPTED_OUT in item else ""


def _added(before: Item, after: Item) -> list[Item]:
    """The history entries that a step has written."""
    added: list[Item] = after.get(r.MESSAGES, [])[len(before.get(r.MESSAGES, [])) :]
    return added


def _sids(item: Item) -> list[str]:
    return [entry["sid"] for entry in item.get(r.PENDING, [])]


def short(sids: Iterable[str]) -> str:
    """SIDs as the customers' texts and the timeline name them."""
    return " ".join([f"q{int(sid[2:], 16)}" for sid in sids]) or "nothing"
