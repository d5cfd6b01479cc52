"""What became of a message, by its SID: a function of its record and the archived history.

No sentence holds an address or the text of a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replyd.domain import delivery, effects, record, recovery, turn
from replyd.domain.explain import count_of, why
from replyd.domain.record import Conversation, Entry, Outbox

_PARTLY_SENT = "partly_sent"
_PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of a reply. `delivery`: the last state known of it; `pending` while nobody knows
    whether it was accepted."""

    sid: str
    delivery: str
    error: str = ""
    people_told: bool = False


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a message.

    `state`: `waiting`, `replying`, `handing_over` (its turn is under way), `answered`,
    `partly_answered`, `handed_over`, `withheld` (a budget is used up), `settled` (nothing more is
    known), `sending`, `sent`, `not_delivered`, or `foreign` (somebody else wrote it). `merged`: the
    SIDs of the turn's customer messages, in order; `replies`: what the turn sent."""

    sid: str
    direction: str
    state: str
    text: str
    turn_id: str = ""
    merged: tuple[str, ...] = ()
    replies: tuple[Sent, ...] = ()
    reason: str = ""


_TOLD_BY_FAILURE = (
    *(turn.FAILED, turn.TOO_OLD, turn.AMBIGUOUS),
    *(turn.OVER_LIMIT, turn.LOOP, turn.FLAGGED),
)


def fate(
    sid: str,
    conversation: Conversation,
    archived: Sequence[Entry] = (),
    failure: Mapping[str, Any] | None = None,
) -> Fate | None:
    """None when neither record nor archive knows the SID. `archived`: the history before the
    record's, oldest first; `failure`: the record's `reply_failure`."""
    return (
        _of_pending(sid, conversation)
        or _of_outbox(sid, conversation.outbox)
        or _of_history(sid, conversation, [*archived, *conversation.messages], failure or {})
        or _of_seen(sid, conversation)
    )


def _of_pending(sid: str, conversation: Conversation) -> Fate | None:
    pending, outbox = conversation.pending, conversation.outbox
    place = next((i for i, p in enumerate(pending) if p.sid == sid), None)
    if place is None:
        return None
    taken = tuple(p.sid for p in pending[: len(outbox.seqs)]) if outbox else ()
    if outbox is None or sid not in taken:
        text = f"waiting, as message {place + 1} of {len(pending)} that nobody has answered yet"
        return Fate(sid, "inbound", "waiting", text)
    replies = tuple(_sent_parts(outbox))
    if outbox.kind == "silence":
        text = f"it gets no answer: {outbox.detail or why(outbox.reason)}"
        return Fate(sid, "inbound", "withheld", text, outbox.turn_id, taken, (), outbox.reason)
    if outbox.kind == "handoff":
        text = f"people are getting it just now: {outbox.detail or why(outbox.reason)}"
        return Fate(
            sid, "inbound", "handing_over", text, outbox.turn_id, taken, replies, outbox.reason
        )
    text = f"its reply is on the way{_together(sid, taken)}"
    return Fate(sid, "inbound", "replying", text, outbox.turn_id, taken, replies)


def _of_outbox(sid: str, outbox: Outbox | None) -> Fate | None:
    if outbox is None or sid not in (known := recovery.known_sids(outbox)).values():
        return None
    parts = [known.get(index) for index, _ in outbox.parts]
    place = parts.index(sid) + 1
    users = tuple(str(e.get("message_id", "")) for e in outbox.entries if e.get("role") == "user")
    replies = tuple(_sent_parts(outbox))
    ahead = outbox.kind in effects.AHEAD_OF_HANDOFF
    what = "a word ahead of a handoff" if ahead else f"part {place} of a reply"
    text = f"{what} that is being sent{_answers(users)}"
    return Fate(sid, "outbound", "sending", text, outbox.turn_id, users, replies)


def _sent_parts(outbox: Outbox) -> list[Sent]:
    parts = recovery.with_sids(outbox, recovery.known_sids(outbox))
    return [_sent(e) for e in recovery.history_of(parts) if e.get("role") == "assistant"]


def _of_history(
    sid: str, conversation: Conversation, history: Sequence[Entry], failure: Mapping[str, Any]
) -> Fate | None:
    entry = next((e for e in reversed(history) if e.get("message_id") == sid), None)
    if entry is None:
        return None
    role, turn_id = entry.get("role"), str(entry.get("turn_id") or "")
    inbound = role == "user"
    direction = "inbound" if inbound else "outbound"
    if not turn_id:
        wrote = "people wrote it" if role in ("human", "agent") else "another system wrote it"
        return Fate(sid, direction, "foreign", f"{wrote} into the history, replyd did not")
    ours: list[Entry] = []
    for other in history:
        # A crash between archive and removal leaves an entry in both.
        if other.get("turn_id") == turn_id and other not in ours:
            ours.append(other)
    users = tuple(str(e.get("message_id", "")) for e in ours if e.get("role") == "user")
    replies = tuple(_sent(e) for e in ours if e.get("role") == "assistant")
    last = failure if conversation.last_turn == turn_id else {}
    if not inbound:
        state, text = _of_reply(_sent(entry), turn_id, users)
        return Fate(sid, direction, state, text, turn_id, users, replies)
    state, reason, text = _of_turn(conversation, turn_id, replies, last)
    ahead = [e for e in history if users and e.get("turn_id") == f"apology-{users[0]}"]
    if ahead:
        announced = ahead[-1].get(effects.ANNOUNCED)
        told = str(announced.get("reason", "")) if isinstance(announced, Mapping) else ""
        reason = told if told in turn.INTENDED else reason
        if told == turn.BY_AI:
            text = f"people got it: {why(told)}; before, the AI took its leave"
        elif told == turn.OPTED_OUT:
            text += "; before, the customer was told that STOP was understood"
        else:
            text += "; before, the customer was told that no answer would come"
    return Fate(
        sid, direction, state, text + _together(sid, users), turn_id, users, replies, reason
    )


def _of_reply(sent: Sent, turn_id: str, users: tuple[str, ...]) -> tuple[str, str]:
    what = f"part of a reply{_answers(users)}"
    if turn_id.startswith("apology-"):
        what = f"a word ahead of the handoff of {turn_id.removeprefix('apology-')}"
    if sent.delivery not in delivery.NOT_DELIVERED:
        return "sent", f"{what}; as far as is known it is {sent.delivery}"
    told = "people know" if sent.people_told else "people do not know yet"
    return "not_delivered", f"{what}; it was not delivered, {told}"


def _of_turn(
    conversation: Conversation, turn_id: str, replies: Sequence[Sent], last: Mapping[str, Any]
) -> tuple[str, str, str]:
    """State, reason, and the words for a turn that has ended. `last`: the `reply_failure` of the
    record, if this turn was its last one; a later attempt that failed can have replaced it."""
    reason, detail = str(last.get("reason", "")), str(last.get("detail", ""))
    if any(sent.delivery == delivery.UNKNOWN for sent in replies):
        return "handed_over", turn.AMBIGUOUS, f"people got it: {why(turn.AMBIGUOUS)}"
    if reason and conversation.status == record.REPLY_WITHHELD:
        return "withheld", reason, f"it got no answer: {detail or why(reason)}"
    if reason in _TOLD_BY_FAILURE:
        return "handed_over", reason, f"people got it: {detail or why(reason)}"
    if reason == _PARTLY_SENT:
        return "partly_answered", reason, f"answered in part: {detail}"
    if replies:
        return "answered", "", f"answered with {count_of(len(replies))}"
    if conversation.last_turn == turn_id and not last:
        # Any other reason would have left a failure behind.
        if conversation.handoff != conversation.opted_out:
            reason = turn.REQUESTED if conversation.handoff else turn.OPTED_OUT
            return "handed_over", reason, f"people got it: {why(reason)}"
        return "handed_over", "", "people got it: they had the conversation, or an opt-out stood"
    known = "why is in the body on the handoff queue and in the log line of the turn"
    return "handed_over", "", f"people got it; {known}, the record no longer tells"


def _of_seen(sid: str, conversation: Conversation) -> Fate | None:
    if sid not in conversation.seen:
        return None
    text = "settled: it was accepted and is in a turn that has ended, of which no entry was found"
    return Fate(sid, "inbound", "settled", text)


def _sent(entry: Entry) -> Sent:
    sid = str(entry.get("message_id") or "")
    return Sent(
        sid,
        str(entry.get("delivery") or (delivery.ACCEPTED if sid else _PENDING)),
        str(entry.get("delivery_error") or ""),
        bool(entry.get(delivery.PEOPLE_TOLD)),
    )


def _together(sid: str, users: Sequence[str]) -> str:
    others = [s for s in users if s != sid]
    return f", in one turn with {', '.join(others)}" if others else ""


def _answers(users: Sequence[str]) -> str:
    return f" to {', '.join(users)}" if users else ""
