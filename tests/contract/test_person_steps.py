"""A person's steps on every store: what they refuse, and what they leave alone."""

from dataclasses import replace
from typing import Any

import pytest

from replyd.domain import person_steps, steps, turn
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused, Step
from replyd.domain.record import Outbox, conversation_from
from replyd.ports import ConversationStore
from tests.contract.test_store import NOW, claim, claimed, converse, outbox, staged
from tests.support.world import KEY

LATER = NOW + 60_000
ENTRIES = person_steps.entries_of(["one", "two"], author="Ann", turn_id="person-k", now=NOW)
ANSWER = Outbox("person-k", "person", (), ENTRIES, NOW, delivery={})


def take(token: str = "p", now: int = NOW) -> Step:
    return person_steps.take(token, "owner", now, lease_ms=60_000, skew_ms=2_000)


def intend(token: str = "p", *, known: int = 0, answer: Outbox = ANSWER) -> Step:
    return person_steps.intend_person(token, answer, LATER, NOW, known=known)


def commit(token: str = "p") -> Step:
    return person_steps.commit_person(token, ANSWER, ENTRIES, NOW)


async def applied(store: ConversationStore, *some: Step) -> dict[str, Any]:
    for step in some:
        assert isinstance(await store.apply(KEY, step), Applied), step.name
    item = await store.read(KEY)
    assert item is not None
    return item


async def refused(store: ConversationStore, step: Step) -> None:
    before = await store.read(KEY)
    assert await store.apply(KEY, step) == Refused(before)
    assert await store.read(KEY) == before


async def test_a_person_takes_a_conversation_before_its_window_closes(
    store: ConversationStore,
) -> None:
    await converse(store)
    await staged(store, 1)
    item = await applied(store, take())
    assert (item[r.LEASE]["token"], item[r.LEASE]["expires_at"]) == ("p", NOW + 60_000)
    assert r.ATTEMPTS not in item


async def test_a_whole_answer_takes_the_conversation_and_leaves_what_is_pending(
    store: ConversationStore,
) -> None:
    await claimed(store, 2)
    before = await applied(store, steps.release("a", give_back_attempt=False))
    during = await applied(store, take(), intend())
    assert (during[r.HANDOFF], during[r.STATUS]) == (True, r.HANDED_TO_HUMAN)
    after = await applied(store, commit())
    assert [(e["role"], e["content"], e["author"]) for e in after[r.MESSAGES]] == [
        ("human", "one", "Ann"),
        ("human", "two", "Ann"),
    ]
    assert not {r.LEASE, r.OUTBOX} & after.keys()
    assert after[r.LAST_TURN] == "person-k"
    for kept in (r.PENDING, r.SEQ, r.SEEN, r.ATTEMPTS):
        assert after[kept] == before[kept], kept


async def test_nobody_takes_what_another_one_holds(store: ConversationStore) -> None:
    await claimed(store, 1)
    await refused(store, take())
    await refused(store, take(now=NOW + 122_000))
    await applied(store, take(now=NOW + 122_001))


async def test_a_worker_waits_for_a_person(store: ConversationStore) -> None:
    await converse(store)
    await staged(store, 1)
    await applied(store, take(now=NOW + 9_000))
    await refused(store, claim("a", NOW + 20_000))


async def test_the_ais_outbox_keeps_people_out_and_a_persons_does_not(
    store: ConversationStore,
) -> None:
    await claimed(store, 1)
    await applied(store, steps.intend_reply("a", outbox(), LATER, head="", seq=1))
    await refused(store, take(now=LATER + 90_000))
    let_go = steps.release("a", give_back_attempt=False, drop_outbox=True)
    await applied(store, let_go, take(), intend(), take("q", LATER + 90_000))


async def test_no_such_conversation(store: ConversationStore) -> None:
    for step in (take(), person_steps.give_back(NOW), person_steps.take_over("Ann", "", NOW)):
        assert await store.apply(KEY, step) == Refused(None)


@pytest.mark.parametrize(
    "step",
    [
        intend("q"),
        # The history has grown: the turn may be among what is new.
        intend(known=0),
    ],
)
async def test_an_intent_that_does_not_know_enough_is_refused(
    store: ConversationStore, step: Step
) -> None:
    await converse(store, messages=[{"role": "human", "content": "hi"}])
    await applied(store, take())
    await refused(store, step)


async def test_nobody_writes_to_one_who_has_opted_out(store: ConversationStore) -> None:
    await converse(store)
    await applied(store, take(), steps.mark_opt_out(NOW, opted_out=True))
    await refused(store, intend())
    await applied(store, steps.mark_opt_out(NOW, opted_out=False), intend())
    await applied(store, steps.mark_opt_out(NOW, opted_out=True))
    await refused(store, person_steps.arm_person("p", "person-k", 1, LATER))


async def test_a_turn_that_has_ended_does_not_begin_again(store: ConversationStore) -> None:
    await converse(store)
    await applied(store, take(), intend(), commit(), take("q"))
    await refused(store, intend("q", known=2))
    await refused(store, intend("q", known=0))
    await applied(store, intend("q", known=2, answer=replace(ANSWER, turn_id="person-l")))


async def test_a_part_is_armed_once(store: ConversationStore) -> None:
    await converse(store)
    await applied(store, take(), intend())
    armed = person_steps.arm_person("p", "person-k", 1, LATER, accepted={0: "SM0"})
    item = await applied(store, armed)
    assert item[r.OUTBOX]["entries"][0]["message_id"] == "SM0"
    for step in (
        person_steps.arm_person("p", "person-k", 0, LATER),
        person_steps.arm_person("q", "person-k", 1, LATER),
        person_steps.arm_person("p", "person-l", 1, LATER),
    ):
        await refused(store, step)


async def test_a_commit_is_the_holders_and_knows_what_callbacks_wrote(
    store: ConversationStore,
) -> None:
    await converse(store)
    await applied(store, take(), intend())
    await refused(store, commit("q"))
    other = replace(ANSWER, turn_id="person-l")
    await refused(store, person_steps.commit_person("p", other, (), NOW))
    told = replace(ANSWER, delivery={"0": {"message_id": "SM0", "delivery": "sent"}})
    await refused(store, person_steps.commit_person("p", told, (), NOW))


async def test_people_take_a_conversation_and_give_it_back(store: ConversationStore) -> None:
    await converse(store)
    item = await applied(store, person_steps.take_over("Ann", "wants a refund", NOW))
    who = {"author": "Ann", "reason": "wants a refund", "at": r.iso(NOW)}
    assert (item[r.HANDOFF], item[r.TAKEN_OVER]) == (True, who)
    item = await applied(store, person_steps.give_back(NOW + 5))
    assert (item[r.HANDOFF], item.get(r.TAKEN_OVER)) == (False, None)


async def test_what_a_refused_take_means(store: ConversationStore) -> None:
    await claimed(store, 1)
    result = await store.apply(KEY, take())
    assert isinstance(result, Refused)
    assert result.item is not None
    found = conversation_from(result.item, KEY)

    def read(token: str) -> object:
        return person_steps.after_take(result, found, token=token, now=NOW, skew_ms=2_000)

    assert read("p") == turn.HeldElsewhere(result.item[r.LEASE]["expires_at"] + 2_001)
    assert read("a") == turn.Claimed(found)
