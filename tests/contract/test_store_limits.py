"""What every conversation store does near DynamoDB's limits: items of 400 KB, expressions of 4 KB
and 300 operators.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""

from dataclasses import replace
from typing import Any

import pytest

from replyd.adapters.dynamodb_expressions import Expression
from replyd.domain import history, steps, turn
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused, Step
from replyd.domain.record import conversation_from
from replyd.errors import Permanent
from replyd.ports import ConversationStore
from tests.contract.test_store import NOW, claim, converse, outbox, stage, staged
from tests.support.world import KEY, message

LATER = NOW + 60_000
EXPRESSION_BYTES = 4 * 1024


def entries(count: int, content: str = "x") -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": content, "message_id": f"SM{n:032x}", "timestamp": str(n)}
        for n in range(count)
    ]


async def grown(store: ConversationStore, size: int) -> None:
    """A conversation that other writers have let grow to about `size` bytes, with two pending
    messages; half of its texts are not ASCII, since bytes count and not characters."""
    filled = [{"content": "x" * 990 if n % 2 else "☺" * 330} for n in range(size // 1000)]
    await converse(store, messages=filled)
    await staged(store, 2)


def large(number: int, size: int) -> Step:
    """A STAGE whose message has so many bytes."""
    entry = steps.pending_entry(message(number, "x" * size), NOW)
    return steps.stage(message(number).sid, entry, NOW, first=False)


async def test_a_large_item_is_claimed_renewed_and_read_complete(store: ConversationStore) -> None:
    await grown(store, 390_000)
    before = await store.read(KEY)
    assert before is not None
    taken = await store.apply(KEY, claim("a"))
    assert isinstance(taken, Applied)
    assert taken.item[r.MESSAGES] == before[r.MESSAGES]
    assert [p.message for p in conversation_from(taken.item, KEY).pending] == [
        message(1),
        message(2),
    ]
    renewed = await store.apply(KEY, steps.renew("a", LATER + 90_000))
    assert isinstance(renewed, Applied)
    after = await store.read(KEY)
    assert after == taken.item | {r.LEASE: {**taken.item[r.LEASE], "expires_at": LATER + 90_000}}
    assert await store.apply(KEY, steps.renew("b", LATER)) == Refused(after)
    assert (await store.lookup(KEY.partition, message(1).sid))[0].seen


async def test_a_stage_that_does_not_fit_changes_nothing(store: ConversationStore) -> None:
    await grown(store, 390_000)
    before = await store.read(KEY)
    with pytest.raises(Permanent) as caught:
        await store.apply(KEY, large(3, 40_000))
    assert "xxx" not in str(caught.value)
    assert await store.read(KEY) == before
    assert isinstance(await store.apply(KEY, stage(3)), Applied)


async def test_a_known_message_is_refused_and_not_too_large(store: ConversationStore) -> None:
    """The condition comes first: a duplicate is told from a message that does not fit."""
    await grown(store, 390_000)
    result = await store.apply(KEY, large(1, 40_000))
    assert isinstance(turn.after_stage(result, message(1).sid), turn.Staged)


async def test_a_turn_can_be_settled_without_its_texts(store: ConversationStore) -> None:
    await grown(store, 390_000)
    await store.apply(KEY, claim("a"))
    reply = replace(outbox(), seqs=(1, 2))
    too_much = replace(reply, entries=tuple(entries(40, "x" * 1000)))
    with pytest.raises(Permanent):
        await store.apply(KEY, steps.intend_reply("a", too_much, LATER, head="", seq=2))
    intend = steps.intend_reply("a", reply, LATER, head="", seq=2)
    assert isinstance(await store.apply(KEY, intend), Applied)
    intended = await store.read(KEY)

    def commit(count: int) -> Step:
        texts = entries(count, "x" * 1000)
        return steps.commit("a", reply, texts, LATER, status=r.AI_RESPONSE_SENT)

    with pytest.raises(Permanent):
        await store.apply(KEY, commit(40))
    assert await store.read(KEY) == intended
    assert isinstance(await store.apply(KEY, commit(0)), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert item[r.PENDING] == []
    assert item[r.LAST_TURN] == "t-1"
    assert not {r.LEASE, r.OUTBOX} & item.keys()


async def test_the_largest_commit_is_taken(store: ConversationStore) -> None:
    """As many messages and as many pruned SIDs as one COMMIT may have."""
    count, kept = turn.MAX_TAKEN, 3
    await converse(store, **_worked(count + kept, seen=steps.MAX_PRUNED + count + kept))
    await store.apply(KEY, claim("a"))
    delivery = {str(n): {"message_id": f"SM{n}", "delivery": "delivered"} for n in range(20)}
    reply = replace(outbox(), seqs=tuple(range(1, count + 1)), delivery=delivery)
    await store.apply(KEY, steps.intend_reply("a", reply, LATER, head="", seq=None))
    commit = steps.commit(
        "a",
        reply,
        entries(count + 20),
        LATER,
        status=r.AI_RESPONSE_SENT,
        thread_id="resp_1",
        failure={"detail": "x" * 200},
        prune=[_sid(n) for n in range(steps.MAX_PRUNED)],
    )
    assert _longest(commit) <= EXPRESSION_BYTES
    assert isinstance(await store.apply(KEY, commit), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert [p["sid"] for p in item[r.PENDING]] == [_sid(count + n) for n in range(kept)]
    assert set(item[r.SEEN]) == {_sid(steps.MAX_PRUNED + n) for n in range(count + kept)}
    assert len(item[r.MESSAGES]) == count + 20


async def test_the_largest_roll_over_is_taken(store: ConversationStore) -> None:
    """As many entries as one roll-over may compare, each of 1 KB. A condition may have 300
    operators besides: one for each comparison and one for each AND."""
    kept = 20
    long = entries(history.MAX_MOVED + kept, "☺" * 300)
    await converse(store, **_worked(1, seen=1), messages=long)
    await store.apply(KEY, claim("a"))
    head = long[: history.MAX_MOVED]
    roll_over = steps.roll_over("a", head)
    assert _longest(roll_over) <= EXPRESSION_BYTES
    changed = [*head[:-1], {**head[-1], "delivery": "read"}]
    assert isinstance(await store.apply(KEY, steps.roll_over("a", changed)), Refused)
    assert isinstance(await store.apply(KEY, roll_over), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert item[r.MESSAGES] == long[history.MAX_MOVED :]


async def test_the_widest_window_can_be_claimed(store: ConversationStore) -> None:
    """CLAIM looks at a list index; a list that is shorter is no error."""
    await converse(store, **_worked(60, seen=1))
    taken = await store.apply(KEY, claim("a"))
    assert isinstance(taken, Applied)
    assert len(conversation_from(taken.item, KEY).pending) == 60


def _sid(number: int) -> str:
    return f"SM{number:032x}"


def _worked(pending: int, *, seen: int) -> dict[str, Any]:
    """Attributes of a record with so many pending messages, and so many SIDs that it has seen."""
    return {
        r.PENDING: [{"sid": _sid(n), "received_at": NOW + n} for n in range(pending)],
        r.SEQ: pending,
        r.LAST_AT: NOW,
        r.SEEN: {_sid(n): NOW + n for n in range(seen)},
    }


def _longest(step: Step) -> int:
    """The length of the step's longer expression."""
    expression = Expression(r.RECIPIENT_TEL)
    texts = (expression.condition(step.condition), expression.update(step.actions))
    return max(len(text.encode()) for text in texts)
