"""Do the books balance? What customers wrote and Twilio accepted, against what records say."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from replyd.demo.twilio_double import Exchanged
from replyd.domain import record
from replyd.domain.messages import ConversationKey

AMBIGUOUS = "ambiguous"
# Words that no log line may have.
QUESTION, ANSWER = "pelican", "heron"

_NUMBER = re.compile(r"#(\d+)")
_REPLY = re.compile(rf"{ANSWER} (\d+) part (\d+) of (\d+) on((?: #\d+)+)")


@dataclass(slots=True)
class Asked:
    """A customer's message. `acknowledged`: one of its deliveries got 200."""

    number: int
    sid: str
    key: ConversationKey
    acknowledged: bool = False

    @property
    def text(self) -> str:
        return f"{QUESTION} #{self.number}"


def answer(call: int, asked: str, parts: int) -> str:
    """What the model says to a burst: it tells which call and which questions it is about, in
    each part."""
    numbers = " ".join(f"#{n}" for n in _NUMBER.findall(asked))
    heads = (f"{ANSWER} {call} part {part} of {parts} on {numbers}" for part in range(1, parts + 1))
    # Two such paragraphs do not fit into one message.
    return "\n\n".join(f"{head} {'.' * 900}" if parts > 1 else head for head in heads)


@dataclass(frozen=True, slots=True)
class Reply:
    call: int
    part: int
    parts: int
    numbers: tuple[int, ...]

    @classmethod
    def read(cls, text: object) -> "Reply | None":
        found = _REPLY.match(str(text))
        if found is None:
            return None
        call, part, parts = (int(found[i]) for i in (1, 2, 3))
        return cls(call, part, parts, tuple(int(n) for n in _NUMBER.findall(found[4])))


@dataclass(frozen=True, slots=True)
class Imbalance:
    what: str
    conversation: str
    sid: str = ""
    shows: str = ""

    def __str__(self) -> str:
        return " | ".join(filter(None, (self.what, self.conversation, self.sid, self.shows)))


@dataclass(frozen=True, slots=True)
class Books:
    """`records`: items by conversation id, their `messages` completed from the archive; `sent`:
    what Twilio accepted, in order; `handed`: SID to the reasons at people; `parked`: SIDs of
    wake-ups in a dead-letter queue; `seqs`: SID to seq, where known."""

    asked: list[Asked]
    records: Mapping[str, Mapping[str, Any]]
    sent: list[Exchanged]
    handed: Mapping[str, Counter[str]]
    parked: frozenset[str] = frozenset()
    seqs: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Balance:
    counts: Counter[str] = field(default_factory=Counter)
    imbalances: list[Imbalance] = field(default_factory=list)


def balance(books: Books) -> Balance:
    result = Balance()
    result.imbalances += [
        *_messages(books, result.counts),
        *_parts(books, result.counts),
        *_replies(books, result.counts),
        *_order(books, result.counts),
    ]
    return result


def shown(item: Mapping[str, Any]) -> Iterator[str]:
    """A record, a line for each entry."""
    state = {
        "status": item.get(record.STATUS),
        "pending": [p.get("sid") for p in item.get(record.PENDING) or []],
        "attempts": item.get(record.ATTEMPTS),
        "lease": item.get(record.LEASE),
        "outbox": item.get(record.OUTBOX),
    }
    yield ", ".join(f"{name} {value}" for name, value in state.items() if value)
    for e in _entries(item):
        text = str(e.get("content"))[:60]
        about = (e.get("turn_id"), e.get("message_id", "no SID"), e.get("delivery", ""))
        yield f"{e.get('timestamp')} {e.get('role'):9} {' '.join(map(str, about))} {text}"


def _entries(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return item.get(record.MESSAGES) or []


def _by_role(books: Books, role: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in books.records.items():
        yield from ((name, e) for e in _entries(item) if e.get("role") == role)


# --- customers' messages -----------------------------------------------------------------------


def _messages(books: Books, counts: Counter[str]) -> Iterator[Imbalance]:
    """Each acknowledged SID is in exactly one turn, which was answered or given to people."""
    places: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, entry in _by_role(books, "user"):
        places[str(entry.get("message_id"))].append((name, entry))
    for _, entry in _by_role(books, "assistant"):
        turns[str(entry.get("turn_id"))].append(entry)
    for asked in books.asked:
        found = places.pop(asked.sid, [])
        counts["acknowledged" if asked.acknowledged else "not acknowledged"] += 1
        yield from _in_one_turn(asked, found, books, counts)
        if len(found) == 1:
            yield from _end(asked, turns[str(found[0][1].get("turn_id"))], books, counts)
    for sid, found in places.items():
        yield Imbalance("in a record, but no customer wrote it", found[0][0], sid)


def _in_one_turn(
    asked: Asked, found: list[tuple[str, dict[str, Any]]], books: Books, counts: Counter[str]
) -> Iterator[Imbalance]:
    home = asked.key.sort
    if len(found) > 1:
        ids = ", ".join(f"{name} {e.get('turn_id')}" for name, e in found)
        yield Imbalance("in more than one turn", home, asked.sid, ids)
    elif found:
        name, entry = found[0]
        if name != home or entry.get("content") != asked.text:
            yield Imbalance("in a record with other words", home, asked.sid, f"{name} {entry}")
        elif not asked.acknowledged:
            counts["not acknowledged, in a turn all the same"] += 1
    elif not asked.acknowledged:
        pending = books.records[home].get(record.PENDING) or []
        waits = any(p.get("sid") == asked.sid for p in pending)
        counts[f"not acknowledged, {'staged without a wake-up' if waits else 'lost'}"] += 1
    elif asked.sid in books.parked:
        counts["acknowledged, parked in the dead-letter queue"] += 1
    else:
        yield Imbalance("acknowledged and in no turn", home, asked.sid)


def _end(
    asked: Asked, parts: list[dict[str, Any]], books: Books, counts: Counter[str]
) -> Iterator[Imbalance]:
    """How the turn of a message ended."""
    reasons = books.handed.get(asked.sid, Counter())
    known = [e for e in parts if e.get("message_id")]
    unknown = len(parts) - len(known)
    replies = [Reply.read(e.get("content")) for e in known]
    whole = bool(replies) and all(r is not None and r.parts == len(known) for r in replies)
    for reason in reasons:
        counts[f"messages at people: {reason}"] += 1
    if whole and not unknown:
        counts["messages answered"] += 1
        if others := set(reasons) - {AMBIGUOUS}:
            yield Imbalance("answered and with people", asked.key.sort, asked.sid, f"{others}")
    elif known and not unknown:
        counts["messages answered in part"] += 1
    elif unknown and AMBIGUOUS not in reasons:
        yield Imbalance("an unclear reply not with people", asked.key.sort, asked.sid, f"{reasons}")
    elif not reasons:
        yield Imbalance("neither answered nor with people", asked.key.sort, asked.sid)


# --- what Twilio accepted ----------------------------------------------------------------------


def _parts(books: Books, counts: Counter[str]) -> Iterator[Imbalance]:
    """Each accepted message is in exactly one record, once, by its SID or else by its text."""
    by_sid: dict[str, list[str]] = defaultdict(list)
    by_text: dict[str, list[str]] = defaultdict(list)
    for name, entry in _by_role(books, "assistant"):
        if sid := entry.get("message_id"):
            by_sid[sid].append(name)
        elif entry.get("delivery") == "unknown":
            by_text[str(entry.get("content"))].append(name)
            counts["parts in a record whose fate is unknown"] += 1
        else:
            yield Imbalance("a part without SID that is not unknown", name, shows=str(entry)[:200])
    homes = {asked.key.partition: asked.key.sort for asked in books.asked}
    for line in books.sent:
        home = homes[line.customer]
        places = by_sid.pop(line.sid, []) or by_text.pop(line.text, [])
        counts["parts accepted by Twilio"] += 1
        if places != [home]:
            shows = f"in {places or 'no record'}: {line.text[:60]}"
            yield Imbalance("accepted and not in one record once", home, line.sid, shows)
    for sid, places in by_sid.items():
        yield Imbalance("called sent, but Twilio never accepted it", places[0], sid)
    texts: dict[str, list[Exchanged]] = defaultdict(list)
    for line in books.sent:
        texts[line.text].append(line)
    for text, lines in texts.items():
        if len(lines) > 1:
            sids = ", ".join(line.sid for line in lines)
            yield Imbalance("a text accepted twice", homes[lines[0].customer], sids, text[:60])


def _replies(books: Books, counts: Counter[str]) -> Iterator[Imbalance]:
    """No question is answered by two replies."""
    asked = {a.number: a for a in books.asked}
    homes = {a.key.partition: a.key.sort for a in books.asked}
    calls: dict[int, set[int]] = defaultdict(set)
    for line in books.sent:
        reply = Reply.read(line.text)
        if reply is None:
            yield Imbalance("not a reply of the model", homes[line.customer], line.sid, line.text)
            continue
        for number in reply.numbers:
            calls[number].add(reply.call)
    counts["replies, whole or in part"] = len({call for found in calls.values() for call in found})
    for number, found in calls.items():
        if len(found) < 2:
            continue
        one = asked[number]
        if AMBIGUOUS in books.handed.get(one.sid, ()):
            counts["questions answered twice, with people as ambiguous"] += 1
        else:
            shows = f"question #{number} by the model's calls {sorted(found)}"
            yield Imbalance("a question answered twice", one.key.sort, one.sid, shows)


# --- order -------------------------------------------------------------------------------------


def _order(books: Books, counts: Counter[str]) -> Iterator[Imbalance]:
    """Messages stand in order of arrival, turns do not interleave, and replies went out so. What
    got no 200 may be found late, by CATCH-UP, and has no place in an order."""
    numbers = {a.sid: a.number for a in books.asked}
    arrived = {a.sid: a.number for a in books.asked if a.acknowledged}
    acknowledged = set(arrived.values())
    for name, item in books.records.items():
        entries = _entries(item)
        users = [str(e.get("message_id")) for e in entries if e.get("role") == "user"]
        yield from _ascending("seq", name, [(books.seqs[s], s) for s in users if s in books.seqs])
        yield from _ascending("arrival", name, [(arrived[s], s) for s in users if s in arrived])
        turns = [turn for turn, _ in groupby(str(e.get("turn_id")) for e in entries)]
        counts["turns"] += len(set(turns))
        for turn, times in Counter(turns).items():
            if times > 1:
                yield Imbalance("turns interleaved", name, shows=turn)
        yield from _about_their_turns(name, entries, numbers)
    for name, customer in {(a.key.sort, a.key.partition) for a in books.asked}:
        lines = [(Reply.read(m.text), m.sid) for m in books.sent if m.customer == customer]
        went = [
            ((known[0], r.part), sid)
            for r, sid in lines
            if r is not None and (known := [n for n in r.numbers if n in acknowledged])
        ]
        yield from _ascending("sending", name, went)


def _about_their_turns(
    name: str, entries: Iterable[dict[str, Any]], numbers: Mapping[str, int]
) -> Iterator[Imbalance]:
    """Each reply is about the questions of its turn."""
    for turn, group in groupby(entries, key=lambda e: str(e.get("turn_id"))):
        members = list(group)
        asked = [numbers.get(str(e.get("message_id"))) for e in members if e.get("role") == "user"]
        for entry in (e for e in members if e.get("role") == "assistant"):
            reply = Reply.read(entry.get("content"))
            if reply is None or list(reply.numbers) != asked:
                shows = f"turn {turn} has {asked}: {str(entry.get('content'))[:60]}"
                sid = str(entry.get("message_id", ""))
                yield Imbalance("a reply to other questions than its turn's", name, sid, shows)


def _ascending(what: str, name: str, found: list[tuple[Any, str]]) -> Iterator[Imbalance]:
    for (before, _), (after, sid) in pairwise(found):
        if after <= before:
            yield Imbalance(f"out of order of {what}", name, sid, f"{after} after {before}")
