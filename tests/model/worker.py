"""A worker's turn, from CLAIM to COMMIT or release: the steps and decisions of `replyd.flows` in
their order, cut where a worker waits. The decisions are the shipped ones."""

from dataclasses import replace

from replyd.domain import effects, recovery, turn
from replyd.domain.effects import HandOver
from replyd.domain.record import Outbox
from tests.model.bounds import BEFORE, NOW, Bounds
from tests.model.failing import Failing
from tests.model.requests import (
    Again,
    Answer,
    Apply,
    AskModel,
    At,
    Done,
    Ended,
    Failed,
    Fresh,
    GiveToPeople,
    Held,
    Json,
    Never,
    PassOn,
    Reaction,
    Settled,
    WaitWindow,
    conversation,
    frozen_outbox,
    outbox_from,
)
from tests.model.sending import Next, extended, result_of, user_entry

RETRY = Again()


class Worker(Failing):
    """Every method that takes a `Reaction` last is named by some `At.then`."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.policy = bounds.policy

    def resume(self, at: At, answer: Reaction) -> Next:
        ended_or_at: Next = getattr(self, at.then)(at.held, *at.context, answer)
        return ended_or_at

    # --- CLAIM ---------------------------------------------------------------------------------

    def start(self, seq: int, kept: tuple[tuple[str, ...], ...]) -> At:
        return At(Apply("claim"), "claimed", Held("", seq, kept=kept), (1,))

    def claimed(self, held: Held, attempt: int, answer: Reaction) -> Next:
        if not isinstance(answer, Answer):
            return Ended(Again(), held.kept)
        found = turn.after_claim(
            result_of(answer),
            conversation(answer.item),
            token=answer.token,
            seq=held.seq,
            now=BEFORE if answer.late else NOW,
            policy=self.policy,
            window=self.bounds.quiet,
        )
        match found:
            case turn.Claimed():
                return self.run(
                    extended(replace(held, token=answer.token, item=answer.item), answer)
                )
            case turn.NothingLeft(settled):
                return Ended(Settled(settled), held.kept)
            case turn.WindowOpen():
                return Ended(Again(), held.kept)
            case turn.HeldElsewhere():
                return Ended(PassOn(), held.kept)
        if attempt < 3:
            return At(Apply("claim"), "claimed", held, (attempt + 1,))
        return Ended(Again(), held.kept)

    def run(self, held: Held) -> Next:
        match effects.next_effect(held.conversation, now=NOW, policy=self.policy):
            case effects.AskModel(taken):
                return self.ask(replace(held, taken=taken))
            case effects.Recover(outbox, taken):
                taking = replace(held, taken=taken, intended="reply", may_have_sent=True)
                return self.look(taking, outbox)
            case HandOver() as what:
                return self.hand_over(held, what)
            case effects.RepeatHandoff(outbox, taken):
                return self.give(replace(held, taken=taken, intended="handoff"), outbox)
            case effects.FinishApology(outbox):
                return self.settle_apology(held, outbox, None)
        return self.release(held, give_back=True, outcome=Settled(held.conversation.settled))

    def release(self, held: Held, *, give_back: bool, outcome: Again | Settled = RETRY) -> Next:
        drop = held.intended == "reply" and not held.may_have_sent
        return At(Apply("release", (give_back, drop)), "released", held, (outcome,))

    def released(self, held: Held, outcome: Again | Settled, _: Reaction) -> Next:
        return Ended(outcome, held.kept)

    def temporary(self, held: Held, failed: Failed) -> Next:
        return self.release(held, give_back=failed.give_back)

    def unwanted(
        self, held: Held, found: turn.LeaseLost | turn.Silenced | turn.NewerMessages, item: Json
    ) -> Next:
        match found:
            case turn.Silenced(reason):
                maybe = outbox_from(held.unsent) if held.may_have_sent and held.unsent else None
                return self.hand_over(held, HandOver(reason, held.taken, maybe_sent=maybe))
            case turn.NewerMessages():
                newer = replace(held, item=item, restarts=held.restarts + 1)
                return At(WaitWindow(), "waited", newer)
        return Ended(Again(), held.kept)

    # --- RUN -----------------------------------------------------------------------------------

    def ask(self, held: Held) -> Next:
        if held.kept and held.kept[0] == held.sids:
            texts = held.kept[1]
            return self.compose(replace(held, kept=()), texts, seq=held.conversation.seq)
        return At(AskModel(), "asked", held)

    def asked(self, held: Held, answer: Reaction) -> Next:
        seq = held.conversation.seq
        match answer:
            case Answer():
                insisted = seq if held.restarts < self.policy.max_restarts else None
                found = turn.after_renewal(
                    conversation(answer.item), token=held.token, seq=insisted
                )
                if isinstance(found, turn.Holds):
                    return At(AskModel(), "asked", extended(held, answer))
                return self.unwanted(held, found, answer.item)
            case Failed():
                return self.temporary(held, answer)
            case Never():
                # Repeating cannot help: people answer.
                taken, policy = held.taken, self.policy
                what = effects.give_up(held.conversation, taken, turn.FAILED, "", policy)
                return self.hand_over(held, what)
        assert isinstance(answer, Done)
        sids = ",".join(held.sids)
        texts = tuple(f"{answer.value} {sids} p{n}" for n in range(self.bounds.parts))
        return self.compose(held, texts, seq=seq)

    def waited(self, held: Held, answer: Reaction) -> Next:
        seq = held.conversation.seq
        if isinstance(answer, Answer):
            found = turn.after_renewal(conversation(answer.item), token=held.token, seq=seq)
            match found:
                case turn.NewerMessages():
                    return At(WaitWindow(), "waited", replace(held, item=answer.item))
                case turn.Holds():
                    return At(WaitWindow(), "waited", extended(held, answer))
            return self.unwanted(held, found, answer.item)
        return self.ask(replace(held, taken=held.conversation.pending[: turn.MAX_TAKEN]))

    # --- HANDOFF -------------------------------------------------------------------------------

    def hand_over(self, held: Held, what: HandOver) -> Next:
        held = replace(held, taken=what.taken)
        if what.apologise:
            return self.apologise(held, what.reason)
        return self.intend_handoff(held, what.reason, what.maybe_sent)

    def intend_handoff(self, held: Held, reason: str, maybe_sent: Outbox | None) -> Next:
        if maybe_sent is None:
            return At(Fresh(), "handoff_named", held, (reason,))
        outbox = replace(
            recovery.unknown_delivery(maybe_sent),
            kind="handoff",
            seqs=tuple(p.seq for p in held.taken),
            at=NOW,
            reason=reason,
        )
        return self._intended_handoff(held, outbox, over=True)

    def handoff_named(self, held: Held, reason: str, answer: Reaction) -> Next:
        assert isinstance(answer, Done)
        entries = tuple(user_entry(sid, answer.value) for sid in held.sids)
        seqs = tuple(p.seq for p in held.taken)
        outbox = Outbox(answer.value, "handoff", seqs, entries, NOW, reason=reason, delivery={})
        return self._intended_handoff(held, outbox, over=False)

    def _intended_handoff(self, held: Held, outbox: Outbox, *, over: bool) -> Next:
        attribute = frozen_outbox(outbox)
        step = Apply("intend_handoff", (attribute, held.head, over))
        intending = replace(held, intended="handoff")
        return At(step, "handoff_intended", intending, (attribute, over))

    def handoff_intended(self, held: Held, outbox: Json, over: bool, answer: Reaction) -> Next:
        if isinstance(answer, Failed):
            return self.temporary(held, answer)
        assert isinstance(answer, Answer)
        match turn.after_handoff_intent(
            result_of(answer), conversation(answer.item), token=held.token
        ):
            case turn.Holds():
                return self.give(extended(held, answer), outbox_from(outbox))
            case turn.DeliveryChanged(there):
                carried = replace(outbox_from(outbox), delivery=there.delivery)
                return self._intended_handoff(held, carried, over=over)
        return Ended(Again(), held.kept)

    def give(self, held: Held, outbox: Outbox) -> Next:
        told = bool(outbox.parts)
        request = GiveToPeople(held.sids, outbox.reason, told)
        return At(request, "given", held, (frozen_outbox(outbox),))

    def given(self, held: Held, outbox: Json, answer: Reaction) -> Next:
        if isinstance(answer, Failed):
            return self.temporary(held, answer)
        seqs = outbox_from(outbox).seqs
        return self.settle(held, outbox, max(seqs, default=held.conversation.settled))

    # --- COMMIT --------------------------------------------------------------------------------

    def settle(self, held: Held, outbox: Json, settled: int) -> Next:
        if not held.live:
            return Ended(Again(), held.kept)
        return At(Apply("commit", (outbox,)), "committed", held, (outbox, settled))

    def committed(self, held: Held, outbox: Json, settled: int, answer: Reaction) -> Next:
        match self.after_commit(held, outbox, answer):
            case turn.Holds():
                return Ended(Settled(settled), held.kept)
            case turn.LeaseLost():
                return Ended(Again(), held.kept)
            case again:
                return self.settle(held, again, settled)
