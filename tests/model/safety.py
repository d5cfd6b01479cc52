"""What must never be: the promises, looked at in every transition and every state."""

import json
from collections import Counter
from functools import cache

from replyd.domain import record as r
from tests.model.item import facts, sid_of
from tests.model.requests import GiveToPeople, Json
from tests.model.state import Part, State

AMBIGUOUS = "ambiguous"
_HOLDERS = ("renew", "intend_reply", "intend_handoff", "arm", "commit", "commit_apology", "release")


class Violation(Exception):
    """A broken promise."""


def demand(holds: bool, promise: str, what: str) -> None:
    if not holds:
        raise Violation(f"{promise}: {what}")


def _sids(text: str) -> list[str]:
    """The messages that a part of a reply answers."""
    words = text.split()
    return words[1].split(",") if len(words) == 3 else []


def step_taken(state: State, after: Json, step: str, token: str) -> None:
    """A step that changed the item from `state.item`."""
    before = state.item
    had, left = list(facts(before).pending), list(facts(after).pending)
    if step == "claim":
        demand(
            not facts(before).holder, "P3", "a conversation was claimed that another worker holds"
        )
    if step in _HOLDERS:
        other = facts(before).holder
        demand(other in ("", token), "P3", f"{step} took effect in the turn of another worker")
    if step == "intend_reply":
        demand(
            not facts(before).silenced, "P4", "INTENT took effect though people or STOP were there"
        )
    _reports_kept(before, after)
    if step == "commit":
        _committed(state, after, had, left)
    else:
        demand(left[: len(had)] == had, "P1", f"{step} removed a pending message")


def staged_once(after: Json) -> None:
    known = Counter(facts(after).pending + facts(after).settled)
    demand(max(known.values(), default=0) < 2, "P2", "a message was staged twice")


def _committed(state: State, after: Json, had: list[str], left: list[str]) -> None:
    gone = had[: len(had) - len(left)]
    demand(had[len(gone) :] == left, "P3", "messages were not settled in their order")
    before = json.loads(state.item)
    entries = json.loads(after).get(r.MESSAGES, [])[len(before.get(r.MESSAGES, ())) :]
    written = [e["message_id"] for e in entries if e["role"] == "user"]
    demand(written == gone, "P2", f"{gone} settled, {written} recorded")
    answered = {sid for part in state.accepted for sid in _sids(part.text)}
    handed = {sid for sid, *_ in state.people}
    lost = set(gone) - answered - handed
    demand(not lost, "P1", f"{sorted(lost)} settled, nobody answered or got it")


def _reports_kept(before: Json, after: Json) -> None:
    """What a callback told stays with its part, in the outbox and then in the history."""
    reports = json.loads(before).get(r.OUTBOX, {}).get("delivery", {})
    if not reports:
        return
    there = json.loads(after)
    entries = [*there.get(r.MESSAGES, ()), *there.get(r.OUTBOX, {}).get("delivery", {}).values()]
    for report in reports.values():
        kept = any(report.items() <= entry.items() for entry in entries)
        demand(kept, "P2", f"the report on {report['message_id']} was lost")


def part_accepted(state: State, part: Part) -> None:
    """The channel takes a part; `state` is from before."""
    texts = [other.text for other in state.accepted]
    demand(part.text not in texts, "P2", f"{part.text} was accepted twice")
    draft = part.text.split()[0]
    for other in state.accepted:
        both = {*_sids(other.text)} & {*_sids(part.text)}
        other_draft = other.text.split()[0] != draft
        demand(not (both and other_draft), "P2", f"{sorted(both)} were answered twice")
    for sid in _sids(part.text):
        reasons = {reason for to, reason, _ in state.people if to == sid}
        fine = not reasons or AMBIGUOUS in reasons
        demand(fine, "P2", f"{sid} is with people, {part.text} went out")
    there = facts(state.item)
    # Nothing waits for an apology: what is unclear about it is settled as that.
    inside = there.turn_id == part.turn_id or not _sids(part.text)
    demand(inside, "P3", f"{part.text} went out outside its turn")
    demand(not (state.louder and there.silenced), "P4", f"{part.text} after a part after silence")


def given_to_people(state: State, given: GiveToPeople) -> None:
    if given.reason == AMBIGUOUS or given.told:
        return
    answered = {sid for part in state.accepted for sid in _sids(part.text)}
    both = answered & {*given.sids}
    demand(not both, "P2", f"{sorted(both)} answered, given to people: {given.reason}")


def looked_after(state: State) -> None:
    """A 200 is a promise: a pending message has a wake-up that nobody may delete."""
    there = facts(state.item)
    acked = {sid_of(number) for number in state.acked}
    demand(acked <= there.seen, "P1", f"{sorted(acked - there.seen)} got 200, is not staged")
    newest = max((wakeup.seq for wakeup in state.queue), default=0)
    for seq, sid in enumerate(there.pending, start=there.seq - len(there.pending) + 1):
        cared = seq <= newest or sid not in acked
        demand(cared, "P1", f"{sid} got 200, is pending, and has no wake-up")


@cache
def recorded(item: Json, accepted: tuple[Part, ...]) -> None:
    """Every part that was accepted is in the record, once."""
    attributes = json.loads(item)
    entries = [*attributes.get(r.MESSAGES, ()), *attributes.get(r.OUTBOX, {}).get("entries", ())]
    texts = Counter(e.get("content") for e in entries if e["role"] == "assistant")
    for part in accepted:
        count = texts[part.text]
        demand(count == 1, "P2", f"{part.text} was sent and is {count} times in the record")
