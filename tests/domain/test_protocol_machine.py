"""Steps and decisions together, in any order, on one item, against an oracle that knows what the
customer sent, what the vendor accepted, and who may act."""

from dataclasses import dataclass, field, replace
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

from replyd.domain import delivery, effects, recovery, routing, steps, turn
from replyd.domain import record as r
from replyd.domain.effects import HandOver
from replyd.domain.expressions import Applied, StepResult
from replyd.domain.messages import SentMessage
from replyd.domain.record import Conversation, Entry, Outbox, Pending
from replyd.domain.turn import TurnPolicy
from tests.domain.situations import NOW, POLICY, WINDOW, Item, claim, read
from tests.support.world import message

# A request has reached the vendor, or never will, this long after it was written.
GRACE_MS = 20_000
# A send starts only while this much of the lease is left: watchdog + HTTP timeout.
MARGIN_MS = 25_000

WORKERS = st.sampled_from(["one", "two"])
WITHIN_A_LEASE = st.sampled_from([0, 1, 1_000, 4_999, 5_000, 12_000, 20_000])
BEYOND_A_LEASE = st.sampled_from([60_000, 62_000, 62_001, 180_001])
# What becomes of a send: the last two are proofs of refusal, before them nothing is known.
FATES = ("accepted", "lost", "late", "dropped", "busy", "refused")
UNCLEAR = ("lost", "late", "dropped")


@dataclass(frozen=True)
class Chances:
    """What the world decides about one action of a worker, if it comes to it."""

    fate: str = "accepted"
    texts: tuple[str, ...] = ("a", "b")
    # The model answers.
    answers: bool = True
    # The vendor's list can be read; not for now; never.
    list: str = "read"
    # It does not show yet what callbacks have told.
    lags: bool = False
    # The step's answer is lost, and it is repeated.
    lost_answer: bool = False
    # A late request takes this long.
    delay_ms: int = GRACE_MS


CHANCES = st.builds(
    Chances,
    fate=st.sampled_from(["accepted", *FATES]),
    texts=st.sampled_from([("a",), ("a", "b"), ("a", "a"), ("a", "b", "a")]),
    answers=st.sampled_from([True, True, True, False]),
    list=st.sampled_from(["read", "read", "not now", "never"]),
    lags=st.booleans(),
    lost_answer=st.sampled_from([False, False, True]),
    delay_ms=st.sampled_from([1, 999, 10_000, GRACE_MS]),
)


@dataclass(frozen=True)
class Request:
    """A part on its way to the vendor. `draft` stays the same when a reply is sent again."""

    turn_id: str
    draft: str
    entry: int
    text: str
    users: tuple[str, ...]


@dataclass
class Held:
    """What a worker knows of its turn."""

    token: str
    conversation: Conversation
    claimed_at: int
    expires_at: int
    taken: tuple[Pending, ...] = ()
    asking: bool = False
    restarts: int = 0
    looks: int = 0
    outbox: Outbox | None = None
    # Parts that were accepted, entry index to SID, and whether INTENT or ARM allows one more.
    sids: dict[int, str] = field(default_factory=dict)
    may_send: bool = False
    # A send is unclear until then.
    look_at: int | None = None
    # What follows an apology.
    then: HandOver | None = None
    stopped: bool = False
    done: bool = False
    # What a release goes by.
    intended: str = ""
    may_have_sent: bool = False
    # The outbox in the item of which nothing was sent.
    unsent: Outbox | None = None

    def intends(self, outbox: Outbox) -> None:
        self.outbox, self.sids, self.may_send, self.unsent = outbox, {}, True, None
        self.look_at, self.asking, self.done, self.stopped = None, False, False, False


class Protocol(RuleBasedStateMachine):
    staged = Bundle[int]("staged")

    def __init__(self) -> None:
        super().__init__()
        self.item = Item()
        self.policy = POLICY
        self.now = NOW
        self.fresh = 0
        self.accepted: list[str] = []
        self.handed_over: set[str] = set()
        self.workers: dict[str, Held] = {}
        # The last lease that anybody took or extended: its token and when it ends.
        self.lease = ("", 0)
        self.flag: Any = None
        self.opted_out = False
        # The vendor: what it accepted, in order, what it has still to get, and how far its clock
        # is off; and what it has to report.
        self.list: list[tuple[SentMessage, Request]] = []
        self.on_the_way: list[tuple[int, Request]] = []
        self.vendor_off_ms = 0
        self.reports: list[tuple[str, int, str]] = []
        self.told: set[str] = set()
        # Turn to draft, the messages whose customer was told that no reply will come, and the
        # requests written since people or the customer wanted none.
        self.drafts: dict[str, str] = {}
        self.apologised: set[str] = set()
        self.since_the_wish = 0

    def number(self) -> int:
        self.fresh += 1
        return self.fresh

    @initialize(
        flag=st.sampled_from([None, False]),
        on_ambiguous=st.sampled_from(["resend", "handoff"]),
        apology=st.booleans(),
        off_ms=st.sampled_from([-POLICY.skew_ms, 0, POLICY.skew_ms]),
    )
    def begin(self, flag: Any, on_ambiguous: Any, apology: bool, off_ms: int) -> None:
        assert self.item.attributes is not None
        self.item.attributes[r.HANDOFF] = flag
        self.policy = TurnPolicy(max_attempts=3, on_ambiguous=on_ambiguous, apology=apology)
        self.vendor_off_ms = off_ms

    # --- the world -----------------------------------------------------------------------------

    def passes(self, pause: int) -> None:
        self.now += pause
        for arrives_at, request in self.on_the_way:
            if arrives_at <= self.now:
                self.vendor_accepts(request, arrives_at)
        self.on_the_way = [row for row in self.on_the_way if row[0] > self.now]

    @rule(pause=WITHIN_A_LEASE)
    def time_passes(self, pause: int) -> None:
        self.passes(pause)

    @precondition(lambda self: self.workers)
    @rule(pause=BEYOND_A_LEASE)
    def everything_stands_still(self, pause: int) -> None:
        self.passes(pause)

    @rule(target=staged, word=st.sampled_from([*10 * [""], "STOP", "START"]))
    def a_message_comes(self, word: str) -> int:
        return self.accept(word)

    def accept(self, word: str) -> int:
        number = self.number()
        result = self.item.stage(number, self.now, opt_out=word == "STOP", opt_in=word == "START")
        self.accepted.append(message(number).sid)
        self.wished(opted_out=(self.opted_out or word == "STOP") and word != "START")
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

    @rule(up=st.sampled_from([False, False, False, True]))
    def people_set_the_flag(self, up: bool) -> None:
        self.item.apply(steps.set_handoff(up))
        self.wished(flag=up)

    @rule(opted_out=st.sampled_from([False, False, False, True]))
    def another_record_passes_the_opt_out_on(self, opted_out: bool) -> None:
        self.item.apply(steps.mark_opt_out(self.now, opted_out=opted_out))
        self.wished(opted_out=opted_out)

    def wished(self, *, flag: Any = None, opted_out: bool | None = None) -> None:
        self.flag = self.flag if flag is None else flag
        self.opted_out = self.opted_out if opted_out is None else opted_out
        if not self.silent:
            self.since_the_wish = 0

    @property
    def silent(self) -> bool:
        return bool(self.flag) or self.opted_out

    # --- the vendor ----------------------------------------------------------------------------

    def is_written(self, request: Request, chances: Chances) -> str:
        """A request leaves; the SID, if its answer comes."""
        self.since_the_wish += self.silent
        assert self.since_the_wish <= 1
        if chances.fate == "late":
            self.on_the_way.append((self.now + chances.delay_ms, request))
        if chances.fate not in ("accepted", "lost"):
            return ""
        return self.vendor_accepts(request, self.now)

    def vendor_accepts(self, request: Request, at: int) -> str:
        assert not set(request.users) & self.handed_over
        for _, before in self.list:
            same_reply = before.draft == request.draft
            # Nothing twice, in order, and one reply for each message.
            assert not same_reply or before.entry < request.entry
            assert same_reply or not set(before.users) & set(request.users)
        sid, stamp = f"SMout-{self.number()}", (at + self.vendor_off_ms) // 1000 * 1000
        self.list.append((SentMessage(sid, f"{request.text}\n", stamp), request))
        self.reports.append((request.turn_id, request.entry, sid))
        return sid

    def sids_of(self, turn_id: str) -> dict[int, str]:
        return {req.entry: sent.sid for sent, req in self.list if req.turn_id == turn_id}

    @precondition(lambda self: self.reports)
    @rule(status=st.sampled_from(["sent", "failed"]))
    def a_callback_comes(self, status: str) -> None:
        turn_id, entry, sid = self.reports.pop()
        report = {"message_id": sid, "delivery": status}
        result = self.item.apply(delivery.report_in_outbox(turn_id, entry, report))
        self.told |= {sid} if isinstance(result, Applied) else set()

    # --- workers -------------------------------------------------------------------------------

    @rule(
        target=staged,
        worker=WORKERS,
        far=st.integers(0, 6),
        wish=st.none() | st.integers(0, 11),
        chances=CHANCES,
    )
    def a_message_is_claimed(
        self, worker: str, far: int, wish: int | None, chances: Chances
    ) -> int:
        """The usual way, which single rules would seldom find. `wish`: when people take over."""
        number = self.accept("")
        self.passes(WINDOW.quiet_ms)
        self.claims(worker, lost_answer=chances.lost_answer)
        for step in range(far):
            if step == wish:
                self.people_set_the_flag(up=True)
            self.acts(worker, chances)
        return number

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
            policy=self.policy,
            window=WINDOW,
        )
        assert isinstance(answer, turn.Claimed) == applied
        assert not isinstance(answer, turn.ClaimAgain)
        if isinstance(answer, turn.Claimed):
            # Whoever had it before cannot believe that it still has.
            assert self.now > self.lease[1] + POLICY.skew_ms
            self.lease = (token, self.now + POLICY.lease_ms)
            self.workers[worker] = Held(token, answer.conversation, self.now, self.lease[1])

    def extended(self, held: Held) -> int:
        """The `expires_at` to ask for; notes it, as if the step held, for a holder only."""
        if held.token == self.lease[0]:
            held.expires_at = self.now + POLICY.lease_ms
            self.lease = (held.token, held.expires_at)
        return self.now + POLICY.lease_ms

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS, times=st.integers(1, 3), chances=CHANCES)
    def goes_on_for_a_while(self, worker: str, times: int, chances: Chances) -> None:
        for _ in range(times):
            self.acts(worker, chances)

    def acts(self, worker: str, chances: Chances) -> None:
        """The next thing that this worker, or else the other, has to do."""
        worker = worker if worker in self.workers else next(iter(self.workers), "")
        held = self.workers.get(worker)
        if held is None:
            return
        if held.asking:
            self.the_model_answers(worker, held, chances)
        elif held.outbox is None:
            self.decides(worker, held)
        elif held.done:
            self.commits(worker, held, chances)
        elif held.look_at is not None:
            self.looks(worker, held, chances)
        elif held.outbox.kind == "handoff":
            self.handed_over.update(users_of(held.outbox))
            held.done = True
        else:
            self.sends(worker, held, held.outbox, chances)

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS)
    def renews(self, worker: str) -> None:
        """While the model is asked, this is how its answer becomes useless."""
        worker = worker if worker in self.workers else next(iter(self.workers))
        held = self.workers[worker]
        seq = self.insisted(held, held.conversation.seq) if held.asking else None
        result = self.item.apply(steps.renew(held.token, self.extended(held)))
        answer = turn.after_renewal(read(result), token=held.token, seq=seq)
        assert isinstance(answer, turn.LeaseLost) == (held.token != self.lease[0])
        if held.asking:
            self.goes_on(worker, held, answer, seq)

    def insisted(self, held: Held, seq: int) -> int | None:
        return seq if held.restarts < self.policy.max_restarts else None

    def goes_on(
        self,
        worker: str,
        held: Held,
        answer: turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages,
        seq: int | None,
    ) -> None:
        match answer:
            case turn.LeaseLost():
                assert held.token != self.lease[0]
                del self.workers[worker]
            case turn.Silenced(reason):
                assert self.silent
                self.hands_over(worker, held, HandOver(reason, held.taken))
            case turn.NewerMessages(newer):
                assert seq is not None
                assert newer.seq == len(self.accepted) > seq
                held.restarts += 1
                held.conversation, held.taken = newer, newer.pending[: turn.MAX_TAKEN]
                held.outbox, held.look_at, held.asking = None, None, True

    def decides(self, worker: str, held: Held) -> None:
        match effects.next_effect(held.conversation, now=self.now, policy=self.policy):
            case effects.AskModel(taken):
                held.taken, held.asking = taken, True
            case HandOver() as what:
                self.hands_over(worker, held, what)
            case effects.Recover(outbox, taken):
                held.outbox, held.taken = outbox, taken
                held.look_at = held.claimed_at + GRACE_MS
                held.intended, held.may_have_sent = "reply", True
            case effects.RepeatHandoff(outbox, taken):
                held.outbox, held.taken, held.intended = outbox, taken, "handoff"
            case effects.FinishApology(outbox):
                held.outbox, held.done = recovery.unknown_delivery(outbox), True
            case effects.LetGo():
                self.lets_go(worker, give_back=True)

    def the_model_answers(self, worker: str, held: Held, chances: Chances) -> None:
        if not chances.answers:
            what = effects.give_up(
                held.conversation, held.taken, turn.FAILED, "the model refuses", self.policy
            )
            self.hands_over(worker, held, what)
            return
        turn_id = f"turn-{self.number()}"
        self.drafts[turn_id] = turn_id
        texts = [f"{text} of {turn_id}" for text in chances.texts]
        draft = self.composed(held, turn_id, texts, self.now)
        self.intends_a_reply(worker, held, draft, held.conversation.seq, chances)

    def composed(self, held: Held, turn_id: str, texts: list[str], at: int) -> Outbox:
        users = routing.user_entries([(p.sid, p.received_at, "") for p in held.taken], turn_id)
        parts: list[Entry] = [
            {"role": "assistant", "content": text, "turn_id": turn_id} for text in texts
        ]
        seqs = tuple(p.seq for p in held.taken)
        return Outbox(turn_id, "reply", seqs, (*users, *parts), at, delivery={})

    def intends_a_reply(
        self, worker: str, held: Held, draft: Outbox, seq: int, chances: Chances
    ) -> None:
        insisted = self.insisted(held, seq)
        answer = self.intends(held, draft, insisted, chances)
        if isinstance(answer, turn.Holds):
            assert not set(users_of(draft)) & {*self.handed_over, *self.apologised}
            held.intends(draft)
        else:
            self.goes_on(worker, held, answer, insisted)

    def intends(
        self, held: Held, outbox: Outbox, seq: int | None, chances: Chances
    ) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
        step = steps.intend_reply(
            held.token, outbox, self.now + POLICY.lease_ms, head="", seq=seq, over=held.unsent
        )
        held.intended = outbox.kind
        result = self.item.apply(step)
        applied = isinstance(result, Applied)
        if applied:
            assert held.token == self.lease[0]
            assert not self.silent
            self.extended(held)
        if chances.lost_answer and applied:
            # It held, whatever people want meanwhile.
            flag = self.item[r.HANDOFF]
            self.item.apply(steps.set_handoff(True))
            result = self.item.apply(step)
            self.item.apply(steps.set_handoff(flag))
        answer = turn.after_intent(
            result, read(result), token=held.token, turn_id=outbox.turn_id, seq=seq
        )
        assert isinstance(answer, turn.Holds) == applied
        return answer

    def hands_over(self, worker: str, held: Held, what: HandOver) -> None:
        held.taken, held.asking = what.taken, False
        if not what.apologise:
            self.intends_a_handoff(worker, held, what)
            return
        assert what.maybe_sent is None
        turn_id = effects.apology_id(held.conversation)
        self.drafts[turn_id] = turn_id
        entry = {"role": "assistant", "content": "Sorry.", "turn_id": turn_id}
        apology = Outbox(turn_id, "apology", (), (entry,), self.now, delivery={})
        if isinstance(self.intends(held, apology, None, Chances()), turn.Holds):
            self.apologised.add(held.taken[0].sid)
            held.intends(apology)
            held.then = what
        else:
            self.intends_a_handoff(worker, held, what)

    def intends_a_handoff(self, worker: str, held: Held, what: HandOver) -> None:
        seqs = tuple(p.seq for p in what.taken)
        if what.maybe_sent is not None:
            draft = recovery.unknown_delivery(what.maybe_sent)
            draft = replace(draft, kind="handoff", seqs=seqs, at=self.now)
        else:
            draft = self.composed(held, f"turn-{self.number()}", [], self.now)
            draft = replace(draft, kind="handoff")
        held.intended, held.then = "handoff", None
        while True:
            step = steps.intend_handoff(
                held.token, draft, self.extended(held), head="", over=what.maybe_sent and draft
            )
            result = self.item.apply(step)
            match turn.after_handoff_intent(result, read(result), token=held.token):
                case turn.Holds():
                    held.intends(draft)
                    return
                case turn.LeaseLost():
                    assert held.token != self.lease[0]
                    del self.workers[worker]
                    return
                case turn.DeliveryChanged(there):
                    draft = replace(draft, delivery=there.delivery)

    # --- SEND and ARM --------------------------------------------------------------------------

    def sends(self, worker: str, held: Held, outbox: Outbox, chances: Chances) -> None:
        missing = [(i, e) for i, e in outbox.parts if i not in held.sids]
        if not missing:
            held.outbox, held.done = recovery.with_sids(outbox, held.sids), True
            return
        index, entry = missing[0]
        if not held.may_send:
            self.arms(worker, held, outbox, index)
            return
        held.may_send = False
        in_time = self.now <= held.expires_at - MARGIN_MS
        if not in_time or chances.fate in ("busy", "refused"):
            final = in_time and chances.fate == "refused"
            self.is_refused(worker, held, outbox, final=final)
            return
        held.may_have_sent = True
        draft = self.drafts[outbox.turn_id]
        request = Request(outbox.turn_id, draft, index, entry["content"], users_of(outbox))
        sid = self.is_written(request, chances)
        if chances.fate not in UNCLEAR:
            held.sids[index] = sid
        elif outbox.kind == "apology":
            held.outbox, held.done = recovery.unknown_delivery(outbox), True
        else:
            held.outbox = recovery.with_sids(outbox, held.sids)
            held.look_at = self.now + GRACE_MS

    def arms(self, worker: str, held: Held, outbox: Outbox, index: int) -> None:
        expires_at = self.now + POLICY.lease_ms
        step = steps.arm(held.token, outbox.turn_id, index, expires_at, accepted=held.sids)
        result = self.item.apply(step)
        match turn.after_arm(result, read(result), token=held.token):
            case turn.Holds():
                assert not self.silent
                self.extended(held)
                held.may_send = True
            case turn.Silenced():
                assert self.silent
                self.stops(held, outbox)
            case turn.LeaseLost():
                assert held.token != self.lease[0]
                del self.workers[worker]

    def stops(self, held: Held, outbox: Outbox) -> None:
        """Some parts are sent, the others will not be."""
        noted = recovery.with_sids(outbox, held.sids)
        held.outbox, held.stopped, held.done = recovery.without_unsent(noted), True, True

    def is_refused(self, worker: str, held: Held, outbox: Outbox, *, final: bool) -> None:
        if held.then is not None:
            self.intends_a_handoff(worker, held, held.then)
        elif held.sids:
            # For now: the part is tried again behind ARM.
            if final:
                self.stops(held, outbox)
        elif final:
            self.hands_over(worker, held, HandOver(turn.FAILED, held.taken, "refused"))
        else:
            self.lets_go(worker, give_back=False)

    # --- RECOVER -------------------------------------------------------------------------------

    def looks(self, worker: str, held: Held, chances: Chances) -> None:
        outbox = held.outbox
        assert outbox is not None
        assert held.look_at is not None
        held.looks += 1
        certain, sids = True, recovery.known_sids(outbox)
        if len(sids) < len(outbox.parts):
            self.passes(max(0, held.look_at - self.now))
            result = self.item.apply(steps.renew(held.token, self.extended(held)))
            there = read(result)
            answer = turn.after_renewal(there, token=held.token)
            if isinstance(answer, turn.LeaseLost):
                self.goes_on(worker, held, answer, None)
                return
            assert there is not None
            assert there.outbox is not None
            outbox = replace(outbox, delivery=there.outbox.delivery)
            # Who wants a reply sent again without knowing gets it twice.
            certain = chances.list == "read" or self.policy.on_ambiguous == "resend"
            sids = self.found(held, outbox, chances) if certain else recovery.known_sids(outbox)
        given_up = effects.given_up(
            held.conversation,
            held.taken,
            now=self.now,
            policy=self.policy,
            further=held.looks - 1,
        )
        if not certain and chances.list == "not now" and given_up is None:
            self.lets_go(worker, give_back=False)
            return
        found = recovery.after_look(
            outbox, held.taken, sids, certain=certain, given_up=given_up, policy=self.policy
        )
        if isinstance(found, recovery.SendAgain) or (certain and not sids):
            held.may_have_sent, held.unsent = False, outbox
        match found:
            case recovery.SendAgain():
                assert not self.sids_of(outbox.turn_id)
                turn_id = f"turn-{self.number()}"
                self.drafts[turn_id] = self.drafts[outbox.turn_id]
                texts = [e["content"] for _, e in outbox.parts]
                again = self.composed(held, turn_id, texts, outbox.at)
                self.intends_a_reply(worker, held, again, max(outbox.seqs), chances)
            case recovery.Resume():
                held.outbox, held.sids, held.look_at = outbox, dict(found.sids), None
                held.may_send = False
            case HandOver() as what:
                self.hands_over(worker, held, what)

    def found(self, held: Held, outbox: Outbox, chances: Chances) -> dict[int, str]:
        messages = held.conversation.messages
        hidden = self.told if chances.lags else set()
        sids = recovery.accepted_parts(
            outbox,
            [sent for sent, _ in self.list if sent.sid not in hidden],
            since=recovery.listed_since(outbox, self.policy),
            elsewhere={str(m["message_id"]) for m in messages if m.get("message_id")},
        )
        assert sids == self.sids_of(outbox.turn_id)
        return sids

    # --- COMMIT --------------------------------------------------------------------------------

    def commits(self, worker: str, held: Held, chances: Chances) -> None:
        assert held.outbox is not None
        turn_id = held.outbox.turn_id
        answer: turn.Holds | turn.LeaseLost | turn.DeliveryChanged
        for _ in range(2):
            result = self.commit(held, held.outbox, chances)
            answer = turn.after_commit(result, read(result), token=held.token, turn_id=turn_id)
            if not isinstance(answer, turn.DeliveryChanged):
                break
            held.outbox = replace(held.outbox, delivery=answer.outbox.delivery)
        # Who was overtaken may find that the other one has settled the same turn.
        ours = held.token == self.lease[0]
        assert ours == isinstance(answer, turn.Holds) or self.item[r.LAST_TURN] == turn_id
        if answer != turn.Holds():
            del self.workers[worker]
        elif held.outbox.kind == "apology":
            held.conversation = replace(
                held.conversation, outbox=None, last_turn=held.outbox.turn_id
            )
            assert effects.has_apologised(held.conversation)
            held.outbox, held.done = None, False
            if held.then is not None:
                self.intends_a_handoff(worker, held, held.then)
        else:
            del self.workers[worker]
            self.lease = ("", 0) if ours else self.lease
            self.nothing_accepted_is_missing_in_the_history()

    def commit(self, held: Held, outbox: Outbox, chances: Chances) -> StepResult:
        history = recovery.history_of(outbox)
        if outbox.kind == "apology":
            step = steps.commit_apology(held.token, outbox, history, self.extended(held))
        else:
            step = steps.commit(held.token, outbox, history, self.now, status="x")
        result = self.item.apply(step)
        if chances.lost_answer and isinstance(result, Applied):
            result = self.item.apply(step)
        return result

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS, give_back=st.booleans())
    def releases(self, worker: str, give_back: bool) -> None:
        worker = worker if worker in self.workers else next(iter(self.workers))
        self.lets_go(worker, give_back=give_back)

    def lets_go(self, worker: str, *, give_back: bool) -> None:
        held = self.workers.pop(worker)
        drop = held.intended == "reply" and not held.may_have_sent
        step = steps.release(
            held.token,
            give_back_attempt=give_back,
            drop_outbox=drop,
            failure=None if give_back else r.failure("x", "why", self.now),
        )
        result = self.item.apply(step)
        assert isinstance(result, Applied) == (held.token == self.lease[0])
        if held.token == self.lease[0]:
            self.lease = ("", 0)

    @precondition(lambda self: self.workers)
    @rule(worker=WORKERS)
    def is_killed(self, worker: str) -> None:
        self.workers.pop(worker, None)

    # --- the oracle ----------------------------------------------------------------------------

    def history(self) -> list[Entry]:
        return list(self.item[r.MESSAGES] or [])

    def settled(self) -> list[str]:
        return [e["message_id"] for e in self.history() if e["role"] == "user"]

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
        replied = {sid for _, request in self.list for sid in request.users}
        assert set(self.settled()) <= replied | self.handed_over

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

    def nothing_accepted_is_missing_in_the_history(self, *, apologies: bool = False) -> None:
        settled, parts = set(self.settled()), [e for e in self.history() if e["role"] != "user"]
        for sent, request in self.list:
            if not set(request.users) <= settled or not (request.users or apologies):
                continue
            mine = [e for e in parts if e["turn_id"] == request.turn_id]
            named = [e for e in mine if e.get("message_id") == sent.sid]
            perhaps = [e for e in mine if e.get("delivery") == delivery.UNKNOWN]
            assert named or request.text in [e["content"] for e in perhaps]
        # And nothing else is there, nor in another order.
        sids = [e["message_id"] for e in parts if "message_id" in e]
        assert sids == [sent.sid for sent, _ in self.list if sent.sid in sids]
        for entry in parts:
            assert "message_id" in entry or entry["delivery"] == delivery.UNKNOWN

    def teardown(self) -> None:
        """Whatever happened, one worker that is left alone settles everything."""
        self.workers.clear()
        for _ in range(2 * len(self.accepted) + 4):
            if not self.item.conversation().unfinished:
                break
            self.passes(POLICY.lease_ms + POLICY.skew_ms + WINDOW.max_wait_ms)
            self.claims("one", lost_answer=False)
            for _ in range(20):
                self.acts("one", Chances())
            assert not self.workers
            self.every_message_is_settled_once_or_pending_in_order()
        assert self.settled() == self.accepted
        assert self.item[r.OUTBOX] is None
        self.nothing_accepted_is_missing_in_the_history(apologies=True)


def users_of(outbox: Outbox) -> tuple[str, ...]:
    return tuple(e["message_id"] for e in outbox.entries if e["role"] == "user")


Protocol.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestProtocol = Protocol.TestCase
