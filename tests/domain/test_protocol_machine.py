"""Steps and decisions together, in any order, on one item, against an oracle that knows what the
customer sent and who may act."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from replyd.domain import record as r
from replyd.domain import steps, turn
from replyd.domain.expressions import Applied
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Outbox
from tests.domain.situations import NOW, POLICY, WINDOW, Item, claim, read, reply
from tests.support.world import KEY, message

WORKERS = st.sampled_from(["one", "two"])
WITHIN_A_LEASE = st.sampled_from([0, 1, 1_000, 4_999, 5_000, 12_000, 20_000])
BEYOND_A_LEASE = st.sampled_from([60_000, 62_000, 62_001, 180_001])


@dataclass
class Held:
    """What a worker knows of its turn."""

    token: str
    conversation: Conversation
    expires_at: int
    outbox: Outbox | None = None
    sent: bool = False

    @property
    def stage(self) -> str:
        return "sent" if self.sent else "intended" if self.outbox else "claimed"


class Protocol(RuleBasedStateMachine):
    staged = Bundle[int]("staged")

    def __init__(self) -> None:
        super().__init__()
        self.item = Item()
        self.key: ConversationKey = KEY
        self.now = NOW
        self.fresh = 0
        self.accepted: list[str] = []
        self.replied: list[str] = []
        self.reports: list[tuple[str, int]] = []
        self.handed_over: set[str] = set()
        self.workers: dict[str, Held] = {}
        # The last lease that anybody took or extended: its token and when it ends.
        self.lease = ("", 0)
        self.flag: Any = None
        self.opted_out = False

    def number(self) -> int:
        self.fresh += 1
        return self.fresh

    @initialize(flag=st.sampled_from([None, False]))
    def begin(self, flag: Any) -> None:
        assert self.item.attributes is not None
        self.item.attributes[r.HANDOFF] = flag

    # --- the world -----------------------------------------------------------------------------

    @rule(pause=WITHIN_A_LEASE)
    def time_passes(self, pause: int) -> None:
        self.now += pause

    @precondition(lambda self: self.workers)
    @rule(pause=BEYOND_A_LEASE)
    def everything_stands_still(self, pause: int) -> None:
        self.now += pause

    @rule(target=staged, word=st.sampled_from([*7 * [""], "STOP", "START"]))
    def a_message_comes(self, word: str) -> int:
        return self.accept(word)

    def accept(self, word: str) -> int:
        number = self.number()
        result = self.item.stage(number, self.now, opt_out=word == "STOP", opt_in=word == "START")
        self.accepted.append(message(number).sid)
        self.opted_out = (self.opted_out or word == "STOP") and word != "START"
        answer = turn.after_stage(result, message(number).sid)
        assert isinstance(answer, turn.Staged)
        assert (answer.seq, answer.again) == (len(self.accepted), False)
        return number

    @rule(number=staged, first=st.booleans())
    def a_message_comes_again(self, number: int, first: bool) -> None:
        sid = message(number).sid
        answer = turn.after_stage(self.item.stage(number, self.now, first=first), sid)
        if sid in self.settled():
            assert answer == turn.AlreadySettled()
        else:
            assert isinstance(answer, turn.Staged)
            assert answer.again
            assert self.accepted[answer.seq - 1] == sid

    @rule(up=st.sampled_from([False, False, True]))
    def people_set_the_flag(self, up: bool) -> None:
        self.item.apply(steps.set_handoff(up))
        self.flag = up

    @rule(opted_out=st.sampled_from([False, False, True]))
    def another_record_passes_the_opt_out_on(self, opted_out: bool) -> None:
        self.item.apply(steps.mark_opt_out(self.now, opted_out=opted_out))
        self.opted_out = opted_out

    @precondition(lambda self: self.reports)
    @rule(status=st.sampled_from(["sent", "failed"]))
    def a_callback_comes(self, status: str) -> None:
        turn_id, entry = self.reports.pop()
        report = {"message_id": f"SMout-{turn_id}", "delivery": status}
        self.item.apply(steps.report_in_outbox(turn_id, entry, report))

    @rule(target=staged, worker=WORKERS, far=st.integers(0, 2))
    def a_message_is_claimed(self, worker: str, far: int) -> int:
        """The usual way, which single rules would seldom find."""
        number = self.accept("")
        self.now += WINDOW.quiet_ms
        self.claims(worker, lost_answer=False)
        if far > 0 and self.which(worker, "claimed") == worker:
            self.decides(worker)
        if far > 1 and self.which(worker, "intended") == worker:
            self.carries_the_effect_out(worker)
        return number

    # --- workers -------------------------------------------------------------------------------

    @precondition(lambda self: self.item.conversation().unfinished)
    @rule(worker=WORKERS, lost_answer=st.booleans())
    def claims(self, worker: str, lost_answer: bool) -> None:
        token = f"token-{self.number()}"
        step = claim(token, self.now)
        result = self.item.apply(step)
        applied = isinstance(result, Applied)
        if lost_answer:
            result = self.item.apply(step)
        answer = turn.after_claim(
            result,
            read(result),
            token=token,
            seq=len(self.accepted),
            now=self.now,
            policy=POLICY,
            window=WINDOW,
        )
        assert isinstance(answer, turn.Claimed) == applied
        assert not isinstance(answer, turn.ClaimAgain)
        if isinstance(answer, turn.Claimed):
            # Whoever had it before cannot believe that it still has.
            assert self.now > self.lease[1] + POLICY.skew_ms
            self.lease = (token, self.now + POLICY.lease_ms)
            self.workers[worker] = Held(token, answer.conversation, self.lease[1])

    def extended(self, held: Held) -> int:
        """The `expires_at` to ask for; notes it, as if the step held, for a holder only."""
        if held.token == self.lease[0]:
            held.expires_at = self.now + POLICY.lease_ms
            self.lease = (held.token, held.expires_at)
        return self.now + POLICY.lease_ms

    def which(self, worker: str, stage: str) -> str | None:
        """This worker if its turn has come so far, else the other, if that one has."""
        able = [n for n, h in self.workers.items() if stage in ("", h.stage)]
        return worker if worker in able else next(iter(able), None)

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS)
    def renews(self, worker: str) -> None:
        held = self.workers[self.which(worker, "") or ""]
        result = self.item.apply(steps.renew(held.token, self.extended(held)))
        assert isinstance(result, Applied) == (held.token == self.lease[0])

    @precondition(lambda self: self.which("one", "claimed"))
    @rule(worker=WORKERS)
    def decides(self, worker: str) -> None:
        worker = self.which(worker, "claimed") or ""
        held = self.workers[worker]
        effect = turn.next_effect(held.conversation, now=self.now, policy=POLICY)
        match effect:
            case turn.AskModel(taken):
                self.intends_a_reply(worker, held, taken)
            case turn.HandOver(_, taken, _, maybe_sent):
                self.intends_a_handoff(worker, held, taken, maybe_sent)
            case turn.RepeatHandoff(outbox):
                held.outbox = outbox
            case turn.LetGo():
                self.lets_go(worker, give_back=True)

    def intends_a_reply(self, worker: str, held: Held, taken: tuple[r.Pending, ...]) -> None:
        turn_id = f"turn-{self.number()}"
        draft = reply(turn_id, tuple(p.seq for p in taken), tuple(p.sid for p in taken))
        step = steps.intend_reply(
            held.token, draft, self.now + POLICY.lease_ms, seq=held.conversation.seq
        )
        result = self.item.apply(step)
        if isinstance(result, Applied):
            assert not self.flag
            assert not self.opted_out
            self.extended(held)
        match turn.after_intent(
            result,
            read(result),
            token=held.token,
            turn_id=turn_id,
            seq=held.conversation.seq,
        ):
            case turn.Holds():
                assert held.token == self.lease[0]
                held.outbox = draft
            case turn.Silenced():
                assert self.flag or self.opted_out
                self.intends_a_handoff(worker, held, taken, None)
            case turn.NewerMessages(newer):
                assert newer.seq > held.conversation.seq
                held.conversation = newer
            case turn.LeaseLost():
                assert held.token != self.lease[0]
                del self.workers[worker]

    def intends_a_handoff(
        self, worker: str, held: Held, taken: tuple[r.Pending, ...], maybe_sent: Outbox | None
    ) -> None:
        turn_id = f"turn-{self.number()}"
        sids = tuple(p.sid for p in taken)
        draft = reply(turn_id, tuple(p.seq for p in taken), sids, "handoff")
        if maybe_sent is not None:
            unknown = turn.unknown_delivery(maybe_sent)
            draft = replace(unknown, kind="handoff", seqs=draft.seqs, at=self.now)
        while True:
            step = steps.intend_handoff(
                held.token, draft, self.extended(held), over=maybe_sent and draft
            )
            result = self.item.apply(step)
            match turn.after_handoff_intent(result, read(result), token=held.token):
                case turn.Holds():
                    held.outbox = draft
                    return
                case turn.LeaseLost():
                    assert held.token != self.lease[0]
                    del self.workers[worker]
                    return
                case turn.DeliveryChanged(there):
                    draft = replace(draft, delivery=there.delivery)

    @precondition(lambda self: self.which("one", "intended"))
    @rule(worker=WORKERS)
    def carries_the_effect_out(self, worker: str) -> None:
        """A send starts only within one's own lease."""
        held = self.workers[self.which(worker, "intended") or ""]
        assert held.outbox is not None
        if self.now >= held.expires_at:
            return
        held.sent = True
        sids = [e["message_id"] for e in held.outbox.entries if e["role"] == "user"]
        if held.outbox.kind == "handoff":
            self.handed_over.update(sids)
            return
        assert not set(sids) & {*self.replied, *self.handed_over}
        self.replied += sids
        self.reports.append((held.outbox.turn_id, len(sids)))

    @precondition(lambda self: self.which("one", "sent"))
    @rule(worker=WORKERS)
    def arms_a_further_part(self, worker: str) -> None:
        held = self.workers[self.which(worker, "sent") or ""]
        assert held.outbox is not None
        if held.outbox.kind != "reply":
            return
        entry = len(held.outbox.entries) - 1
        result = self.item.apply(steps.arm(held.token, entry, self.now + POLICY.lease_ms))
        match turn.after_arm(result, read(result), token=held.token):
            case turn.Holds():
                assert not self.flag
                assert not self.opted_out
                self.extended(held)
            case turn.Silenced():
                assert self.flag or self.opted_out
            case turn.LeaseLost():
                assert held.token != self.lease[0]

    @precondition(lambda self: self.which("one", "sent"))
    @rule(worker=WORKERS, lost_answer=st.booleans())
    def commits(self, worker: str, lost_answer: bool) -> None:
        worker = self.which(worker, "sent") or ""
        held = self.workers[worker]
        assert held.outbox is not None
        for _ in range(2):
            step = steps.commit(
                held.token,
                held.outbox,
                turn.with_delivery(held.outbox.entries, held.outbox),
                self.now,
                status="x",
            )
            result = self.item.apply(step)
            if lost_answer and isinstance(result, Applied):
                result = self.item.apply(step)
            answer = turn.after_commit(
                result, read(result), token=held.token, turn_id=held.outbox.turn_id
            )
            if not isinstance(answer, turn.DeliveryChanged):
                break
            held.outbox = answer.outbox
        assert isinstance(answer, turn.Holds) == (held.token == self.lease[0])
        del self.workers[worker]
        if answer == turn.Holds():
            self.lease = ("", 0)

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS, give_back=st.booleans())
    def releases(self, worker: str, give_back: bool) -> None:
        self.lets_go(self.which(worker, "") or "", give_back=give_back)

    def lets_go(self, worker: str, *, give_back: bool) -> None:
        held = self.workers.pop(worker)
        drop = held.outbox is not None and held.outbox.kind == "reply" and not held.sent
        step = steps.release(held.token, give_back_attempt=give_back, drop_outbox=drop)
        result = self.item.apply(step)
        assert isinstance(result, Applied) == (held.token == self.lease[0])
        if held.token == self.lease[0]:
            self.lease = ("", 0)

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS)
    def is_killed(self, worker: str) -> None:
        self.workers.pop(worker, None)

    # --- the oracle ----------------------------------------------------------------------------

    def settled(self) -> list[str]:
        history = self.item[r.MESSAGES] or []
        return [e["message_id"] for e in history if e["role"] == "user"]

    @invariant()
    def every_message_is_settled_once_or_pending_in_order(self) -> None:
        assert self.settled() + [p["sid"] for p in self.item.pending] == self.accepted

    @invariant()
    def seqs_add_up(self) -> None:
        found = self.item.conversation()
        assert found.seq == len(self.accepted)
        assert found.settled == len(self.settled())
        assert [p.seq for p in found.pending] == list(range(found.settled + 1, found.seq + 1))

    @invariant()
    def nothing_is_settled_without_an_effect(self) -> None:
        assert set(self.settled()) <= {*self.replied, *self.handed_over}

    @invariant()
    def the_lease_is_the_last_claimants(self) -> None:
        assert (self.item.token or "") == self.lease[0]
        if lease := self.item[r.LEASE]:
            assert lease["expires_at"] == self.lease[1]

    @invariant()
    def at_most_one_worker_may_act(self) -> None:
        acting = [h for h in self.workers.values() if self.now < h.expires_at]
        assert len([h for h in acting if h.token == self.lease[0]]) <= 1
        # With clocks apart by the skew, a former holder's own view has run out as well.
        assert len(acting) <= 1

    def teardown(self) -> None:
        """Whatever happened, one worker that is left alone settles everything."""
        self.workers.clear()
        for _ in range(2 * len(self.accepted) + 4):
            if not self.item.conversation().unfinished:
                break
            self.now += POLICY.lease_ms + POLICY.skew_ms + WINDOW.max_wait_ms
            self.claims("one", lost_answer=False)
            self.decides("one")
            self.carries_the_effect_out("one")
            self.commits("one", lost_answer=False)
            self.every_message_is_settled_once_or_pending_in_order()
        assert self.settled() == self.accepted
        assert self.item[r.OUTBOX] is None


Protocol.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestProtocol = Protocol.TestCase
