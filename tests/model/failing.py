"""FAIL: the customer is told that the AI has no answer, as in `flows.apologise`; and what a
COMMIT's answer means, as in `flows.settle`."""

import json
from abc import abstractmethod
from dataclasses import replace

from replyd.domain import effects, recovery, turn
from replyd.domain import record as r
from replyd.domain.record import Outbox
from tests.model.bounds import NOW
from tests.model.requests import (
    Again,
    Answer,
    Apply,
    At,
    Ended,
    Failed,
    Held,
    Json,
    Reaction,
    Unclear,
    conversation,
    frozen,
    frozen_outbox,
    outbox_from,
)
from tests.model.sending import Next, Sending, Stopped, extended, result_of


class Failing(Sending):
    @abstractmethod
    def run(self, held: Held) -> Next: ...

    @abstractmethod
    def intend_handoff(self, held: Held, reason: str, maybe_sent: Outbox | None) -> Next: ...

    def after_commit(
        self, held: Held, outbox: Json, answer: Reaction
    ) -> turn.Holds | turn.LeaseLost | Json:
        """The outbox to try again with, if neither."""
        if not isinstance(answer, Answer):
            return outbox
        result, tried = result_of(answer), outbox_from(outbox)
        found = turn.after_commit(
            result, conversation(answer.item), token=held.token, turn_id=tried.turn_id
        )
        if isinstance(found, turn.DeliveryChanged):
            return frozen_outbox(replace(tried, delivery=found.outbox.delivery))
        return found

    def apologise(self, held: Held, reason: str) -> Next:
        turn_id = effects.apology_id(held.conversation)
        entry = {"role": "assistant", "content": turn_id, "turn_id": turn_id}
        outbox = Outbox(turn_id, "apology", (), (entry,), NOW, reason=reason, delivery={})
        step = Apply("intend_reply", (frozen_outbox(outbox), held.head, None, held.unsent))
        intending = replace(held, intended="apology")
        return At(step, "apology_intended", intending, (frozen_outbox(outbox),))

    def apology_intended(self, held: Held, outbox: Json, answer: Reaction) -> Next:
        if isinstance(answer, Failed):
            return self.temporary(held, answer)
        assert isinstance(answer, Answer)
        apology = outbox_from(outbox)
        found = turn.after_intent(
            result_of(answer),
            conversation(answer.item),
            token=held.token,
            turn_id=apology.turn_id,
        )
        if isinstance(found, turn.Holds):
            return self.send(replace(extended(held, answer), unsent=""), apology, {})
        # Whatever it was: a lost lease shows at the handoff's own INTENT.
        return self.intend_handoff(held, apology.reason, None)

    def apology_sent(
        self, held: Held, apology: Outbox, sids: dict[int, str], stopped: Stopped
    ) -> Next:
        if sids or isinstance(stopped, Unclear):
            return self.settle_apology(held, recovery.with_sids(apology, sids), apology.reason)
        return self.intend_handoff(held, apology.reason, None)

    def settle_apology(self, held: Held, outbox: Outbox, reason: str | None) -> Next:
        """`reason`: of the handoff that follows; None to look again what follows."""
        return self._commit_apology(held, frozen_outbox(recovery.unknown_delivery(outbox)), reason)

    def _commit_apology(self, held: Held, outbox: Json, reason: str | None) -> Next:
        if not held.live:
            return Ended(Again(), held.kept)
        step = Apply("commit_apology", (outbox,))
        return At(step, "apology_settled", held, (outbox, reason))

    def apology_settled(
        self, held: Held, outbox: Json, reason: str | None, answer: Reaction
    ) -> Next:
        match self.after_commit(held, outbox, answer):
            case turn.Holds():
                held = extended(held, answer)
            case turn.LeaseLost():
                return Ended(Again(), held.kept)
            case again:
                return self._commit_apology(held, again, reason)
        known = json.loads(held.item) | {r.LAST_TURN: outbox_from(outbox).turn_id}
        known.pop(r.OUTBOX, None)
        held = replace(held, item=frozen(known))
        return self.run(held) if reason is None else self.intend_handoff(held, reason, None)
