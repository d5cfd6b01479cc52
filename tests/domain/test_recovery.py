"""Which parts of a reply went out, and what follows from it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import recovery, turn
from replyd.domain.delivery import NOT_SENT, UNKNOWN
from replyd.domain.effects import HandOver
from replyd.domain.messages import SentMessage
from replyd.domain.record import Outbox, Pending
from replyd.domain.recovery import Resume, SendAgain
from replyd.domain.turn import TurnPolicy
from tests.domain.situations import NOW
from tests.support.world import message

TAKEN = (Pending(1, message(1).sid, NOW, message(1)),)
USER: dict[str, Any] = {"role": "user", "message_id": message(1).sid, "content": "hi"}


def outbox(*parts: str | dict[str, Any], delivery: Mapping[str, Any] | None = None) -> Outbox:
    """A reply to one message; the parts are entries 1, 2 and so on."""
    entries = [{"content": p} if isinstance(p, str) else p for p in parts]
    replies = [{"role": "assistant", "content": f"{i}"} | e for i, e in enumerate(entries, 1)]
    return Outbox("t", "reply", (1,), (USER, *replies), NOW, delivery=delivery)


def listed(*texts: str, at: int = NOW) -> list[SentMessage]:
    """The vendor's list, oldest first: SIDs L1, L2 and so on."""
    return [SentMessage(f"L{i}", text, at) for i, text in enumerate(texts, start=1)]


def told(sid: str, state: str = "sent") -> dict[str, Any]:
    return {"message_id": sid, "delivery": state}


def accepted(
    of: Outbox, messages: list[SentMessage], *, since: int = 0, elsewhere: tuple[str, ...] = ()
) -> dict[int, str]:
    return recovery.accepted_parts(of, messages, since=since, elsewhere=elsewhere)


# --- what is known without a list --------------------------------------------------------------


def test_parts_are_what_goes_out() -> None:
    odd: dict[str, Any] = {"role": "operator"}
    assert [i for i, _ in outbox("a", odd, "b").parts] == [1, 3]
    assert replace(outbox(), entries=(USER, {})).parts == []


@pytest.mark.parametrize(
    ("parts", "delivery", "expected"),
    [
        (("a", "b"), None, {}),
        (("a", "b"), {}, {}),
        (({"message_id": "A"}, "b"), None, {1: "A"}),
        (("a", "b"), {"2": told("B")}, {2: "B"}),
        (({"message_id": "A"}, "b"), {"2": told("B")}, {1: "A", 2: "B"}),
        # What ARM noted is the vendor's own answer.
        (({"message_id": "A"}, "b"), {"1": told("X")}, {1: "A"}),
        # A part that was not delivered was accepted all the same.
        (("a", "b"), {"1": told("A", "failed")}, {1: "A"}),
        (("a", "b"), {"0": told("X"), "7": told("Y"), "odd": told("Z")}, {}),
        (("a", "b"), {"1": {"delivery": "sent"}, "2": {"message_id": ""}}, {}),
        (("a", "b"), {"1": "text", "2": None}, {}),
    ],
)
def test_sids_that_are_known(
    parts: tuple[Any, ...], delivery: Mapping[str, Any] | None, expected: dict[int, str]
) -> None:
    assert recovery.known_sids(outbox(*parts, delivery=delivery)) == expected


# --- the vendor's list -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "skew", "since"),
    [
        (NOW, 2_000, NOW - 2_000),
        (NOW + 999, 2_000, NOW - 2_000),
        (NOW + 1_000, 2_000, NOW - 1_000),
        (NOW + 999, 0, NOW),
        (NOW, 1, NOW - 1_000),
        (NOW, 1_001, NOW - 2_000),
    ],
)
def test_from_when_on_the_list_is_read(at: int, skew: int, since: int) -> None:
    found = recovery.listed_since(replace(outbox("a"), at=at), TurnPolicy(skew_ms=skew))
    assert found == since


@given(st.integers(0, 10**6), st.integers(0, 5_000), st.integers(0, 10**5), st.integers(0, 5_000))
def test_no_vendor_within_the_skew_lists_a_part_as_too_old(
    at: int, skew: int, pause: int, behind: int
) -> None:
    stamp = (NOW + at + pause - min(behind, skew)) // 1000 * 1000
    policy = TurnPolicy(skew_ms=skew)
    assert stamp >= recovery.listed_since(replace(outbox("a"), at=NOW + at), policy)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), {}),
        (("a",), {1: "L1"}),
        (("b",), {2: "L1"}),
        (("a", "b"), {1: "L1", 2: "L2"}),
        (("b", "a"), {1: "L2", 2: "L1"}),
        (("x", "a", "y", "b"), {1: "L2", 2: "L4"}),
        # Other messages with the text of a part are not needed.
        (("a", "a", "b"), {1: "L1", 2: "L3"}),
        (("A", "ab", "a b", ""), {}),
    ],
)
def test_parts_in_the_list(texts: tuple[str, ...], expected: dict[int, str]) -> None:
    assert accepted(outbox("a", "b"), listed(*texts)) == expected


def test_a_template_is_not_looked_for_by_its_text_but_by_what_callbacks_told() -> None:
    filled = {"content": "a", "template": {"sid": "HX1", "variables": {"1": "a"}}}
    assert accepted(outbox(filled, "b"), listed("a", "b")) == {2: "L2"}
    assert recovery.is_nobodys(listed("a", "b"), since=0, known={"L2"})
    known = outbox(filled, delivery={"1": told("A")})
    assert accepted(known, listed("a")) == {1: "A"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        # They go out in order, so that the first one is the one that did.
        (("a",), {1: "L1"}),
        (("a", "a"), {1: "L1", 2: "L2"}),
        (("a", "b", "a", "a"), {1: "L1", 2: "L3", 3: "L2"}),
    ],
)
def test_two_parts_with_the_same_text(texts: tuple[str, ...], expected: dict[int, str]) -> None:
    assert accepted(outbox("a", "a", "b"), listed(*texts)) == expected


def test_a_sid_that_is_known_is_no_other_parts() -> None:
    """Callback and list agree: one message, one part."""
    same = outbox("a", "a", delivery={"1": told("L1")})
    assert accepted(same, listed("a")) == {1: "L1"}
    assert accepted(same, listed("a", "a")) == {1: "L1", 2: "L2"}
    second = outbox("a", "a", delivery={"2": told("L1")})
    assert accepted(second, listed("a", "a")) == {1: "L2", 2: "L1"}
    noted = outbox({"content": "a", "message_id": "L2"}, "a")
    assert accepted(noted, listed("a", "a")) == {1: "L2", 2: "L1"}


def test_a_part_is_accepted_though_the_list_does_not_show_it() -> None:
    assert accepted(outbox("a", "b", delivery={"2": told("B")}), []) == {2: "B"}


def test_messages_of_other_turns_and_older_ones_do_not_count() -> None:
    messages = listed("a", "a")
    assert accepted(outbox("a"), messages, elsewhere=("L1",)) == {1: "L2"}
    assert accepted(outbox("a"), messages, elsewhere=("L1", "L2")) == {}
    old, new = SentMessage("L1", "a", NOW - 1), SentMessage("L2", "a", NOW)
    assert accepted(outbox("a"), [old, new], since=NOW) == {1: "L2"}
    assert accepted(outbox("a"), [old], since=NOW) == {}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a b", " a b\n"),
        ("a\nb", "a\r\nb"),
        ("a\n\n\nb", "a b"),
        ("a  b\t", "a b"),
        ("a\N{NO-BREAK SPACE}b", "a b"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ],
)
def test_a_text_that_somebody_else_has_stored(ours: str, theirs: str) -> None:
    assert accepted(outbox(ours), listed(theirs)) == {1: "L1"}


@pytest.mark.parametrize(("ours", "theirs"), [("a", "b"), ("a", "A"), ("ab", "a b"), ("1", "¹")])
def test_other_texts_are_others(ours: str, theirs: str) -> None:
    assert accepted(outbox(ours), listed(theirs)) == {}


TEXTS = st.sampled_from(["a", "b", " a\n", "c"])
TIMES = st.integers(NOW - 2, NOW + 2)


@st.composite
def lists(draw: st.DrawFn) -> list[SentMessage]:
    rows = draw(st.lists(st.tuples(TEXTS, TIMES), max_size=7))
    return [SentMessage(f"L{i}", text, at) for i, (text, at) in enumerate(rows, start=1)]


@st.composite
def outboxes(draw: st.DrawFn) -> Outbox:
    """Some parts have a SID, noted or told; some of those are in the list."""
    texts = draw(st.lists(TEXTS, min_size=1, max_size=4))
    sids = draw(st.permutations(["L1", "L2", "K1", "K2"]))
    ways = [draw(st.sampled_from(["", "", "noted", "told"])) for _ in texts]
    parts = [
        {"content": text} | ({"message_id": sid} if way == "noted" else {})
        for text, sid, way in zip(texts, sids, ways, strict=False)
    ]
    delivery = {
        str(i): told(sid)
        for i, (sid, way) in enumerate(zip(sids, ways, strict=False), start=1)
        if way == "told"
    }
    return outbox(*parts, delivery=delivery)


@given(outboxes(), lists(), st.sets(st.sampled_from(["L3", "L4", "L5"])))
def test_each_listed_message_is_at_most_one_parts(
    of: Outbox, messages: list[SentMessage], elsewhere: set[str]
) -> None:
    known = recovery.known_sids(of)
    found = recovery.accepted_parts(of, messages, since=NOW, elsewhere=elsewhere)
    assert found.keys() <= {i for i, _ in of.parts}
    assert len(set(found.values())) == len(found)
    assert not set(found.values()) & elsewhere
    # What is known stays; what the list adds is in the list, new enough, and has the part's text.
    assert known.items() <= found.items()
    rows = {m.sid: m for m in messages}
    for index in found.keys() - known.keys():
        row = rows[found[index]]
        assert row.at >= NOW
        assert row.text.strip() == of.entries[index]["content"].strip()


@given(outboxes(), lists(), st.randoms(use_true_random=False), st.integers(0, 7))
def test_a_longer_list_takes_no_acceptance_back(
    of: Outbox, messages: list[SentMessage], random: Any, count: int
) -> None:
    fewer = messages[:count]
    random.shuffle(fewer)
    few = recovery.accepted_parts(of, fewer, since=NOW, elsewhere=())
    many = recovery.accepted_parts(of, messages, since=NOW, elsewhere=())
    assert few.keys() <= many.keys()


@given(outboxes(), lists(), st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_no_acceptance(
    of: Outbox, messages: list[SentMessage], random: Any
) -> None:
    before = recovery.accepted_parts(of, messages, since=NOW, elsewhere=())
    random.shuffle(messages)
    assert recovery.accepted_parts(of, messages, since=NOW, elsewhere=()).keys() == before.keys()


# --- what follows ------------------------------------------------------------------------------

GIVEN_UP = HandOver(turn.FAILED, TAKEN, "no reply after 5 attempts", apologise=True)
RESENDING = TurnPolicy(on_ambiguous="resend", apology=True)
HANDING = TurnPolicy(on_ambiguous="handoff", apology=True)
NONE: dict[int, str] = {}
SOME, EVERY = {2: "B"}, {1: "A", 2: "B"}
LOST, PARTLY = "cannot tell", "gives up half-way"
RESUMED, AGAIN, TOLD = "resumes", "sends again", "gives up with an apology"


def after_look(
    sids: Mapping[int, str],
    *,
    certain: bool,
    given_up: HandOver | None,
    policy: TurnPolicy,
    of: Outbox | None = None,
) -> SendAgain | Resume | HandOver:
    found = of or outbox("a", "b")
    return recovery.after_look(
        found, TAKEN, sids, certain=certain, given_up=given_up, policy=policy
    )


@pytest.mark.parametrize(
    ("policy", "certain", "given_up", "sids", "expected"),
    [
        (HANDING, True, None, NONE, AGAIN),
        (HANDING, True, None, SOME, RESUMED),
        (HANDING, True, None, EVERY, RESUMED),
        (HANDING, True, GIVEN_UP, NONE, TOLD),
        (HANDING, True, GIVEN_UP, SOME, PARTLY),
        (HANDING, True, GIVEN_UP, EVERY, RESUMED),
        (HANDING, False, None, NONE, LOST),
        (HANDING, False, None, SOME, LOST),
        (HANDING, False, None, EVERY, RESUMED),
        (HANDING, False, GIVEN_UP, NONE, LOST),
        (HANDING, False, GIVEN_UP, SOME, LOST),
        (HANDING, False, GIVEN_UP, EVERY, RESUMED),
        (RESENDING, True, None, NONE, AGAIN),
        (RESENDING, True, None, SOME, RESUMED),
        (RESENDING, True, None, EVERY, RESUMED),
        (RESENDING, True, GIVEN_UP, NONE, TOLD),
        (RESENDING, True, GIVEN_UP, SOME, RESUMED),
        (RESENDING, True, GIVEN_UP, EVERY, RESUMED),
        (RESENDING, False, None, NONE, AGAIN),
        (RESENDING, False, None, SOME, RESUMED),
        (RESENDING, False, None, EVERY, RESUMED),
        (RESENDING, False, GIVEN_UP, NONE, LOST),
        (RESENDING, False, GIVEN_UP, SOME, LOST),
        (RESENDING, False, GIVEN_UP, EVERY, RESUMED),
    ],
)
def test_after_a_look(
    policy: TurnPolicy,
    certain: bool,
    given_up: HandOver | None,
    sids: dict[int, str],
    expected: str,
) -> None:
    answer = after_look(sids, certain=certain, given_up=given_up, policy=policy)
    match answer:
        case SendAgain():
            assert expected == AGAIN
        case Resume(found):
            assert expected == RESUMED
            assert found == sids
        case HandOver(reason, taken, _, None, apologise):
            assert expected == TOLD
            assert (reason, taken, apologise) == (turn.FAILED, TAKEN, True)
        case HandOver(reason, taken, detail, maybe_sent, apologise):
            assert expected in (LOST, PARTLY)
            assert (reason, taken, apologise) == (turn.AMBIGUOUS, TAKEN, False)
            assert (GIVEN_UP.detail in detail) == (expected == PARTLY)
            assert maybe_sent is not None
            noted = {1: None, 2: None} | sids
            assert {i: e.get("message_id") for i, e in maybe_sent.parts} == noted
            # What is certain is said so.
            unsent = [e for e in maybe_sent.entries if e.get("delivery") == NOT_SENT]
            assert len(unsent) == (2 - len(sids) if expected == PARTLY else 0)


@given(
    outboxes(),
    lists(),
    st.booleans(),
    st.sampled_from([None, GIVEN_UP]),
    st.sampled_from([RESENDING, HANDING]),
)
def test_nothing_is_sent_against_what_is_known(
    of: Outbox,
    messages: list[SentMessage],
    certain: bool,
    given_up: HandOver | None,
    policy: TurnPolicy,
) -> None:
    sids = recovery.known_sids(of)
    if certain:
        sids = recovery.accepted_parts(of, messages, since=NOW, elsewhere=())
    answer = after_look(sids, certain=certain, given_up=given_up, policy=policy, of=of)
    missing = len(of.parts) - len(sids)
    match answer:
        case SendAgain():
            assert not sids
            assert given_up is None
            assert certain or policy.on_ambiguous == "resend"
        case Resume(found):
            assert found == sids
            assert found
            assert certain or not missing or policy.on_ambiguous == "resend"
            assert not missing or given_up is None or policy.on_ambiguous == "resend"
        case HandOver(_, _, _, maybe_sent, apologise):
            assert missing
            # Nobody apologises for a reply that has come in part, or may have.
            assert apologise == (maybe_sent is None) == (certain and not sids)


# --- what is written down ----------------------------------------------------------------------


def test_accepted_parts_are_noted() -> None:
    before = outbox("a", {"message_id": "B"}, "c", delivery={"1": told("X")})
    noted = recovery.with_sids(before, {1: "A", 3: "C"})
    user, first, second, third = noted.entries
    assert (user, second) == (USER, before.entries[2])
    assert (first["message_id"], first["delivery"], first["content"]) == ("A", "accepted", "a")
    assert (third["message_id"], third["delivery"]) == ("C", "accepted")
    assert replace(noted, entries=before.entries) == before
    assert recovery.known_sids(noted) == {1: "A", 2: "B", 3: "C"}
    assert recovery.with_sids(before, {}) == before
    assert "message_id" not in before.entries[1]


def test_only_parts_without_a_sid_are_marked() -> None:
    before = outbox({"message_id": "A", "delivery": "accepted"}, "b", "c")
    for mark, state in ((recovery.unknown_delivery, UNKNOWN), (recovery.without_unsent, NOT_SENT)):
        marked = mark(before)
        assert marked.entries[:2] == before.entries[:2]
        assert [e["delivery"] for e in marked.entries[2:]] == [state, state]
        assert replace(marked, entries=before.entries) == before
        assert mark(marked) == marked
        assert "delivery" not in before.entries[2]


def test_what_is_known_not_to_be_sent_is_not_unknown() -> None:
    unsent = recovery.without_unsent(outbox({"message_id": "A"}, "b"))
    assert recovery.unknown_delivery(unsent) == unsent
    # The other way round there is news: somebody has looked.
    perhaps = recovery.unknown_delivery(outbox({"message_id": "A"}, "b"))
    assert recovery.without_unsent(perhaps) == unsent


def test_the_history_has_what_callbacks_told_of_each_place() -> None:
    failed = told("B", "failed") | {"delivery_error": "63016"}
    found = outbox("a", "b", delivery={"1": told("A"), "2": failed, "7": told("X")})
    user, first, second = recovery.history_of(found)
    assert user == USER
    assert first == {**found.entries[1], **told("A")}
    assert second == {**found.entries[2], **failed}
    assert "delivery" not in found.entries[1]
    for nothing in (None, {}, {"1": "odd", "2": None}):
        assert recovery.history_of(replace(found, delivery=nothing)) == found.entries


def test_a_part_that_was_not_sent_leaves_the_others_at_their_places() -> None:
    unsent = {"delivery": NOT_SENT}
    found = outbox("a", unsent, "c", delivery={"3": told("C")})
    user, first, third = recovery.history_of(found)
    assert (user, first) == found.entries[:2]
    assert third == {**found.entries[3], **told("C")}


def test_a_callback_knows_better_than_a_look() -> None:
    found = recovery.without_unsent(outbox("a", "b", delivery={"2": told("B")}))
    _, second = recovery.history_of(found)
    assert (second["message_id"], second["delivery"]) == ("B", "sent")


MARKS = st.sampled_from([{}, {"delivery": NOT_SENT}, {"delivery": UNKNOWN}, {"message_id": "N"}])
REPORTS = st.sampled_from([told("A"), told("B", "failed"), None, "odd", {}])


@given(
    st.lists(MARKS, max_size=5), st.none() | st.dictionaries(st.sampled_from("0123459"), REPORTS)
)
def test_the_history_invents_nothing_and_keeps_the_order(
    marks: list[dict[str, Any]], delivery: dict[str, Any] | None
) -> None:
    found = outbox(*marks, delivery=delivery)
    history = recovery.history_of(found)
    contents = [e["content"] for e in found.entries]
    kept = [e["content"] for e in history]
    assert kept == [c for c in contents if c in kept]
    for index, entry in enumerate(found.entries):
        report = (delivery or {}).get(str(index))
        heard = isinstance(report, dict) and bool(report)
        assert (entry["content"] in kept) == (entry.get("delivery") != NOT_SENT or heard)


@given(outboxes(), lists())
def test_after_a_look_the_history_has_exactly_what_was_accepted(
    of: Outbox, messages: list[SentMessage]
) -> None:
    sids = recovery.accepted_parts(of, messages, since=NOW, elsewhere=())
    noted = recovery.without_unsent(recovery.with_sids(of, sids))
    _, *parts = recovery.history_of(noted)
    assert [p["message_id"] for p in parts] == [sids[i] for i in sorted(sids)]


def test_a_message_of_nobody_is_one_that_no_turn_knows_and_that_is_not_older() -> None:
    listed = [SentMessage("SM1", "old", 1_000), SentMessage("SM2", "new", 2_000)]
    assert recovery.is_nobodys(listed, since=2_000, known={"SM1"})
    assert not recovery.is_nobodys(listed, since=2_000, known={"SM2"})
    assert not recovery.is_nobodys(listed, since=3_000, known=())
