"""The decisions, against the conditions of the steps whose answers they read."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replyd.domain import effects, steps, turn
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused
from replyd.domain.record import Conversation, Outbox, Pending
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
    assert isinstance(item.apply(steps.intend_handoff("a", outbox, LATER, head="")), Applied)
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
    item.apply(steps.intend_handoff("b", reply("t", (), ()), LATER + POLICY.lease_ms, head=""))
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


# --- RUN ---------------------------------------------------------------------------------------


def renewed(
    item: Item, token: str, seq: int | None = None
) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
    return turn.after_renewal(read(item.apply(steps.renew(token, LATER))), token=token, seq=seq)


def test_a_renewal_shows_whether_the_answer_is_still_wanted() -> None:
    item = claimed()
    assert renewed(item, "a") == renewed(item, "a", 1) == turn.Holds()
    item.stage(2, LATER)
    # Where a newer message does not count, it is left for the next turn.
    assert renewed(item, "a") == renewed(item, "a", 2) == turn.Holds()
    newer = renewed(item, "a", 1)
    assert isinstance(newer, turn.NewerMessages)
    assert [p.seq for p in newer.conversation.pending] == [1, 2]
    item.apply(steps.mark_opt_out(LATER, opted_out=True))
    assert renewed(item, "a") == renewed(item, "a", 1) == turn.Silenced(turn.OPTED_OUT)
    item.apply(steps.set_handoff(True))
    assert renewed(item, "a") == renewed(item, "a", 1) == turn.Silenced(turn.REQUESTED)
    assert renewed(item, "b") == renewed(item, "b", 1) == turn.LeaseLost()


def test_a_renewal_without_a_lease_or_an_item_is_lost() -> None:
    item = claimed()
    item.apply(steps.release("a", give_back_attempt=False))
    assert renewed(item, "a") == turn.LeaseLost()
    assert renewed(Item(None), "a") == turn.LeaseLost()


@given(situations() | situations(outbox=True), st.booleans(), st.none() | st.integers(0, 2))
def test_a_renewal_says_what_the_intent_would_say(
    situation: tuple[Item, int], ours: bool, back: int | None
) -> None:
    """Or else the model would be interrupted for nothing, or paid for nothing."""
    item, _ = situation
    token = item.token if ours and item.token else "nobody's"
    seq = None if back is None else item.seq - back
    seen, over = renewed(item, token, seq), item.conversation().outbox
    assert type(intend(item, token, item.head("draft"), seq, over)) is type(seen)


# --- INTENT ------------------------------------------------------------------------------------


def claimed(count: int = 1) -> Item:
    item = Item()
    for number in range(1, count + 1):
        item.stage(number, NOW)
    assert isinstance(item.apply(claim("a", LATER)), Applied)
    return item


def intend(
    item: Item, token: str, outbox: Outbox, seq: int | None, over: Outbox | None = None
) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
    result = item.apply(steps.intend_reply(token, outbox, LATER, head="", seq=seq, over=over))
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
    over = item.conversation().outbox
    answer = intend(item, token, draft, None if back is None else item.seq - back, over)
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
            step = steps.intend_handoff(token, draft, LATER, head="")
            assert isinstance(item.apply(step), Applied)
        case turn.NewerMessages(found):
            # Asking again is only worth its price if it can hold then.
            assert back
            assert found.seq == item.seq
            assert intend(item, token, draft, found.seq, over) == turn.Holds()


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_that_refuses_an_intent_silences(flag: Any) -> None:
    item = claimed()
    assert item.attributes is not None
    item.attributes[r.HANDOFF] = flag
    up = not (flag is None or flag is False)
    expected = turn.Silenced(turn.REQUESTED) if up else turn.Holds()
    assert intend(item, "a", item.head("t"), None) == expected
    there = replace(item.conversation(), outbox=None)
    looked_at = effects.next_effect(there, now=NOW, policy=POLICY)
    assert isinstance(looked_at, effects.HandOver) == up


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


def test_an_intent_replaces_only_the_outbox_that_it_means_to() -> None:
    """What has become of the turn since must not be taken back by a request that comes late."""
    item = claimed()
    first, second = item.head("t"), item.head("u")
    assert intend(item, "a", second, 1, first) == turn.LeaseLost()
    assert intend(item, "a", first, 1) == turn.Holds()
    assert intend(item, "a", second, 1) == turn.LeaseLost()
    assert intend(item, "a", second, 1, item.head("other")) == turn.LeaseLost()
    assert intend(item, "a", second, 1, first) == turn.Holds()
    # The first one's request arrives once more.
    assert isinstance(item.apply(steps.intend_reply("a", first, LATER, head="", seq=1)), Refused)
    assert item[r.OUTBOX]["turn_id"] == "u"


def test_an_intent_refused_without_a_reason_stops() -> None:
    """Nothing that the item shows explains it: to ask again might never end."""
    item = claimed()
    refused = Refused(item.attributes)
    for seq in (None, 1):
        answer = turn.after_intent(refused, read(refused), token="a", turn_id="t", seq=seq)
        assert answer == turn.LeaseLost()


@pytest.mark.parametrize("changes", [{r.HANDOFF: True}, {r.OPTED_OUT: "2026"}, {r.SEQ: 2}])
def test_ones_own_outbox_counts_for_more_than_a_wish_that_came_later(
    changes: dict[str, Any],
) -> None:
    item = claimed()
    assert intend(item, "a", item.head("t"), 1) == turn.Holds()
    assert item.attributes is not None
    refused = Refused(item.attributes | changes)
    for turn_id, held in (("t", True), ("u", False)):
        answer = turn.after_intent(refused, read(refused), token="a", turn_id=turn_id, seq=1)
        assert isinstance(answer, turn.Holds) == held
    lost = turn.after_intent(refused, read(refused), token="b", turn_id="t", seq=1)
    assert lost == turn.LeaseLost()


# --- ARM ---------------------------------------------------------------------------------------


def arm(item: Item, token: str, entry: int) -> turn.Holds | turn.LeaseLost | turn.Silenced:
    result = item.apply(steps.arm(token, item[r.OUTBOX]["turn_id"], entry, LATER))
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
    step = steps.arm("a", "t", 2, LATER, accepted={1: "SM1"})
    assert isinstance(item.apply(step), Applied)
    assert arm(item, "a", 2) == turn.Holds()
    assert not isinstance(arm(item, "a", 1), turn.Holds)


def test_a_part_of_another_turn_is_not_armed() -> None:
    """Its worker cannot tell that the outbox has changed by the places of the parts."""
    item = claimed()
    assert intend(item, "a", item.head("t"), 1) == turn.Holds()
    assert isinstance(item.apply(steps.arm("a", "u", 2, LATER)), Refused)
    assert isinstance(item.apply(steps.arm("a", "t", 2, LATER)), Applied)


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
    item.apply(steps.intend_handoff("b", other, LATER, head=""))
    # Whoever holds the lease commits only the outbox that is there.
    assert commit(item, "b", outbox) == turn.LeaseLost() or item[r.LAST_TURN] == "t"


def test_a_commit_without_an_item_is_lost() -> None:
    assert commit(Item(None), "a", reply("t", (1,), ("s",))) == turn.LeaseLost()


# --- pauses ---------------------------------------------------------------------------------------


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
