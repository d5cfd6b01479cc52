from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.adapters.memory.store import holds
from replyd.domain import record as r
from replyd.domain import steps
from replyd.domain.expressions import Applied, Refused, Step
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
        steps.release("stale", give_back_attempt=True, drop_outbox=True),
        steps.intend_reply("stale", OUTBOX, NOW, seq=None),
        steps.intend_handoff("stale", OUTBOX, NOW),
        steps.arm("stale", 2, NOW),
        steps.commit("stale", OUTBOX, (), NOW, status="x"),
    ],
    ids=lambda step: step.name,
)
def test_a_worker_that_was_overtaken_changes_nothing(step: Step) -> None:
    item = Item()
    item.stage(1, NOW)
    lease_end = NOW + 5_000 + POLICY.lease_ms + POLICY.skew_ms
    assert isinstance(item.apply(claim("stale", NOW + 5_000)), Applied)
    assert isinstance(item.apply(steps.intend_reply("stale", OUTBOX, lease_end, seq=1)), Applied)
    later = lease_end + POLICY.skew_ms + 1
    assert isinstance(item.apply(claim("fresh", later - 1)), Refused)
    assert isinstance(item.apply(claim("fresh", later)), Applied)
    before = repr(item.attributes)
    assert isinstance(item.apply(step), Refused)
    assert repr(item.attributes) == before
