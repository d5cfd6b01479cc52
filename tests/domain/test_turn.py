"""The decisions, against the conditions of the steps whose answers they read."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replyd.domain import record as r
from replyd.domain import steps, turn
from replyd.domain.expressions import Applied, Refused
from replyd.domain.record import Conversation, Outbox, Pending
from replyd.domain.turn import MAX_TAKEN, TurnPolicy
from replyd.domain.window import WindowPolicy
from tests.domain.situations import (
    FLAGS,
    NOW,
    PAUSES,
    POLICY,
    WINDOW,
    Item,
    claim,
    read,
    reply,
    situations,
)
from tests.support.world import message

LATER = NOW + 3_600_000
FREE_AFTER = POLICY.lease_ms + POLICY.skew_ms


def conversation(pending: int = 0, **changes: Any) -> Conversation:
    item = Item()
    for number in range(1, pending + 1):
        item.stage(number, NOW)
    return replace(item.conversation(), **changes)


def claim_answer(item: Item, token: str, seq: int, now: int) -> turn.ClaimAnswer:
    result = item.apply(claim(token, now))
    return after_claim(result, token, seq, now)


def after_claim(result: Applied | Refused, token: str, seq: int, now: int) -> turn.ClaimAnswer:
    return turn.after_claim(
        result, read(result), token=token, seq=seq, now=now, policy=POLICY, window=WINDOW
    )


# --- STAGE -------------------------------------------------------------------------------------


def test_a_staged_message_knows_its_seq_and_its_burst() -> None:
    item = Item()
    assert turn.after_stage(item.stage(1, NOW), message(1).sid) == turn.Staged(1, 1, NOW, NOW)
    second = turn.after_stage(item.stage(2, NOW + 7), message(2).sid)
    assert second == turn.Staged(seq=2, pending=2, first_received_at=NOW, last_at=NOW + 7)


def test_a_message_delivered_again_keeps_its_seq_for_as_long_as_it_is_pending() -> None:
    item = Item()
    for number in (1, 2, 3):
        item.stage(number, NOW + number)
    for number in (1, 2, 3):
        again = turn.after_stage(item.stage(number, NOW + 99), message(number).sid)
        assert again == turn.Staged(number, 3, NOW + 1, NOW + 3, again=True)
    settle(item, count=2)
    for number in (1, 2):
        answer = turn.after_stage(item.stage(number, NOW + 99), message(number).sid)
        assert answer == turn.AlreadySettled()
    again = turn.after_stage(item.stage(3, NOW + 99), message(3).sid)
    assert again == turn.Staged(3, 1, NOW + 3, NOW + 3, again=True)


def settle(item: Item, count: int) -> None:
    outbox = reply("t", tuple(range(1, count + 1)), ())
    assert isinstance(item.apply(claim("a", LATER)), Applied)
    assert isinstance(item.apply(steps.intend_handoff("a", outbox, LATER)), Applied)
    assert isinstance(item.apply(steps.commit("a", outbox, (), LATER, status="x")), Applied)


def test_stage_without_an_item() -> None:
    answer = turn.after_stage(Item(None).stage(1, NOW), message(1).sid)
    assert answer == turn.NoSuchConversation()


def test_the_other_form_of_stage_holds() -> None:
    for before in (0, 1):
        item = Item()
        for number in range(before):
            item.stage(number, NOW)
        wrong = before > 0
        refused = item.stage(9, NOW, first=wrong)
        assert turn.after_stage(refused, message(9).sid) == turn.OtherForm()
        held = turn.after_stage(item.stage(9, NOW, first=not wrong), message(9).sid)
        assert held == turn.Staged(before + 1, before + 1, NOW, NOW)


@given(situations(), st.integers(1, 15), st.booleans())
def test_a_refused_stage_is_explained_and_ends(
    situation: tuple[Item, int], number: int, first: bool
) -> None:
    item, now = situation
    sid, before = message(number).sid, item.seq
    places = [i for i, p in enumerate(item.pending, start=1) if p["sid"] == sid]
    known = sid in (item[r.SEEN] or {})
    answer = turn.after_stage(item.stage(number, now, first=first), sid)
    if isinstance(answer, turn.OtherForm):
        answer = turn.after_stage(item.stage(number, now, first=not first), sid)
    match answer:
        case turn.Staged(seq, again=True):
            assert (seq, item.seq) == (item.settled + places[0], before)
        case turn.Staged(seq, pending):
            assert not known
            assert seq == item.seq == before + 1
            assert pending == len(item.pending)
        case turn.AlreadySettled():
            assert known
            assert not places
        case _:
            pytest.fail(f"{answer} though the item exists and the right form was tried")


# --- CLAIM -------------------------------------------------------------------------------------


@given(situations(), PAUSES, st.integers(0, 3), st.booleans())
def test_the_answer_to_a_claim_is_true_and_leads_on(
    situation: tuple[Item, int], pause: int, back: int, lost_answer: bool
) -> None:
    item, now = situation
    now += pause
    seq = max(1, item.seq - back)
    lease, held_by_us = item[r.LEASE], lost_answer and item.token is not None
    token = item.token if held_by_us and item.token else "ours"
    unfinished = bool(item.pending) or item[r.OUTBOX] is not None
    result = item.apply(claim(token, now))
    answer = after_claim(result, token, seq, now)
    match answer:
        case turn.Claimed(found):
            assert held_by_us or (isinstance(result, Applied) and unfinished)
            assert found.lease is not None
            assert found.lease.token == token
        case turn.NothingLeft(settled):
            # Both allow the wake-up to be deleted.
            assert item[r.OUTBOX] is None
            assert seq <= settled == item.settled or not item.seq
        case turn.HeldElsewhere(free_at):
            assert lease["token"] != token
            assert now < free_at == lease["expires_at"] + POLICY.skew_ms + 1
            assert unfinished
            after = claim_answer(item, token, seq, free_at)
            assert not isinstance(after, turn.HeldElsewhere | turn.ClaimAgain)
        case turn.WindowOpen(closes_at):
            assert now < closes_at
            assert item[r.OUTBOX] is None
            assert isinstance(item.apply(claim(token, closes_at - 1)), Refused)
            assert isinstance(item.apply(claim(token, closes_at)), Applied)
        case turn.ClaimAgain():
            pytest.fail("refused for a reason that this state does not show: it stays refused")
    if isinstance(result, Applied):
        assert isinstance(answer, turn.Claimed)


@given(situations(), PAUSES, PAUSES)
def test_claim_again_means_that_a_claim_holds_now(
    situation: tuple[Item, int], pause: int, delay: int
) -> None:
    """The refusal may be read later than it was made."""
    item, now = situation
    now += pause
    result = item.apply(claim("ours", now))
    now += delay
    answer = after_claim(result, "ours", item.seq, now)
    if isinstance(answer, turn.ClaimAgain):
        assert isinstance(item.apply(claim("ours", now)), Applied)
    if isinstance(answer, turn.WindowOpen):
        assert answer.closes_at > now


@pytest.mark.parametrize(
    ("seq", "now", "expected"),
    [
        # Settled comes first: what is held or pending is of newer wake-ups.
        (2, NOW, turn.NothingLeft(2)),
        # Held comes before the window: the holder may settle it.
        (3, NOW, turn.HeldElsewhere(NOW + FREE_AFTER + 1)),
        (3, NOW + FREE_AFTER, turn.HeldElsewhere(NOW + FREE_AFTER + 1)),
        (2, NOW + FREE_AFTER + 1, turn.NothingLeft(2)),
        (3, NOW + FREE_AFTER + 1, turn.WindowOpen(NOW + FREE_AFTER + 5_000)),
    ],
)
def test_the_order_of_reasons(seq: int, now: int, expected: turn.ClaimAnswer) -> None:
    item = Item()
    for number in (1, 2):
        item.stage(number, NOW)
    settle(item, count=2)
    item.stage(3, NOW)
    assert item.attributes is not None
    item.attributes[r.LEASE] = {"token": "b", "owner": "b", "expires_at": NOW + POLICY.lease_ms}
    if now > NOW + FREE_AFTER:
        item.attributes[r.LAST_AT] = NOW + FREE_AFTER
        item.attributes[r.PENDING][0]["received_at"] = NOW + FREE_AFTER
    result = item.apply(claim("a", now))
    assert isinstance(result, Refused)
    assert after_claim(result, "a", seq, now) == expected


def test_an_outbox_keeps_even_a_settled_wakeup() -> None:
    item = Item()
    item.stage(1, NOW)
    assert isinstance(item.apply(claim("b", LATER)), Applied)
    item.apply(steps.intend_handoff("b", reply("t", (), ()), LATER + POLICY.lease_ms))
    assert claim_answer(item, "a", 0, LATER) == turn.HeldElsewhere(LATER + FREE_AFTER + 1)


def test_the_lease_is_ours_though_the_answer_was_lost() -> None:
    item = Item()
    item.stage(1, NOW)
    assert isinstance(item.apply(claim("a", LATER)), Applied)
    second = item.apply(claim("a", LATER))
    assert isinstance(second, Refused)
    assert isinstance(after_claim(second, "a", 1, LATER), turn.Claimed)
    assert item[r.ATTEMPTS] == 1


def test_without_an_item_the_wakeup_has_no_use() -> None:
    assert after_claim(Refused(None), "a", 7, NOW) == turn.NothingLeft(7)


def test_the_window_that_has_closed_meanwhile() -> None:
    item = Item()
    item.stage(1, NOW)
    refused = item.apply(claim("a", NOW + 4_999))
    assert after_claim(refused, "a", 1, NOW + 4_999) == turn.WindowOpen(NOW + 5_000)
    assert after_claim(refused, "a", 1, NOW + 5_000) == turn.ClaimAgain()


def test_a_fresh_item_has_nothing_left() -> None:
    assert claim_answer(Item(), "a", 0, NOW) == turn.NothingLeft(0)


# `seq` counts anew when a record is deleted and made again under the same key.
def test_a_wakeup_of_an_earlier_life_of_the_record_ends() -> None:
    answer = claim_answer(Item(), "a", 7, NOW)
    assert isinstance(answer, turn.NothingLeft)
    assert answer.settled >= 7


@given(situations())
def test_the_window_of_an_item(situation: tuple[Item, int]) -> None:
    """The first time at which nothing but a lease can refuse a claim, or 0."""
    item, _ = situation
    closes_at = turn.window_closes_at(item.conversation(), WINDOW)
    assume(item.pending and item.attributes is not None)
    assert item.attributes is not None
    item.attributes.pop(r.LEASE, None)
    if closes_at:
        assert isinstance(item.apply(claim("a", closes_at - 1)), Refused)
    assert isinstance(item.apply(claim("a", max(closes_at, 1))), Applied)


@pytest.mark.parametrize(
    "changes",
    [{"handoff": True}, {"opted_out": True}, {"outbox": reply("t", (1,), ("s",))}, {"pending": ()}],
)
def test_nothing_is_waited_for(changes: dict[str, Any]) -> None:
    assert turn.window_closes_at(conversation(1), WINDOW) == NOW + 5_000
    assert turn.window_closes_at(replace(conversation(1), **changes), WINDOW) == 0


def test_a_full_window_is_closed() -> None:
    assert turn.window_closes_at(conversation(3), WINDOW) == NOW + 5_000
    assert turn.window_closes_at(conversation(4), WINDOW) == 0
    assert turn.window_closes_at(conversation(4), WindowPolicy(5_000, 3_000, 5)) == NOW + 3_000


# --- what a claimed conversation needs ---------------------------------------------------------


def test_the_model_is_asked_for_everything_pending() -> None:
    found = conversation(3)
    assert turn.next_effect(found, now=NOW, policy=POLICY) == turn.AskModel(found.pending)


def test_at_most_fifty_are_taken() -> None:
    found = conversation(MAX_TAKEN + 5)
    for handoff in (False, True):
        answer = turn.next_effect(replace(found, handoff=handoff), now=NOW, policy=POLICY)
        assert isinstance(answer, turn.AskModel | turn.HandOver)
        assert answer.taken == found.pending[:MAX_TAKEN]


def test_nothing_pending_is_let_go_whatever_else_is_set() -> None:
    found = conversation(0, handoff=True, opted_out=True, attempts=99)
    assert turn.next_effect(found, now=NOW, policy=POLICY) == turn.LetGo()


@pytest.mark.parametrize(
    ("changes", "waited", "reason"),
    [
        ({"attempts": 5}, 180_000, None),
        ({"attempts": 6}, 0, turn.FAILED),
        ({"attempts": 5}, 180_001, turn.TOO_OLD),
        ({"handoff": True}, 0, turn.REQUESTED),
        ({"opted_out": True}, 0, turn.OPTED_OUT),
        # A person's wish goes before the customer's, both before our failure.
        ({"handoff": True, "opted_out": True, "attempts": 6}, 180_001, turn.REQUESTED),
        ({"opted_out": True, "attempts": 6}, 180_001, turn.OPTED_OUT),
        ({"attempts": 6}, 180_001, turn.FAILED),
    ],
)
def test_when_people_take_over(changes: dict[str, Any], waited: int, reason: str | None) -> None:
    found = conversation(2, **changes)
    answer = turn.next_effect(found, now=NOW + waited, policy=POLICY)
    if reason is None:
        assert answer == turn.AskModel(found.pending)
    else:
        assert isinstance(answer, turn.HandOver)
        assert (answer.reason, answer.taken, answer.maybe_sent) == (reason, found.pending, None)


def test_the_oldest_message_counts() -> None:
    found = conversation(2)
    newer = replace(found.pending[1], received_at=NOW + 180_001)
    found = replace(found, pending=(found.pending[0], newer))
    answer = turn.next_effect(found, now=NOW + 180_001, policy=POLICY)
    assert isinstance(answer, turn.HandOver)
    assert answer.taken == found.pending


def test_a_policy_of_one_attempt_asks_once() -> None:
    policy = TurnPolicy(max_attempts=1)
    once = turn.next_effect(conversation(1, attempts=1), now=NOW, policy=policy)
    assert isinstance(once, turn.AskModel)
    twice = turn.next_effect(conversation(1, attempts=2), now=NOW, policy=policy)
    assert isinstance(twice, turn.HandOver)


@pytest.mark.parametrize("kind", ["reply", "apology", "", "a kind of a later version"])
@pytest.mark.parametrize("changes", [{}, {"handoff": True}, {"opted_out": True}, {"attempts": 9}])
def test_what_may_have_been_sent_is_never_sent_again(kind: str, changes: dict[str, Any]) -> None:
    found = conversation(3)
    outbox = reply("t", (1, 2), tuple(p.sid for p in found.pending[:2]), kind)
    found = replace(found, outbox=outbox, **changes)
    answer = turn.next_effect(found, now=LATER, policy=POLICY)
    assert isinstance(answer, turn.HandOver)
    assert (answer.reason, answer.maybe_sent) == (turn.AMBIGUOUS, outbox)
    # The third message came later: the next turn's.
    assert answer.taken == found.pending[:2]


def test_a_handoff_under_way_is_repeated_and_takes_no_more() -> None:
    found = conversation(3)
    outbox = reply("t", (1,), (found.pending[0].sid,), "handoff")
    found = replace(found, outbox=outbox, handoff=True, attempts=9)
    answer = turn.next_effect(found, now=LATER, policy=POLICY)
    assert answer == turn.RepeatHandoff(outbox, found.pending[:1])


@given(situations(), PAUSES)
def test_the_model_is_never_asked_against_a_wish(situation: tuple[Item, int], pause: int) -> None:
    item, now = situation
    answer = turn.next_effect(item.conversation(), now=now + pause, policy=POLICY)
    if isinstance(answer, turn.AskModel):
        assert item[r.HANDOFF] in (None, False)
        assert item[r.HANDOFF] is None or isinstance(item[r.HANDOFF], bool)
        assert item[r.OPTED_OUT] is None
        assert item[r.OUTBOX] is None
        assert 0 < len(answer.taken) <= MAX_TAKEN
    if isinstance(answer, turn.LetGo):
        assert not item.pending


# --- INTENT ------------------------------------------------------------------------------------


def claimed(count: int = 1) -> Item:
    item = Item()
    for number in range(1, count + 1):
        item.stage(number, NOW)
    assert isinstance(item.apply(claim("a", LATER)), Applied)
    return item


def intend(
    item: Item, token: str, outbox: Outbox, seq: int | None
) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
    result = item.apply(steps.intend_reply(token, outbox, LATER, seq=seq))
    return turn.after_intent(result, read(result), token=token, turn_id=outbox.turn_id, seq=seq)


@given(situations() | situations(outbox=True), st.booleans(), st.none() | st.integers(0, 2))
def test_a_refused_intent_is_explained_and_leads_on(
    situation: tuple[Item, int], ours: bool, back: int | None
) -> None:
    item, _ = situation
    holder = item.token
    token = holder if ours and holder else "nobody's"
    draft = item.head("draft")
    silent = item[r.OPTED_OUT] is not None or not (
        item[r.HANDOFF] is None or item[r.HANDOFF] is False
    )
    answer = intend(item, token, draft, None if back is None else item.seq - back)
    match answer:
        case turn.Holds():
            assert token == holder
            assert not silent
            assert item[r.OUTBOX]["turn_id"] == "draft"
        case turn.LeaseLost():
            assert token != holder
        case turn.Silenced(reason):
            assert token == holder
            assert silent
            flagged = item[r.HANDOFF] is not None and item[r.HANDOFF] is not False
            assert reason == (turn.REQUESTED if flagged else turn.OPTED_OUT)
            step = steps.intend_handoff(token, draft, LATER)
            assert isinstance(item.apply(step), Applied)
        case turn.NewerMessages(found):
            # Asking again is only worth its price if it can hold then.
            assert back
            assert found.seq == item.seq
            assert intend(item, token, draft, found.seq) == turn.Holds()


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_that_refuses_an_intent_silences(flag: Any) -> None:
    item = claimed()
    assert item.attributes is not None
    item.attributes[r.HANDOFF] = flag
    up = not (flag is None or flag is False)
    expected = turn.Silenced(turn.REQUESTED) if up else turn.Holds()
    assert intend(item, "a", item.head("t"), None) == expected
    looked_at = turn.next_effect(replace(item.conversation(), outbox=None), now=NOW, policy=POLICY)
    assert isinstance(looked_at, turn.HandOver) == up


@pytest.mark.parametrize("seq", [1, None])
def test_an_opt_out_after_the_claim_silences(seq: int | None) -> None:
    item = claimed()
    item.apply(steps.mark_opt_out(LATER, opted_out=True))
    assert intend(item, "a", item.head("t"), seq) == turn.Silenced(turn.OPTED_OUT)
    item.apply(steps.mark_opt_out(LATER, opted_out=False))
    assert intend(item, "a", item.head("t"), seq) == turn.Holds()


def test_newer_messages_are_asked_about_only_when_seq_counts() -> None:
    item = claimed()
    item.stage(2, LATER)
    answer = intend(item, "a", item.head("t"), 1)
    assert isinstance(answer, turn.NewerMessages)
    assert [p.seq for p in answer.conversation.pending] == [1, 2]
    assert intend(item, "a", item.head("t"), None) == turn.Holds()


def test_the_flag_goes_before_newer_messages_and_the_token_before_the_flag() -> None:
    item = claimed()
    item.stage(2, LATER, opt_out=True)
    assert intend(item, "a", item.head("t"), 1) == turn.Silenced(turn.OPTED_OUT)
    item.apply(steps.set_handoff(True))
    assert intend(item, "a", item.head("t"), 1) == turn.Silenced(turn.REQUESTED)
    assert intend(item, "b", item.head("t"), 1) == turn.LeaseLost()


def test_an_intent_whose_answer_was_lost_holds() -> None:
    item = claimed()
    assert intend(item, "a", item.head("t"), 1) == turn.Holds()
    item.stage(2, LATER)
    item.apply(steps.set_handoff(True))
    assert intend(item, "a", item.head("t"), 1) == turn.Holds()
    # Another draft of ours is another turn.
    assert intend(item, "a", item.head("u"), 1) == turn.Silenced(turn.REQUESTED)


def test_an_intent_does_not_hold_for_a_worker_that_was_overtaken() -> None:
    item = claimed()
    assert intend(item, "a", item.head("t"), 1) == turn.Holds()
    assert isinstance(item.apply(claim("b", LATER + FREE_AFTER + 1)), Applied)
    assert intend(item, "a", item.head("t"), 1) == turn.LeaseLost()
    item.apply(steps.release("b", give_back_attempt=False))
    assert intend(item, "a", item.head("t"), 1) == turn.LeaseLost()
    item.attributes = None
    assert intend(item, "a", item.head("t"), 1) == turn.LeaseLost()


# --- ARM ---------------------------------------------------------------------------------------


def arm(item: Item, token: str, entry: int) -> turn.Holds | turn.LeaseLost | turn.Silenced:
    result = item.apply(steps.arm(token, entry, LATER))
    return turn.after_arm(result, read(result), token=token)


@given(situations(outbox=True), st.booleans())
def test_a_refused_arm_is_explained(situation: tuple[Item, int], ours: bool) -> None:
    item, _ = situation
    token = item.token if ours and item.token else "nobody's"
    silent = item[r.OPTED_OUT] is not None or not (
        item[r.HANDOFF] is None or item[r.HANDOFF] is False
    )
    answer = arm(item, token, len(item[r.OUTBOX]["entries"]))
    if token != item.token:
        assert answer == turn.LeaseLost()
    elif silent:
        assert isinstance(answer, turn.Silenced)
    else:
        assert answer == turn.Holds()


def test_a_part_that_has_a_sid_is_not_armed() -> None:
    item = claimed()
    outbox = item.head("t")
    assert intend(item, "a", outbox, 1) == turn.Holds()
    step = steps.arm("a", 2, LATER, accepted={1: "SM1"})
    assert isinstance(item.apply(step), Applied)
    assert arm(item, "a", 2) == turn.Holds()
    assert not isinstance(arm(item, "a", 1), turn.Holds)


# --- COMMIT ------------------------------------------------------------------------------------


def commit(
    item: Item, token: str, outbox: Outbox
) -> turn.Holds | turn.LeaseLost | turn.DeliveryChanged:
    result = item.apply(steps.commit(token, outbox, outbox.entries, LATER, status="x"))
    return turn.after_commit(result, read(result), token=token, turn_id=outbox.turn_id)


@given(situations(outbox=True), st.booleans(), st.booleans())
def test_a_refused_commit_is_explained_and_leads_on(
    situation: tuple[Item, int], ours: bool, stale: bool
) -> None:
    item, _ = situation
    outbox = item.conversation().outbox
    assert outbox is not None
    holder, settled = item.token, item.settled
    token = holder if ours and holder else "nobody's"
    answer = commit(item, token, replace(outbox, delivery={"9": {}}) if stale else outbox)
    match answer:
        case turn.Holds():
            assert token == holder
            assert not stale
        case turn.LeaseLost():
            assert token != holder
            assert item[r.OUTBOX] is not None
            return
        case turn.DeliveryChanged(found):
            assert stale
            assert found == outbox
            assert commit(item, token, found) == turn.Holds()
    assert item.settled == settled + len(outbox.seqs)
    # The answer was lost: the second is refused, and nothing happens twice.
    assert commit(item, token, outbox) == turn.Holds()
    assert item.settled == settled + len(outbox.seqs)


def test_a_commit_of_an_overtaken_worker_does_not_hold() -> None:
    item = claimed()
    outbox = item.head("t")
    assert intend(item, "a", outbox, 1) == turn.Holds()
    assert isinstance(item.apply(claim("b", LATER + FREE_AFTER + 1)), Applied)
    assert commit(item, "a", outbox) == turn.LeaseLost()
    other = item.head("u", "handoff")
    item.apply(steps.intend_handoff("b", other, LATER))
    # Whoever holds the lease commits only the outbox that is there.
    assert commit(item, "b", outbox) == turn.LeaseLost() or item[r.LAST_TURN] == "t"


def test_a_commit_without_an_item_is_lost() -> None:
    assert commit(Item(None), "a", reply("t", (1,), ("s",))) == turn.LeaseLost()


# --- parts and pauses --------------------------------------------------------------------------


def test_what_callbacks_reported_goes_to_the_part_of_that_place() -> None:
    outbox = reply("t", (1,), ("SM1",))
    sent = {"message_id": "SM8", "delivery": "sent"}
    failed = {"message_id": "SM9", "delivery": "failed", "delivery_error": "63016"}
    outbox = replace(outbox, delivery={"1": sent, "2": failed, "7": sent})
    user, first, second = turn.with_delivery(outbox.entries, outbox)
    assert user == outbox.entries[0]
    assert first == {**outbox.entries[1], **sent}
    assert second == {**outbox.entries[2], **failed}
    # A part that was not sent is no entry, and those before it keep their places.
    assert turn.with_delivery(outbox.entries[:2], outbox) == (user, first)
    assert turn.with_delivery(outbox.entries, replace(outbox, delivery=None)) == outbox.entries
    assert "delivery" not in outbox.entries[1]


def test_only_parts_without_a_sid_are_unknown() -> None:
    outbox = reply("t", (1,), ("SM1",))
    user, first, second = outbox.entries
    first = {**first, "message_id": "SM8", "delivery": "accepted"}
    outbox = replace(outbox, entries=(user, first, second))
    marked = turn.unknown_delivery(outbox)
    assert marked.entries == (user, first, {**second, "delivery": "unknown"})
    assert replace(marked, entries=outbox.entries) == outbox
    assert turn.unknown_delivery(marked) == marked


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [
        (-5, 1000),
        (0, 1000),
        (1, 1000),
        (2, 2000),
        (3, 4000),
        (4, 8000),
        (5, 16000),
        (6, 30000),
        (7, 30000),
        (10000, 30000),
    ],
)
def test_pauses_double_up_to_half_a_minute(attempt: int, longest: int) -> None:
    assert turn.pause_ms(attempt, 0.0) == longest
    assert turn.pause_ms(attempt, 0.5) == longest * 3 // 4
    assert turn.pause_ms(attempt, 1.0) == longest // 2


@given(st.integers(-10, 10**9), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_away_half_at_most(attempt: int, jitter: float) -> None:
    longest = turn.pause_ms(attempt, 0.0)
    assert 500 <= longest // 2 <= turn.pause_ms(attempt, jitter) <= longest <= 30_000
    assert turn.pause_ms(attempt + 1, jitter) >= turn.pause_ms(attempt, jitter)


def test_pending_is_a_value() -> None:
    """Turns compare what they took with what they were told to hand over."""
    assert Pending(1, "s", NOW, message(1)) == Pending(1, "s", NOW, message(1))
