"""The part of a worker's turn that reaches the customer: INTENT, ARM, SEND, RECOVER, as in
`flows.reply`, `flows.send` and `flows.recover`."""

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from replyd.domain import effects, recovery, turn
from replyd.domain.effects import HandOver
from replyd.domain.expressions import Applied, Refused, StepResult
from replyd.domain.messages import SentMessage
from replyd.domain.record import Outbox
from replyd.domain.turn import TurnPolicy
from tests.model.bounds import NOW
from tests.model.requests import (
    Again,
    Answer,
    Apply,
    At,
    Await,
    Done,
    Ended,
    Failed,
    Fresh,
    Grace,
    Held,
    Json,
    ListSent,
    Never,
    Reaction,
    Sids,
    Unclear,
    Write,
    conversation,
    frozen_outbox,
    outbox_from,
)

Next = At | Ended
# Fewer than the flow's, for small budgets.
ARM_TRIES = 2
# Why SEND stopped before the last part.
Stopped = Failed | Never | Unclear | turn.Silenced | turn.LeaseLost | None


def result_of(answer: Answer) -> StepResult:
    item = json.loads(answer.item)
    return Applied(item) if answer.applied else Refused(item)


def extended(held: Held, answer: Reaction) -> Held:
    """What is left of the lease counts from before the request that extended it."""
    late = isinstance(answer, Answer) and answer.late
    return held if late else replace(held, live=True)


def user_entry(sid: str, turn_id: str) -> dict[str, Any]:
    return {"role": "user", "message_id": sid, "turn_id": turn_id}


def pairs(sids: dict[int, str]) -> Sids:
    return tuple(sorted(sids.items()))


class Sending(ABC):
    policy: TurnPolicy

    @abstractmethod
    def temporary(self, held: Held, failed: Failed) -> Next: ...

    @abstractmethod
    def hand_over(self, held: Held, what: HandOver) -> Next: ...

    @abstractmethod
    def settle(self, held: Held, outbox: Json, settled: int) -> Next: ...

    @abstractmethod
    def apology_sent(
        self, held: Held, apology: Outbox, sids: dict[int, str], stopped: Stopped
    ) -> Next: ...

    @abstractmethod
    def unwanted(
        self, held: Held, found: turn.LeaseLost | turn.Silenced | turn.NewerMessages, item: Json
    ) -> Next: ...

    # --- INTENT --------------------------------------------------------------------------------

    def compose(self, held: Held, texts: tuple[str, ...], *, seq: int) -> Next:
        return At(Fresh(), "composed", held, (texts, seq))

    def composed(self, held: Held, texts: tuple[str, ...], seq: int, answer: Reaction) -> Next:
        assert isinstance(answer, Done)
        turn_id = answer.value
        parts = [{"role": "assistant", "content": t, "turn_id": turn_id} for t in texts]
        entries = (*(user_entry(sid, turn_id) for sid in held.sids), *parts)
        seqs = tuple(p.seq for p in held.taken)
        outbox = frozen_outbox(Outbox(turn_id, "reply", seqs, entries, NOW, delivery={}))
        insisted = seq if held.restarts < self.policy.max_restarts else None
        step = Apply("intend_reply", (outbox, held.head, insisted, held.unsent))
        return At(step, "intended", replace(held, intended="reply"), (outbox, insisted))

    def intended(self, held: Held, outbox: Json, insisted: int | None, answer: Reaction) -> Next:
        if isinstance(answer, Failed):
            return self.temporary(held, answer)
        assert isinstance(answer, Answer)
        reply = outbox_from(outbox)
        found = turn.after_intent(
            result_of(answer),
            conversation(answer.item),
            token=held.token,
            turn_id=reply.turn_id,
            seq=insisted,
        )
        if isinstance(found, turn.Holds):
            holding = replace(extended(held, answer), unsent="")
            return self.send(holding, reply, {})
        return self.unwanted(held, found, answer.item)

    # --- SEND and ARM --------------------------------------------------------------------------

    def send(self, held: Held, outbox: Outbox, sids: dict[int, str], attempt: int = 1) -> Next:
        missing = [i for i, _ in outbox.parts if i not in sids]
        if not missing:
            return self._stopped(held, outbox, sids, None)
        if not sids:
            return self._write(held, outbox, sids, missing[0], attempt)
        return self._arm(held, frozen_outbox(outbox), pairs(sids), missing[0], attempt)

    def _arm(
        self, held: Held, outbox: Json, sids: Sids, index: int, attempt: int, tried: int = 1
    ) -> Next:
        step = Apply("arm", (outbox_from(outbox).turn_id, index, sids))
        return At(step, "armed", held, (outbox, sids, index, attempt, tried))

    def armed(
        self,
        held: Held,
        outbox: Json,
        sids: Sids,
        index: int,
        attempt: int,
        tried: int,
        answer: Reaction,
    ) -> Next:
        if isinstance(answer, Failed):
            if tried < ARM_TRIES:
                return self._arm(held, outbox, sids, index, attempt, tried + 1)
            return self.temporary(held, answer)
        assert isinstance(answer, Answer)
        found = turn.after_arm(result_of(answer), conversation(answer.item), token=held.token)
        if isinstance(found, turn.Holds):
            holding = extended(held, answer)
            return self._write(holding, outbox_from(outbox), dict(sids), index, attempt)
        return self._stopped(held, outbox_from(outbox), dict(sids), found)

    def _write(
        self, held: Held, outbox: Outbox, sids: dict[int, str], index: int, attempt: int
    ) -> Next:
        part = Write(str(outbox.entries[index]["content"]), outbox.turn_id, index)
        return At(part, "written", held, (frozen_outbox(outbox), pairs(sids), part, attempt))

    def written(
        self, held: Held, outbox: Json, sids: Sids, part: Write, attempt: int, answer: Reaction
    ) -> Next:
        context = (outbox, sids, part.entry, attempt, held.may_have_sent)
        if isinstance(answer, Failed):
            # Too little of the lease was left.
            return self.answered(held, *context, answer)
        return At(Await(part), "answered", replace(held, may_have_sent=True), context)

    def answered(
        self,
        held: Held,
        outbox: Json,
        known: Sids,
        index: int,
        attempt: int,
        before: bool,
        answer: Reaction,
    ) -> Next:
        reply, sids = outbox_from(outbox), dict(known)
        if isinstance(answer, Done):
            return self.send(held, reply, sids | {index: answer.value})
        if isinstance(answer, Failed | Never):
            # A proof of refusal.
            held = replace(held, may_have_sent=before)
        if isinstance(answer, Failed) and sids and attempt < self.policy.max_attempts:
            return self.send(held, reply, sids, attempt + 1)
        assert not isinstance(answer, Answer)
        return self._stopped(held, reply, sids, answer)

    def _stopped(self, held: Held, outbox: Outbox, sids: dict[int, str], stopped: Stopped) -> Next:
        if outbox.kind == "apology":
            return self.apology_sent(held, outbox, sids, stopped)
        noted = recovery.with_sids(outbox, sids)
        match stopped:
            case turn.LeaseLost():
                return Ended(Again(), held.kept)
            case Unclear():
                return self.look(held, noted)
            case Never() if not sids:
                return self.hand_over(held, HandOver(turn.FAILED, held.taken))
            case Failed() if not sids:
                return self.temporary(replace(held, kept=(held.sids, texts_of(outbox))), stopped)
        if stopped is not None:
            noted = recovery.without_unsent(noted)
        return self.settle(held, frozen_outbox(noted), max(noted.seqs))

    # --- RECOVER -------------------------------------------------------------------------------

    def look(self, held: Held, outbox: Outbox) -> Next:
        held = replace(held, reconciled=held.reconciled + 1)
        sids = recovery.known_sids(outbox)
        if len(sids) < len(outbox.parts):
            return At(Grace(), "graced", held, (frozen_outbox(outbox),))
        return self._conclude(held, outbox, sids, certain=True)

    def graced(self, held: Held, outbox: Json, _: Reaction) -> Next:
        return At(Apply("renew"), "looked", held, (outbox,))

    def looked(self, held: Held, outbox: Json, answer: Reaction) -> Next:
        if isinstance(answer, Failed):
            return self.temporary(held, answer)
        assert isinstance(answer, Answer)
        there = conversation(answer.item)
        if isinstance(turn.after_renewal(there, token=held.token), turn.LeaseLost):
            return Ended(Again(), held.kept)
        held, reply = extended(held, answer), outbox_from(outbox)
        if there.outbox is not None:
            reply = replace(reply, delivery=there.outbox.delivery)
        known = recovery.known_sids(reply)
        if len(known) == len(reply.parts):
            return self._conclude(held, reply, known, certain=True)
        return At(ListSent(), "listed", held, (frozen_outbox(reply),))

    def listed(self, held: Held, outbox: Json, answer: Reaction) -> Next:
        reply = outbox_from(outbox)
        if isinstance(answer, Failed) and self._given_up(held) is None:
            return self.temporary(held, answer)
        if isinstance(answer, Failed | Never):
            return self._conclude(held, reply, recovery.known_sids(reply), certain=False)
        assert isinstance(answer, Done)
        since = recovery.listed_since(reply, self.policy)
        shown = [SentMessage(sid_of_part(t), t, NOW) for t in json.loads(answer.value)]
        history = held.conversation.messages
        elsewhere = {str(m["message_id"]) for m in history if m.get("message_id")}
        sids = recovery.accepted_parts(reply, shown, since=since, elsewhere=elsewhere)
        return self._conclude(held, reply, sids, certain=True)

    def _given_up(self, held: Held) -> HandOver | None:
        return effects.given_up(
            held.conversation,
            held.taken,
            now=NOW,
            policy=self.policy,
            further=held.reconciled - 1,
        )

    def _conclude(self, held: Held, outbox: Outbox, sids: dict[int, str], *, certain: bool) -> Next:
        found = recovery.after_look(
            outbox,
            held.taken,
            sids,
            certain=certain,
            given_up=self._given_up(held),
            policy=self.policy,
        )
        if isinstance(found, recovery.SendAgain) or (certain and not sids):
            held = replace(held, may_have_sent=not certain, unsent=frozen_outbox(outbox))
        match found:
            case recovery.SendAgain():
                return self.compose(held, texts_of(outbox), seq=max(outbox.seqs))
            case recovery.Resume(accepted):
                return self.send(held, outbox, dict(accepted))
            case HandOver() as what:
                return self.hand_over(held, what)


def texts_of(outbox: Outbox) -> tuple[str, ...]:
    return tuple(str(part["content"]) for _, part in outbox.parts)


def sid_of_part(text: str) -> str:
    """The channel's SID of a part."""
    return f"SM {text}"
