import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.adapters.memory.store import holds, perform
from replyd.domain import delivery, steps
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused, Step
from replyd.domain.record import Outbox
from replyd.domain.steps import MAX_PRUNED, prunable
from tests.domain.situations import FLAGS, NOW, POLICY, Item, claim, reply

SEEN = st.dictionaries(st.text(max_size=4), st.integers(NOW - 50, NOW + 5), max_size=30)


@given(SEEN, st.integers(0, 60), st.integers(0, 30))
def test_what_may_be_forgotten(seen: dict[str, int], horizon: int, keep: int) -> None:
    pruned = prunable(seen, NOW, horizon_ms=horizon, keep=keep)
    kept = [at for sid, at in seen.items() if sid not in pruned]
    assert len(set(pruned)) == len(pruned)
    assert set(pruned) <= seen.keys()
    # No SID is forgotten while an older one is kept.
    assert all(seen[sid] <= at for sid in pruned for at in kept)
    assert len(kept) <= keep
    assert all(at >= NOW - horizon for at in kept)
    # The newest stay, as long as they are within the horizon.
    assert len(kept) == min(keep, sum(at >= NOW - horizon for at in seen.values()))


def test_a_commit_forgets_a_hundred_at_most_and_the_oldest_first() -> None:
    seen = {f"SM{i}": NOW - i for i in range(1_000)}
    pruned = prunable(seen, NOW, horizon_ms=10_000, keep=500)
    assert pruned == tuple(f"SM{i}" for i in range(999, 999 - MAX_PRUNED, -1))


def test_the_horizon_itself_is_kept() -> None:
    seen = {"old": NOW - 11, "edge": NOW - 10, "new": NOW}
    assert prunable(seen, NOW, horizon_ms=10, keep=500) == ("old",)
    assert prunable({}, NOW, horizon_ms=10, keep=0) == ()


@pytest.mark.parametrize("flag", FLAGS)
def test_the_flag_reads_as_the_conditions_see_it(flag: Any) -> None:
    item = {r.HANDOFF: flag}
    assert r.flag_is_up(item) == (not holds(steps.FLAG_DOWN, item))


@pytest.mark.parametrize("value", ["2026-11-22T10:00:00.000Z", None, False, ""])
def test_the_opt_out_reads_as_the_conditions_see_it(value: Any) -> None:
    for item in ({r.OPTED_OUT: value}, {}):
        assert r.is_opted_out(item) == (not holds(steps.NOT_OPTED_OUT, item))


OUTBOX = reply("t", (1,), ("SM1",))


@pytest.mark.parametrize(
    "step",
    [
        steps.renew("stale", NOW),
        steps.release("stale", give_back_attempt=True, drop_outbox=True, failure={"detail": "x"}),
        steps.intend_reply("stale", OUTBOX, NOW, head="", seq=None),
        steps.intend_handoff("stale", OUTBOX, NOW, head=""),
        steps.arm("stale", "t", 2, NOW),
        steps.commit("stale", OUTBOX, (), NOW, status="x"),
        steps.commit_apology("stale", OUTBOX, (), NOW),
    ],
    ids=lambda step: step.name,
)
def test_a_worker_that_was_overtaken_changes_nothing(step: Step) -> None:
    item = Item()
    item.stage(1, NOW)
    lease_end = NOW + 5_000 + POLICY.lease_ms + POLICY.skew_ms
    assert isinstance(item.apply(claim("stale", NOW + 5_000)), Applied)
    assert isinstance(
        item.apply(steps.intend_reply("stale", OUTBOX, lease_end, head="", seq=1)), Applied
    )
    later = lease_end + POLICY.skew_ms + 1
    assert isinstance(item.apply(claim("fresh", later - 1)), Refused)
    assert isinstance(item.apply(claim("fresh", later)), Applied)
    before = repr(item.attributes)
    assert isinstance(item.apply(step), Refused)
    assert repr(item.attributes) == before


# --- reports -------------------------------------------------------------------------------------

STATES = ["accepted", "queued", "sending", "sent", "delivered", "read", "undelivered", "failed"]


def _entry(state: Any) -> dict[str, Any]:
    return {"message_id": "SM9"} | ({} if state is None else {"delivery": state})


@pytest.mark.parametrize("state", [None, "unknown", "not_sent", *STATES, "odd", 7])
@pytest.mark.parametrize("status", [*STATES, "odd"])
def test_news_is_what_the_conditions_take_for_news(state: Any, status: str) -> None:
    entry, report = _entry(state), {"message_id": "SM9", "delivery": status}
    outbox = {"turn_id": "t-1", "delivery": {"1": entry}}
    news = delivery.replaces(status, entry)
    in_history = delivery.report_in_history(0, "SM9", report)
    in_outbox = delivery.report_in_outbox("t-1", 1, report)
    assert holds(in_history.condition, {r.MESSAGES: [entry]}) == news
    assert holds(in_outbox.condition, {r.OUTBOX: outbox}) == news


def test_a_failure_ends_every_order_and_happens_once() -> None:
    for failure in ("undelivered", "failed"):
        assert all(delivery.replaces(failure, _entry(state)) for state in STATES[:-2])
        assert not any(delivery.replaces(state, _entry(failure)) for state in STATES)


def test_a_failure_brings_the_item_that_people_get_it_from() -> None:
    for status, returns in (("failed", "item"), ("undelivered", "item"), ("read", "nothing")):
        report = {"message_id": "SM9", "delivery": status}
        assert delivery.report_in_outbox("t-1", 1, report).returns == returns
        assert delivery.report_in_history(0, "SM9", report).returns == returns


def test_the_mark_goes_to_the_part_that_people_were_told_of() -> None:
    entry = _entry("failed")
    item: dict[str, Any] = {r.OUTBOX: {"turn_id": "t-1", "delivery": {"1": dict(entry)}}}
    for other in (("t-2", 1, "SM9"), ("t-1", 2, "SM9"), ("t-1", 1, "SM8")):
        assert not holds(delivery.people_told_in_outbox(*other).condition, item)
    mark = delivery.people_told_in_outbox("t-1", 1, "SM9")
    assert holds(mark.condition, item)
    perform(mark.actions, item)
    assert item[r.OUTBOX]["delivery"]["1"] == {**entry, "people_told": True}

    item = {r.MESSAGES: [{}, dict(entry)]}
    for index, sid in ((0, "SM9"), (1, "SM8"), (2, "SM9")):
        assert not holds(delivery.people_told_in_history(index, sid).condition, item)
    mark = delivery.people_told_in_history(1, "SM9")
    assert holds(mark.condition, item)
    perform(mark.actions, item)
    assert item[r.MESSAGES][1] == {**entry, "people_told": True}


# --- a claimed conversation of two messages ----------------------------------------------------

FAILURE = r.failure("model", "overloaded", NOW)


def claimed() -> Item:
    item = Item()
    for number in (1, 2):
        item.stage(number, NOW)
    assert isinstance(item.apply(claim("a", NOW + 5_000)), Applied)
    return item


def changed(item: Item, step: Step) -> set[str]:
    """The attributes that the step made different; it has to hold."""
    before = copy.deepcopy(item.attributes) or {}
    assert isinstance(item.apply(step), Applied)
    after = item.attributes or {}
    return {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}


def test_a_renewal_shows_the_whole_item_as_it_is_then() -> None:
    item = claimed()
    item.stage(3, NOW)
    item.apply(steps.set_handoff(True))
    result = item.apply(steps.renew("a", NOW + 99_000))
    assert isinstance(result, Applied)
    assert result.item == item.attributes
    assert result.item[r.LEASE] == {"owner": "me", "token": "a", "expires_at": NOW + 99_000}
    # Nothing else: whatever people want, the lease is kept for the handoff.
    assert changed(item, steps.renew("a", NOW + 100_000)) == {r.LEASE}


@pytest.mark.parametrize("give_back", [False, True])
def test_a_release_says_why_the_attempt_did_not_succeed(give_back: bool) -> None:
    item = claimed()
    step = steps.release("a", give_back_attempt=give_back, failure=FAILURE)
    assert changed(item, step) == {r.LEASE, r.FAILURE} | ({r.ATTEMPTS} if give_back else set())
    assert item[r.FAILURE] == FAILURE
    assert item[r.LEASE] is None
    # An attempt that ends without a failure of its own leaves the last one to be read.
    assert isinstance(item.apply(claim("b", NOW + 5_000)), Applied)
    assert isinstance(item.apply(steps.release("b", give_back_attempt=True)), Applied)
    assert item.conversation().failure == "overloaded"
    assert item.conversation().attempts == (0 if give_back else 1)


def test_a_release_keeps_what_may_have_been_sent() -> None:
    item = claimed()
    assert isinstance(item.apply(steps.intend_reply("a", OUTBOX, NOW, head="", seq=2)), Applied)
    step = steps.release("a", give_back_attempt=False, failure=FAILURE)
    assert changed(item, step) == {r.LEASE, r.FAILURE}
    assert isinstance(item.apply(claim("b", NOW + 5_000)), Applied)
    step = steps.release("b", give_back_attempt=False, drop_outbox=True)
    assert changed(item, step) == {r.LEASE, r.OUTBOX}


@pytest.mark.parametrize("before", [None, FAILURE])
@pytest.mark.parametrize("failure", [None, r.failure("partly_sent", "1 of 2", NOW)])
def test_a_commit_leaves_its_own_failure_or_none(
    before: dict[str, str] | None, failure: dict[str, str] | None
) -> None:
    item = claimed()
    if before is not None:
        item.apply(steps.release("a", give_back_attempt=False, failure=before))
        assert isinstance(item.apply(claim("a", NOW + 5_000)), Applied)
    assert isinstance(item.apply(steps.intend_reply("a", OUTBOX, NOW, head="", seq=2)), Applied)
    step = steps.commit("a", OUTBOX, OUTBOX.entries, NOW, status="x", failure=failure)
    assert isinstance(item.apply(step), Applied)
    assert item[r.FAILURE] == failure
    assert (item[r.OUTBOX], item[r.LEASE], item[r.ATTEMPTS]) == (None, None, None)


APOLOGY = Outbox(
    "apology-SM1", "apology", (), ({"role": "assistant", "content": "sorry"},), NOW, delivery={}
)
REPORT = {"message_id": "SM9", "delivery": "sent"}


def test_the_commit_of_an_apology_settles_nothing_else() -> None:
    item = claimed()
    assert isinstance(item.apply(steps.intend_reply("a", APOLOGY, NOW, head="", seq=None)), Applied)
    pending, attempts = item.pending, item[r.ATTEMPTS]
    step = steps.commit_apology("a", APOLOGY, APOLOGY.entries, NOW + 99_000)
    assert changed(item, step) == {r.MESSAGES, r.LAST_TURN, r.LEASE, r.OUTBOX}
    assert (item.pending, item[r.ATTEMPTS], item[r.OUTBOX]) == (pending, attempts, None)
    assert item[r.LAST_TURN] == "apology-SM1"
    assert item[r.MESSAGES] == list(APOLOGY.entries)
    assert item[r.LEASE] == {"owner": "me", "token": "a", "expires_at": NOW + 99_000}
    # Its answer may be lost: the second one is refused and writes no second entry.
    assert isinstance(item.apply(step), Refused)
    assert len(item[r.MESSAGES]) == 1


def test_the_commit_of_an_apology_comes_after_the_history() -> None:
    item = claimed()
    assert item.attributes is not None
    item.attributes[r.MESSAGES] = [{"role": "user"}]
    assert isinstance(item.apply(steps.intend_reply("a", APOLOGY, NOW, head="", seq=None)), Applied)
    assert isinstance(item.apply(steps.commit_apology("a", APOLOGY, ({},), NOW)), Applied)
    assert item[r.MESSAGES] == [{"role": "user"}, {}]
    # The table found the texts invalid: without them it still settles.
    other = replace(APOLOGY, turn_id="apology-SM2")
    assert isinstance(item.apply(steps.intend_reply("a", other, NOW, head="", seq=None)), Applied)
    assert isinstance(item.apply(steps.commit_apology("a", other, (), NOW)), Applied)
    assert len(item[r.MESSAGES]) == 2


@pytest.mark.parametrize("kind", ["reply", "apology", "handoff"])
def test_a_commit_is_refused_until_callbacks_have_been_seen(kind: str) -> None:
    item = claimed()
    outbox = replace(APOLOGY, kind=kind)
    assert isinstance(item.apply(steps.intend_reply("a", outbox, NOW, head="", seq=None)), Applied)
    report = delivery.report_in_outbox(outbox.turn_id, 0, REPORT)
    assert isinstance(item.apply(report), Applied)
    seen = replace(outbox, delivery={"0": REPORT})
    for known, held in ((outbox, False), (replace(outbox, delivery=None), False), (seen, True)):
        for step in (
            steps.commit_apology("a", known, (), NOW),
            steps.commit("a", known, (), NOW, status="x"),
        ):
            probe = Item(copy.deepcopy(item.attributes))
            assert isinstance(probe.apply(step), Applied) == held


def test_an_apology_that_is_no_longer_there_is_not_committed() -> None:
    item = claimed()
    step = steps.commit_apology("a", APOLOGY, (), NOW)
    assert isinstance(item.apply(step), Refused)
    assert isinstance(item.apply(steps.intend_reply("a", APOLOGY, NOW, head="", seq=None)), Applied)
    assert isinstance(item.apply(steps.release("a", give_back_attempt=False)), Applied)
    assert isinstance(item.apply(step), Refused)
    assert item[r.OUTBOX]["kind"] == "apology"
