"""What a claimed conversation needs, and when the AI has had its chance."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import effects, steps, turn
from replyd.domain import record as r
from replyd.domain.expressions import Applied
from replyd.domain.record import Conversation, Outbox
from replyd.domain.turn import MAX_TAKEN, TurnPolicy
from tests.domain.situations import NOW, PAUSES, POLICY, Item, claim, read, reply, situations

LATER = NOW + 3_600_000
APOLOGISING = TurnPolicy(apology=True)
WISHES: tuple[dict[str, Any], ...] = (
    {},
    {"handoff": True},
    {"opted_out": True},
    {"attempts": 9},
    {"failure": "the model: overloaded"},
)


def conversation(pending: int = 0, **changes: Any) -> Conversation:
    item = Item()
    for number in range(1, pending + 1):
        item.stage(number, NOW)
    return replace(item.conversation(), **changes)


def under_way(kind: str, seqs: tuple[int, ...], **changes: Any) -> tuple[Conversation, Outbox]:
    """Three messages are pending, and of some of them an earlier worker wrote an outbox."""
    found = conversation(3)
    outbox = reply("t", seqs, tuple(p.sid for p in found.pending[: len(seqs)]), kind)
    return replace(found, outbox=outbox, **changes), outbox


# --- what a claimed conversation needs ---------------------------------------------------------


def test_the_model_is_asked_for_everything_pending() -> None:
    found = conversation(3)
    assert effects.next_effect(found, now=NOW, policy=POLICY) == effects.AskModel(found.pending)


def test_at_most_fifty_are_taken() -> None:
    found = conversation(MAX_TAKEN + 5)
    for handoff in (False, True):
        answer = effects.next_effect(replace(found, handoff=handoff), now=NOW, policy=POLICY)
        assert isinstance(answer, effects.AskModel | effects.HandOver)
        assert answer.taken == found.pending[:MAX_TAKEN]


def test_nothing_pending_is_let_go_whatever_else_is_set() -> None:
    found = conversation(0, handoff=True, opted_out=True, attempts=99)
    assert effects.next_effect(found, now=NOW, policy=POLICY) == effects.LetGo()


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
    answer = effects.next_effect(found, now=NOW + waited, policy=POLICY)
    if reason is None:
        assert answer == effects.AskModel(found.pending)
    else:
        assert isinstance(answer, effects.HandOver)
        assert (answer.reason, answer.taken, answer.maybe_sent) == (reason, found.pending, None)


def test_the_oldest_message_counts() -> None:
    found = conversation(2)
    newer = replace(found.pending[1], received_at=NOW + 180_001)
    found = replace(found, pending=(found.pending[0], newer))
    answer = effects.next_effect(found, now=NOW + 180_001, policy=POLICY)
    assert isinstance(answer, effects.HandOver)
    assert answer.taken == found.pending


def test_a_policy_of_one_attempt_asks_once() -> None:
    policy = TurnPolicy(max_attempts=1)
    once = effects.next_effect(conversation(1, attempts=1), now=NOW, policy=policy)
    assert isinstance(once, effects.AskModel)
    twice = effects.next_effect(conversation(1, attempts=2), now=NOW, policy=policy)
    assert isinstance(twice, effects.HandOver)


@pytest.mark.parametrize("changes", WISHES)
def test_a_reply_under_way_is_looked_for_whatever_else_is_set(changes: dict[str, Any]) -> None:
    found, outbox = under_way("reply", seqs=(1, 2), **changes)
    answer = effects.next_effect(found, now=LATER, policy=POLICY)
    # The third message came later: the next turn's.
    assert answer == effects.Recover(outbox, found.pending[:2])


@pytest.mark.parametrize("changes", WISHES)
def test_an_apology_under_way_is_only_settled(changes: dict[str, Any]) -> None:
    found, outbox = under_way("apology", seqs=(), **changes)
    answer = effects.next_effect(found, now=LATER, policy=POLICY)
    assert answer == effects.FinishApology(outbox)


@pytest.mark.parametrize("kind", ["", "riddle", "a kind of a later version", "REPLY"])
@pytest.mark.parametrize("changes", WISHES)
def test_what_an_outbox_is_for_may_be_unknown(kind: str, changes: dict[str, Any]) -> None:
    """It may have been sent, and nobody here knows how to look for it."""
    found, outbox = under_way(kind, seqs=(1, 2), **changes)
    answer = effects.next_effect(found, now=LATER, policy=POLICY)
    assert isinstance(answer, effects.HandOver)
    assert (answer.reason, answer.taken) == (turn.AMBIGUOUS, found.pending[:2])
    assert answer.maybe_sent == outbox
    assert not answer.apologise


@pytest.mark.parametrize(("pending", "seqs"), [(0, (1,)), (0, ()), (3, ())])
def test_a_reply_to_nothing_goes_to_people(pending: int, seqs: tuple[int, ...]) -> None:
    found = conversation(pending, outbox=reply("t", seqs, ()))
    answer = effects.next_effect(found, now=NOW, policy=POLICY)
    assert isinstance(answer, effects.HandOver)
    assert (answer.reason, answer.taken) == (turn.AMBIGUOUS, ())


def test_a_handoff_under_way_is_repeated_and_takes_no_more() -> None:
    found = conversation(3)
    outbox = reply("t", (1,), (found.pending[0].sid,), "handoff")
    found = replace(found, outbox=outbox, handoff=True, attempts=9)
    answer = effects.next_effect(found, now=LATER, policy=POLICY)
    assert answer == effects.RepeatHandoff(outbox, found.pending[:1])


@given(situations(), PAUSES)
def test_the_model_is_never_asked_against_a_wish(situation: tuple[Item, int], pause: int) -> None:
    item, now = situation
    answer = effects.next_effect(item.conversation(), now=now + pause, policy=POLICY)
    if isinstance(answer, effects.AskModel):
        assert item[r.HANDOFF] in (None, False)
        assert item[r.HANDOFF] is None or isinstance(item[r.HANDOFF], bool)
        assert item[r.OPTED_OUT] is None
        assert item[r.OUTBOX] is None
        assert 0 < len(answer.taken) <= MAX_TAKEN
    if isinstance(answer, effects.LetGo):
        assert not item.pending


# --- FAIL --------------------------------------------------------------------------------------


def given_up(found: Conversation, waited: int = 0, **options: Any) -> effects.HandOver | None:
    options = {"policy": POLICY} | options
    return effects.given_up(found, found.pending, now=NOW + waited, **options)


@pytest.mark.parametrize(
    ("attempts", "further", "waited", "reason", "detail"),
    [
        (0, 0, 0, None, ""),
        (5, 0, 180_000, None, ""),
        (4, 1, 0, None, ""),
        (0, 5, 0, None, ""),
        (6, 0, 0, turn.FAILED, "no reply after 5 attempts"),
        (5, 1, 0, turn.FAILED, "no reply after 5 attempts"),
        (0, 6, 0, turn.FAILED, "no reply after 5 attempts"),
        (5, 0, 180_001, turn.TOO_OLD, "no reply within 180 s"),
        # Used-up attempts say more than the time they took.
        (6, 0, 180_001, turn.FAILED, "no reply after 5 attempts"),
    ],
)
@pytest.mark.parametrize("failure", ["", "the model: overloaded"])
@pytest.mark.parametrize("policy", [POLICY, APOLOGISING])
def test_when_the_ai_has_had_its_chance(
    attempts: int,
    further: int,
    waited: int,
    reason: str | None,
    detail: str,
    failure: str,
    policy: TurnPolicy,
) -> None:
    found = conversation(2, attempts=attempts, failure=failure)
    answer = given_up(found, waited, further=further, policy=policy)
    if reason is None:
        assert answer is None
        return
    assert answer == effects.HandOver(
        reason,
        found.pending,
        detail + (f", the last one: {failure}" if failure else ""),
        apologise=policy.apology,
    )


def test_only_the_taken_messages_count_and_no_message_is_not_old() -> None:
    found = conversation(2)
    newer = replace(found.pending[1], received_at=NOW + 1)
    late = NOW + 180_001
    for taken, old in (((), False), ((newer,), False), ((found.pending[0], newer), True)):
        answer = effects.given_up(found, taken, now=late, policy=POLICY)
        assert (answer is not None) == old


@given(st.integers(0, 9), st.integers(0, 9), st.integers(-1, 200_000), st.integers(1, 9))
def test_giving_up_is_for_good(attempts: int, further: int, waited: int, most: int) -> None:
    """More attempts or more time never bring the AI back."""
    policy = TurnPolicy(max_attempts=most)
    found = conversation(1, attempts=attempts)
    if given_up(found, waited, further=further, policy=policy) is None:
        return
    assert given_up(found, waited, further=further + 1, policy=policy) is not None
    assert given_up(found, waited + 1, further=further, policy=policy) is not None
    more = replace(found, attempts=attempts + 1)
    assert given_up(more, waited, further=further, policy=policy) is not None


@pytest.mark.parametrize("apology", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_an_apology_is_made_once_and_only_where_it_is_wanted(apology: bool, told: bool) -> None:
    found = conversation(2)
    found = replace(found, last_turn=effects.apology_id(found) if told else "a turn")
    policy = TurnPolicy(apology=apology)
    answer = effects.give_up(found, found.pending, turn.FAILED, "why", policy)
    expected = effects.HandOver(turn.FAILED, found.pending, "why", apologise=apology and not told)
    assert answer == expected


@pytest.mark.parametrize("policy", [POLICY, APOLOGISING])
@pytest.mark.parametrize("waited", [0, 180_001])
@pytest.mark.parametrize("attempts", [1, 9])
def test_after_an_apology_people_answer_whatever_the_policy_is_now(
    policy: TurnPolicy, waited: int, attempts: int
) -> None:
    found = conversation(2, attempts=attempts)
    found = replace(found, last_turn=effects.apology_id(found))
    answer = given_up(found, waited, policy=policy)
    assert answer is not None
    assert (answer.reason, answer.taken, answer.apologise) == (turn.FAILED, found.pending, False)
    assert effects.next_effect(found, now=NOW + waited, policy=policy) == answer
    # What people or the customer want is still the reason that counts.
    wanted = effects.next_effect(replace(found, handoff=True), now=NOW, policy=policy)
    assert isinstance(wanted, effects.HandOver)
    assert wanted.reason == turn.REQUESTED


@pytest.mark.parametrize("changes", [{"handoff": True}, {"opted_out": True}])
def test_nobody_apologises_against_a_wish(changes: dict[str, Any]) -> None:
    found = conversation(1, attempts=9, **changes)
    answer = effects.next_effect(found, now=LATER, policy=APOLOGISING)
    assert isinstance(answer, effects.HandOver)
    assert not answer.apologise


def test_an_apology_has_the_name_of_the_oldest_message() -> None:
    first, second = conversation(1), conversation(2)
    assert effects.apology_id(first) == effects.apology_id(second)
    other = replace(second, pending=second.pending[1:])
    assert effects.apology_id(other) != effects.apology_id(second)
    # Nobody was told anything about no message.
    nothing = conversation(0)
    assert not effects.has_apologised(replace(nothing, last_turn=effects.apology_id(nothing)))


def test_the_handoff_after_an_apology_forgets_it() -> None:
    item = Item()
    for number in (1, 2):
        item.stage(number, NOW)
    assert isinstance(item.apply(claim("a", LATER)), Applied)
    apology = Outbox(effects.apology_id(item.conversation()), "apology", (), (), LATER, delivery={})
    assert isinstance(
        item.apply(steps.intend_reply("a", apology, LATER, head="", seq=None)), Applied
    )
    assert not effects.has_apologised(item.conversation())
    assert isinstance(item.apply(steps.commit_apology("a", apology, (), LATER)), Applied)
    assert effects.has_apologised(item.conversation())
    # A message that comes meanwhile changes nothing.
    item.stage(3, LATER)
    assert effects.has_apologised(item.conversation())
    handoff = replace(item.head("t", "handoff"), seqs=(1, 2))
    assert isinstance(item.apply(steps.intend_handoff("a", handoff, LATER, head="")), Applied)
    assert effects.has_apologised(item.conversation())
    assert isinstance(item.apply(steps.commit("a", handoff, (), LATER, status="x")), Applied)
    assert [p.seq for p in item.conversation().pending] == [3]
    assert not effects.has_apologised(item.conversation())
    found = read(item.apply(claim("b", LATER + 60_000)))
    assert found is not None
    answer = effects.next_effect(found, now=LATER + 60_000, policy=APOLOGISING)
    assert answer == effects.AskModel(found.pending)
