from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replyd.domain import effects, recovery, turn
from replyd.domain import record as r
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Outbox, candidate_from, conversation_from, iso
from tests.domain.garbage import ANYTHING, NUMBERS
from tests.domain.situations import NOW, POLICY, WINDOW, reply
from tests.support.world import KEY, message

ATTRIBUTES = (
    *(r.RECIPIENT_TEL, r.CONVERSATION_ID, r.COMPANY_TEL, r.THREAD_ID, r.HANDOFF, r.MESSAGES),
    *(r.CREATED_AT, r.PENDING, r.SEQ, r.LAST_AT, r.SEEN, r.OPTED_OUT, r.LEASE, r.OUTBOX),
    *(r.LAST_TURN, r.ATTEMPTS, r.FAILURE),
)


def maps(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, ANYTHING))


# Nearly right is harder to read than quite wrong.
ENTRIES = st.lists(ANYTHING | maps("sid", "received_at", "message", "body_ref"), max_size=4)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(ATTRIBUTES, ANYTHING),
        r.PENDING: ANYTHING | ENTRIES,
        r.MESSAGES: ANYTHING | ENTRIES,
        r.LEASE: ANYTHING | maps("owner", "token", "expires_at"),
        r.FAILURE: ANYTHING | maps("reason", "detail", "at"),
        r.OUTBOX: ANYTHING | maps("turn_id", "kind", "seqs", "entries", "at", "delivery"),
    },
)


@settings(max_examples=150)
@given(ITEMS)
def test_no_item_is_unreadable(item: dict[str, Any]) -> None:
    found = conversation_from(item, KEY)
    raw = item.get(r.PENDING)
    assert len(found.pending) == (len(raw) if isinstance(raw, list) else 0)
    assert [p.seq for p in found.pending] == list(range(found.settled + 1, found.seq + 1))
    assert all(isinstance(p.received_at, int) and iso(p.received_at) for p in found.pending)
    assert all(isinstance(p.sid, str) for p in found.pending)
    # Whatever is read can be decided about.
    turn.window_closes_at(found, WINDOW)
    effects.next_effect(found, now=NOW, policy=POLICY)
    candidate_from(item, KEY, "SM1")
    if found.outbox is not None:
        sids = recovery.accepted_parts(found.outbox, (), since=0, elsewhere=())
        recovery.history_of(recovery.unknown_delivery(recovery.with_sids(found.outbox, sids)))


@given(ANYTHING)
def test_one_odd_entry_leaves_the_others_as_they_are(odd: Any) -> None:
    good = {"sid": message(2).sid, "received_at": NOW, "message": message(2).as_dict()}
    for entry in (odd, {"sid": "SM1", "received_at": NOW, "message": odd}):
        found = conversation_from({r.SEQ: 9, r.PENDING: [entry, good]}, KEY)
        assert [p.seq for p in found.pending] == [8, 9]
        assert found.pending[1].message == message(2)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sid": "SM1"},
        {"sid": None, "from": "+1", "to": "+2"},
        {"sid": "SM1", "from": "", "to": "+2"},
        {"sid": "SM1", "from": "+1", "to": "+2", "params": "a=b"},
        {"sid": "SM1", "from": "+1", "to": "+2", "media": [{}]},
        {"sid": "SM1", "from": "+1", "to": "+2", "media": ["https://x"]},
        {"sid": "SM1", "from": "+1", "to": "+2", "media": 7},
        ["sid", "SM1"],
        "text",
        None,
    ],
)
def test_a_body_that_cannot_be_read_is_no_message_yet_counts(body: Any) -> None:
    entry = {"sid": "SM1", "received_at": NOW, "message": body}
    (found,) = conversation_from({r.SEQ: 4, r.PENDING: [entry]}, KEY).pending
    assert (found.seq, found.sid, found.received_at, found.message) == (4, "SM1", NOW, None)


def test_an_item_as_the_steps_write_it() -> None:
    outbox = reply("t", (3,), (message(3).sid,))
    entry = {"sid": message(3).sid, "received_at": NOW, "message": message(3).as_dict()}
    pointer = {"sid": "SM4", "received_at": NOW + 1, "body_ref": "inbound#SM4"}
    item = {
        r.RECIPIENT_TEL: "+1",
        r.CONVERSATION_ID: "c-7",
        r.COMPANY_TEL: "+2",
        r.THREAD_ID: "resp_1",
        r.MESSAGES: [{"role": "user", "content": "hi"}],
        r.PENDING: [entry, pointer],
        r.SEQ: 4,
        r.LAST_AT: NOW + 1,
        r.SEEN: {"SM3": NOW},
        r.LEASE: {"owner": "me", "token": "a", "expires_at": NOW + 2},
        r.OUTBOX: outbox.as_attribute(),
        r.LAST_TURN: "s",
        r.ATTEMPTS: 2,
        r.FAILURE: r.failure("model", "overloaded", NOW),
    }
    found = conversation_from(item, KEY)
    assert (found.key, found.conversation_id, found.customer) == (KEY, "c-7", "+1")
    assert (found.company_tel, found.thread_id) == ("+2", "resp_1")
    assert (found.handoff, found.opted_out, found.unfinished) == (False, False, True)
    assert [(p.seq, p.message, p.body_ref) for p in found.pending] == [
        (3, message(3), ""),
        (4, None, "inbound#SM4"),
    ]
    assert (found.seq, found.settled, found.last_at, found.attempts) == (4, 2, NOW + 1, 2)
    assert found.lease == r.Lease("me", "a", NOW + 2)
    assert found.outbox == outbox
    assert (found.last_turn, found.seen) == ("s", {"SM3": NOW})
    assert found.messages == ({"role": "user", "content": "hi"},)
    assert found.failure == "overloaded"


@pytest.mark.parametrize(
    ("item", "key", "expected"),
    [
        ({r.CONVERSATION_ID: "c-1"}, ConversationKey("+1", "s"), "c-1"),
        ({}, ConversationKey("+1", "s"), "s"),
        ({r.CONVERSATION_ID: 7}, ConversationKey("id-9"), "id-9"),
    ],
)
def test_every_conversation_has_a_name(
    item: dict[str, Any], key: ConversationKey, expected: str
) -> None:
    assert conversation_from(item, key).conversation_id == expected
    assert candidate_from(item, key, "SM1").conversation_id == expected


def test_the_address_may_lie_elsewhere() -> None:
    item = {r.RECIPIENT_TEL: "+1", "phone": "+2"}
    assert conversation_from(item, KEY, address_attribute="phone").customer == "+2"


@given(st.lists(ANYTHING | st.just({"role": "user"}), max_size=5))
def test_entries_of_an_outbox_keep_their_places(entries: list[Any]) -> None:
    """Callbacks know them by index."""
    found = conversation_from({r.OUTBOX: {"entries": entries}}, KEY).outbox
    assert found is not None
    expected = tuple(e if isinstance(e, dict) else {} for e in entries)
    # By their text: a NaN is no equal of itself.
    assert repr(found.entries) == repr(expected)


def test_an_outbox_survives_the_item() -> None:
    outbox = Outbox(
        turn_id="t",
        kind="handoff",
        seqs=(1, 2),
        entries=({"role": "user"},),
        at=NOW,
        reason="failed",
        detail="why",
        summary="sum",
        delivery={"0": {"delivery": "x"}},
    )
    assert conversation_from({r.OUTBOX: outbox.as_attribute()}, KEY).outbox == outbox


def test_a_failure_is_for_operators() -> None:
    odd_ones: list[Any] = [None, "text", [], {"detail": 7}, {}]
    written = r.failure("model", "overloaded", NOW)
    assert written == {"reason": "model", "detail": "overloaded", "at": iso(NOW)}
    for odd in odd_ones:
        assert conversation_from({r.FAILURE: odd}, KEY).failure == ""


@given(NUMBERS)
def test_every_number_has_a_time(number: Any) -> None:
    ms = conversation_from({r.LAST_AT: number}, KEY).last_at
    assert len(iso(ms)) == len("2026-11-22T10:00:00.123Z")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_795_341_600_123, "2026-11-22T10:00:00.123Z"),
        (1_795_341_600_999, "2026-11-22T10:00:00.999Z"),
        (10**30, "9999-12-31T23:59:59.999Z"),
        (-(10**30), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_in_iso_8601(ms: int, text: str) -> None:
    assert iso(ms) == text


def test_later_is_greater_in_iso_too() -> None:
    times = [NOW + step for step in (0, 1, 999, 1_000, 86_400_000)]
    assert sorted(map(iso, times)) == [iso(t) for t in times]


@pytest.mark.parametrize("value", [Decimal(7), 7, 7.0])
def test_numbers_of_every_sdk(value: Any) -> None:
    assert conversation_from({r.SEQ: value}, KEY).seq == 7


def test_what_the_lookup_shows() -> None:
    item = {
        r.COMPANY_TEL: "+2",
        r.CREATED_AT: "2026",
        r.THREAD_ID: "resp_1",
        r.HANDOFF: 0,
        r.OPTED_OUT: None,
        r.SEQ: 1,
        r.SEEN: {"SM1": 1},
    }
    found = candidate_from(item, KEY, "SM1")
    assert (found.company_tel, found.created_at, found.thread_id) == ("+2", "2026", "resp_1")
    assert (found.handoff, found.opted_out, found.staged_before, found.seen) == (True,) * 4
    other = candidate_from({}, KEY, "SM1")
    assert (other.handoff, other.opted_out, other.staged_before, other.seen) == (False,) * 4
    assert not candidate_from(item, KEY, "SM2").seen
