"""In words: what happens next in a conversation, and why.

Functions of the record and the time, by the decisions that workers take. No sentence holds an
address or the text of a message. Times are epoch milliseconds.
"""

from dataclasses import dataclass, replace

from replyd.domain import effects, recovery, turn
from replyd.domain.expressions import Refused
from replyd.domain.record import Conversation
from replyd.domain.turn import TurnPolicy
from replyd.domain.window import WindowPolicy

# No lease has this token: we look, we do not hold.
_NOBODY = "\0"
# Without a failed attempt a closed window is taken up within seconds.
OVERDUE_MS = 60_000

_WHY = {
    turn.REQUESTED: "people have the conversation",
    turn.OPTED_OUT: "the customer has opted out",
    turn.FAILED: "the AI could not answer",
    turn.AMBIGUOUS: "a reply has reached the customer in part, or may have",
    turn.TOO_OLD: "nobody could answer in time",
    turn.BY_AI: "the AI has handed over",
    turn.OVER_LIMIT: "a budget is used up",
    turn.LOOP: "two bots seem to talk to each other",
    turn.FLAGGED: "moderation flagged a text",
    turn.WINDOW_CLOSED: "WhatsApp takes free text for 24 hours after the customer's last message",
}
_DOING = {
    "reply": "is sending the reply",
    "handoff": "is giving it to people",
    "silence": "is recording it without an answer",
    "notice": "is confirming STOP to the customer",
    "apology": "is telling the customer that no answer will come",
    "person": "is sending a person's answer",
}


_LEFT = (
    "a process ended while it sent a person's answer: it counts as sent, and goes to the history "
    "within about the time of a lease, or else with the customer's next message or the next answer"
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens next, and why.

    `state`: `idle`, `window_open`, `held` (a worker has it) or `due` (any worker may take it).
    `effect`: what the turn will do, `answer`, `hand_over`, `withhold`, `recover`, `finish_apology`,
    or empty;
    `reason`: why people get it; `messages`: how many it is about. `at`: the earliest moment, 0
    when there is none. `gives_up_at`: when people get it if nobody could answer, else 0."""

    state: str
    text: str
    effect: str = ""
    reason: str = ""
    messages: int = 0
    at: int = 0
    gives_up_at: int = 0


def outlook(
    conversation: Conversation,
    *,
    now: int,
    policy: TurnPolicy,
    window: WindowPolicy,
    grace_ms: int,
) -> Outlook:
    """`grace_ms`: how long a send without an answer may still arrive."""
    claimed = turn.after_claim(
        Refused(None),
        conversation,
        token=_NOBODY,
        seq=conversation.seq,
        now=now,
        policy=policy,
        window=window,
    )
    closes_at = turn.window_closes_at(conversation, window)
    match claimed:
        case turn.HeldElsewhere(free_at) if conversation.unfinished:
            at = max(free_at, closes_at)
        case turn.WindowOpen(at):
            pass
        case turn.ClaimAgain() if _is_left(conversation):
            return Outlook("idle", "nothing waits; " + _LEFT)
        case turn.ClaimAgain():
            at = now
        case _:
            return Outlook("idle", _idle(conversation))
    held, lease = isinstance(claimed, turn.HeldElsewhere), conversation.lease
    if held and lease and lease.expires_at > now and conversation.outbox is None:
        what = effects.next_effect(conversation, now=now, policy=policy)
    else:
        # What the next worker will find: its CLAIM counts itself among the attempts.
        turned = replace(conversation, attempts=conversation.attempts + 1)
        what = effects.next_effect(turned, now=at, policy=policy)
    effect, reason, messages, clause = _effect(what, grace_ms)
    if held:
        state, text = "held", _held(conversation, clause, at=at, now=now, policy=policy)
    elif isinstance(claimed, turn.WindowOpen):
        rule = f"{span(window.quiet_ms)} without a message, {span(window.max_wait_ms)} at most"
        state = "window_open"
        text = f"the window closes in {span(at - now)} ({rule}), then {clause}"
    else:
        state, text = "due", _due(conversation, clause, closed_at=closes_at, now=now, policy=policy)
    gives_up_at = (
        conversation.pending[0].received_at + policy.give_up_ms if effect == "answer" else 0
    )
    return Outlook(state, text, effect, reason, messages, at, gives_up_at)


def _is_left(conversation: Conversation) -> bool:
    """Whether a person's answer was not written down, and no wake-up leads to it."""
    outbox = conversation.outbox
    return outbox is not None and outbox.kind == "person" and not conversation.pending


def _idle(conversation: Conversation) -> str:
    if conversation.handoff:
        return "people have it: the AI stays silent, and new messages go to the handoff queue"
    if conversation.opted_out:
        return "nothing to do: the customer has opted out, the AI stays silent until they return"
    if not conversation.seq:
        return "nothing to do: no message has come yet"
    return "nothing to do: every message is settled"


def _effect(what: effects.Next, grace_ms: int) -> tuple[str, str, int, str]:
    """Effect, reason, number of messages, and the clause that says so."""
    match what:
        case effects.AskModel(taken):
            return "answer", "", len(taken), f"the AI answers {count_of(len(taken))}"
        case effects.SayText(taken, _, reason):
            clause = f"a fixed text answers {count_of(len(taken))}: {why(reason)}"
            return "answer", reason, len(taken), clause
        case effects.HandOver() | effects.RepeatHandoff():
            return _handoff(what)
        case effects.FinishApology(outbox):
            said = "a person's answer" if outbox.kind == "person" else "the apology"
            clause = f"{said} counts as sent, and people get what is pending"
            return "finish_apology", turn.FAILED, 0, clause
        case effects.Recover(outbox, taken):
            parts, known = len(outbox.parts), len(recovery.known_sids(outbox))
            clause = f"somebody waits {span(grace_ms)} and looks up how far the reply came"
            if known:
                clause += f" ({known} of {parts} parts are known to be accepted)"
            if known == parts:
                clause = "somebody writes down the reply, all of which was accepted"
            return "recover", "", len(taken), clause
        case effects.LetGo():
            return "", "", 0, "nothing is left to do"


def _handoff(what: effects.HandOver | effects.RepeatHandoff) -> tuple[str, str, int, str]:
    if isinstance(what, effects.HandOver):
        reason, detail, silent = what.reason, what.detail, what.silent
    else:
        reason, detail = what.outbox.reason, what.outbox.detail
        silent = what.outbox.kind == "silence"
    of, because = count_of(len(what.taken)), detail or why(reason)
    if silent:
        return "withhold", reason, len(what.taken), f"no answer goes to {of}: {because}"
    apologises = isinstance(what, effects.HandOver) and what.apologise
    told = "the customer is told that no answer will come, and " if apologises else ""
    return "hand_over", reason, len(what.taken), f"{told}people get {of}: {because}"


def _held(conversation: Conversation, clause: str, *, at: int, now: int, policy: TurnPolicy) -> str:
    lease, outbox = conversation.lease, conversation.outbox
    assert lease is not None
    if lease.expires_at <= now:
        ended = "an earlier worker ended" + (" while sending" if outbox else "")
        skew = f"{lease.owner}, its lease has run out; clocks may be {span(policy.skew_ms)} apart"
        return f"{ended} ({skew}): in {span(at - now)} {clause}"
    lasts = f"Its lease lasts another {span(lease.expires_at - now)}, longer while it renews"
    if outbox is None:
        goes_on = f"another one goes on in {span(at - now)}"
        return f"worker {lease.owner} has it: {clause}. {lasts}; should it have ended, {goes_on}"
    doing = _DOING.get(outbox.kind, "is at work on it")
    return (
        f"worker {lease.owner} {doing}. {lasts}; should it have ended, in {span(at - now)} {clause}"
    )


def _due(
    conversation: Conversation, clause: str, *, closed_at: int, now: int, policy: TurnPolicy
) -> str:
    ended = "an earlier worker ended while sending: " if conversation.outbox else ""
    text, patience_ms = f"{ended}as soon as a worker takes it, {clause}", OVERDUE_MS
    if conversation.attempts:
        patience_ms += policy.give_up_ms
        tried = f"attempt {conversation.attempts} of {policy.max_attempts} did not succeed"
        text += f"; {tried}, the next one follows within {span(turn.LONGEST_PAUSE_MS)}"
    waited = now - max(closed_at, conversation.last_at)
    if waited <= patience_ms:
        return text
    return (
        f"{text}. It has been due for {span(waited)}: look whether `replyd serve` runs, and with "
        "`replyd dlq list` whether its wake-up is in the dead-letter queue"
    )


def why(reason: str) -> str:
    """A handoff reason in words."""
    return _WHY.get(reason, reason or "the reason is not known")


def count_of(messages: int) -> str:
    """1 message, 2 messages."""
    return "1 message" if messages == 1 else f"{messages} messages"


def span(ms: int) -> str:
    """A time in one unit, rounded up in seconds, so that nothing is promised too early."""
    seconds = max(0, -(-ms // 1000))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
