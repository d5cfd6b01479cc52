"""The way of each message through replyd, made from the events that production emits.

Messages that wait together or are answered together are one turn. A turn keeps the newest event
of each kind, and its steps are read off them when somebody asks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from replyd.demo.turns import FINAL, Message, Turn, rank, state_of, steps_of
from replyd.domain.events import (
    DeliveryReported,
    Event,
    MessageAccepted,
    MessageDropped,
    ModelAnswered,
    ModelAsked,
    PartSent,
    ToolRan,
    TurnClaimed,
    TurnEnded,
)
from replyd.domain.messages import ConversationKey

KEEP_MESSAGES = 100


class Journeys:
    """A Telemetry sink that remembers the last `keep` messages (100) and what became of them.

    `on_change` is called after each event that changed something, on the emitter's thread.
    """

    def __init__(
        self, on_change: Callable[[], None] | None = None, *, keep: int = KEEP_MESSAGES
    ) -> None:
        self.on_change = on_change
        self._keep = keep
        self._messages: dict[str, Message] = {}  # by SID, oldest first
        self._turns: dict[int, Turn] = {}
        self._turn_of: dict[str, Turn] = {}
        self._numbers = 0
        self._totals = {"accepted": 0, "turns": 0, "replies": 0, "handed_over": 0}

    def emit(self, event: Event) -> None:
        """Take one event in; those that say nothing about a message are ignored."""
        if self._take(event):
            self._forget_oldest()
            if self.on_change is not None:
                self.on_change()

    def snapshot(self) -> list[dict[str, Any]]:
        """The turns, newest first, ready for JSON; times in epoch milliseconds.

        Each has `id`, `conversation_id`, `customer`, `state` (waiting, working, retry, replied,
        handed_over, withheld, failed, dropped), `attempt`, `restarts`, `total_ms`, `messages`
        (`sid`, `at`, `seq`, `repeats`, oldest first) and `steps`. A step has `name`, `state` (done,
        active, todo, failed) and what is known of it: `at`, `duration_ms`, `closes_at`, `until`, …
        """
        return [self._as_dict(turn) for turn in reversed(self._turns.values())]

    def totals(self) -> dict[str, int]:
        """Counts since the start: accepted (messages), turns, replies, handed_over (turns)."""
        return dict(self._totals)

    def _take(self, event: Event) -> bool:
        changed = False
        match event:
            case MessageAccepted():
                changed = self._accepted(event)
            case MessageDropped():
                changed = self._dropped(event)
            case TurnClaimed():
                changed = self._claimed(event)
            case PartSent(sids=()):
                # A person's answer: no turn of the AI's.
                pass
            case ModelAsked() | ModelAnswered() | ToolRan() | PartSent():
                changed = self._worked(event)
            case TurnEnded():
                changed = self._ended(event)
            case DeliveryReported():
                changed = self._delivered(event)
        return changed

    def _accepted(self, event: MessageAccepted) -> bool:
        known = self._messages.get(event.sid)
        if known is not None and known.accepted:
            known.repeats += 1
            return True
        if not event.again:
            self._totals["accepted"] += 1
        message = Message(event.sid, event.at, event.seq, max(0, event.at - event.received_at))
        self._messages[event.sid] = message
        if known is not None:
            # A worker was faster than the webhook's last line.
            turn = self._turn_of[event.sid]
            turn.customer = turn.customer or event.customer
            return True
        turn = self._waiting(event.key) or self._new(
            event.key, event.conversation_id, event.customer
        )
        self._join(turn, [event.sid])
        turn.last_at = event.at
        turn.closes_at = max(event.closes_at, event.at)
        return True

    def _dropped(self, event: MessageDropped) -> bool:
        known = self._messages.get(event.sid)
        if known is not None:
            known.repeats += 1
            return True
        self._messages[event.sid] = Message(event.sid, event.at, accepted=False)
        turn = self._new(None, "", event.customer)
        turn.dropped = event
        self._join(turn, [event.sid])
        return True

    def _claimed(self, event: TurnClaimed) -> bool:
        if not event.sids:
            return False
        turn = self._find(event.key, event.sids) or self._new(event.key, event.conversation_id, "")
        joined = [self._turn_of[sid] for sid in event.sids if sid in self._turn_of]
        turn.closes_at = max([turn.closes_at, *(t.closes_at for t in joined)])
        self._take_exactly(turn, event.sids, event.at - event.window_wait_ms)
        turn.claimed, turn.ended = event, None
        if not turn.parts:
            turn.asked, turn.answered = None, None
            turn.rounds, turn.tools = [], []
        return True

    def _worked(self, event: ModelAsked | ModelAnswered | ToolRan | PartSent) -> bool:
        turn = self._find(event.key, event.sids)
        if turn is None:
            return False
        match event:
            case ModelAsked():
                self._asked(turn, event)
            case ModelAnswered():
                turn.answered = event
            case ToolRan():
                turn.tools.append(event)
            case PartSent():
                turn.parts[event.part] = event
                turn.delivery.setdefault(event.part_sid, "")
        return True

    def _asked(self, turn: Turn, event: ModelAsked) -> None:
        if turn.answered is not None and turn.asked is not None and turn.asked.sids == event.sids:
            # The next round: it is told what the tools said.
            turn.rounds.append(turn.answered)
            turn.answered = None
            return
        if turn.asked is not None:
            turn.restarts += 1
            turn.rounds, turn.tools = [], []
        if event.sids:
            # Messages that came while the model was thinking have joined the turn.
            self._take_exactly(turn, event.sids, event.at)
        turn.asked, turn.answered = event, None

    def _ended(self, event: TurnEnded) -> bool:
        if event.outcome in FINAL:
            self._totals["turns"] += 1
            self._totals["replies"] += event.outcome in ("replied", "partly_sent")
            self._totals["handed_over"] += event.outcome == "handed_over"
        turn = self._find(event.key, event.sids)
        if turn is None or event.outcome == "nothing_to_do":
            return event.outcome in FINAL
        newer = turn.claimed is not None and turn.claimed.attempt > event.attempt > 0
        if turn.over or (newer and event.outcome not in FINAL):
            # The worker that lost the lease speaks after the one that took it.
            return False
        turn.ended = event
        turn.customer = turn.customer or event.customer
        turn.restarts = max(turn.restarts, event.restarts)
        return True

    def _delivered(self, event: DeliveryReported) -> bool:
        for turn in self._turns.values():
            before = turn.delivery.get(event.sid)
            if before is not None and rank(event.status) > rank(before):
                turn.delivery[event.sid] = event.status
                return True
        return False

    def _new(self, key: ConversationKey | None, conversation_id: str, customer: str) -> Turn:
        self._numbers += 1
        turn = Turn(self._numbers, key, conversation_id, customer)
        self._turns[turn.number] = turn
        return turn

    def _waiting(self, key: ConversationKey) -> Turn | None:
        return next((t for t in self._turns.values() if t.waiting and t.key == key), None)

    def _find(self, key: ConversationKey, sids: Sequence[str]) -> Turn | None:
        """The turn of any of these messages, the oldest; without messages, the open one."""
        found = [self._turn_of[sid] for sid in sids if sid in self._turn_of]
        if not sids:
            found = [t for t in self._turns.values() if t.key == key and not t.over]
        return min(found, key=lambda t: t.number, default=None)

    def _take_exactly(self, turn: Turn, sids: Sequence[str], at: int) -> None:
        """Make `turn` consist of `sids`; what it held beyond them waits for the next one."""
        for sid in sids:
            if sid not in self._messages:
                # Accepted elsewhere: by another instance, or before this one started.
                self._messages[sid] = Message(sid, at, accepted=False)
        left = [sid for sid in turn.sids if sid not in sids]
        self._join(turn, sids)
        if left:
            rest = self._new(turn.key, turn.conversation_id, turn.customer)
            rest.last_at, rest.closes_at = turn.last_at, turn.closes_at
            self._join(rest, left)
        turn.sids = list(sids)

    def _join(self, turn: Turn, sids: Iterable[str]) -> None:
        for sid in sids:
            before = self._turn_of.get(sid)
            if before is turn:
                continue
            if before is not None:
                turn.customer = turn.customer or before.customer
                self._leave(before, sid)
            self._turn_of[sid] = turn
            turn.sids.append(sid)

    def _leave(self, turn: Turn, sid: str) -> None:
        turn.sids.remove(sid)
        if not turn.sids:
            del self._turns[turn.number]

    def _forget_oldest(self) -> None:
        while len(self._messages) > self._keep:
            sid = next(iter(self._messages))
            del self._messages[sid]
            self._leave(self._turn_of.pop(sid), sid)

    def _as_dict(self, turn: Turn) -> dict[str, Any]:
        messages = [self._messages[sid] for sid in turn.sids]
        return {
            "id": f"t{turn.number}",
            "conversation_id": turn.conversation_id,
            "customer": turn.customer,
            "state": state_of(turn),
            "attempt": turn.claimed.attempt if turn.claimed is not None else 0,
            "restarts": turn.restarts,
            "total_ms": turn.ended.at - messages[0].at if turn.over and turn.ended else None,
            "messages": [
                {"sid": m.sid, "at": m.at, "seq": m.seq, "repeats": m.repeats} for m in messages
            ],
            "steps": steps_of(turn, messages),
        }
