"""What every conversation store does."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from replyd.adapters.memory import LoopClock, Recorder
from replyd.domain import delivery, erasure, steps
from replyd.domain import record as r
from replyd.domain.expressions import Applied, ItemExists, Refused, Step
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Outbox, conversation_from
from replyd.domain.window import WindowPolicy
from replyd.flows.find_conversation import FindConversation
from replyd.ports import ConversationStore
from tests.support.world import BUSINESS, CUSTOMER, KEY, message

NOW = 1_700_000_000_000
WINDOW = WindowPolicy(quiet_ms=5_000, max_wait_ms=30_000, max_messages=20)


async def converse(store: ConversationStore, **attributes: Any) -> None:
    made = await store.create(
        KEY, {r.COMPANY_TEL: BUSINESS, r.CREATED_AT: "2026-11-22T10:00:00.000Z"} | attributes
    )
    assert made


def stage(number: int, now: int = NOW, **changes: Any) -> Step:
    inbound = message(number)
    entry = steps.pending_entry(inbound, now)
    return steps.stage(inbound.sid, entry, now, **({"first": False} | changes))


async def staged(store: ConversationStore, count: int = 1) -> None:
    for number in range(1, count + 1):
        result = await store.apply(KEY, stage(number, NOW + number, first=number == 1))
        assert isinstance(result, Applied)


def claim(token: str, now: int = NOW + 60_000) -> Step:
    return steps.claim(token, "me", now, lease_ms=60_000, skew_ms=2_000, window=WINDOW)


def outbox(turn_id: str = "t-1", seqs: tuple[int, ...] = (1,)) -> Outbox:
    entries = (
        {"role": "user", "content": "hi", "message_id": message(1).sid},
        {"role": "assistant", "content": "hello ☺", "input_tokens": 3},
    )
    return Outbox(turn_id, "reply", seqs, entries, NOW, delivery={})


async def test_stage_creates_the_working_state_and_shows_it(store: ConversationStore) -> None:
    await converse(store)
    result = await store.apply(KEY, stage(1, first=True))
    assert isinstance(result, Applied)
    assert result.item[r.SEQ] == 1
    assert result.item[r.LAST_AT] == NOW
    assert [p["sid"] for p in result.item[r.PENDING]] == [message(1).sid]
    result = await store.apply(KEY, stage(2, NOW + 5))
    assert isinstance(result, Applied)
    assert result.item[r.SEQ] == 2
    assert len(result.item[r.PENDING]) == 2


async def test_stage_of_a_known_sid_is_refused_and_shows_the_item(store: ConversationStore) -> None:
    await converse(store)
    await staged(store, 2)
    result = await store.apply(KEY, stage(1, NOW + 9))
    assert isinstance(result, Refused)
    assert result.item is not None
    assert result.item[r.SEQ] == 2
    assert set(result.item[r.SEEN]) == {message(1).sid, message(2).sid}


@pytest.mark.parametrize("first", [True, False])
async def test_stage_in_the_wrong_form_is_refused_not_invalid(
    store: ConversationStore, first: bool
) -> None:
    await converse(store)
    if first:
        await staged(store)
    result = await store.apply(KEY, stage(7, first=first))
    assert isinstance(result, Refused)
    assert result.item is not None


async def test_stage_without_an_item_is_refused_and_creates_nothing(
    store: ConversationStore,
) -> None:
    for first in (True, False):
        assert await store.apply(KEY, stage(1, first=first)) == Refused(None)
    assert await store.read(KEY) is None


async def test_claim_waits_for_the_window(store: ConversationStore) -> None:
    await converse(store)
    await staged(store)
    early = await store.apply(KEY, claim("a", NOW + 5_000))
    assert isinstance(early, Refused)
    result = await store.apply(KEY, claim("a", NOW + 5_001))
    assert isinstance(result, Applied)
    conversation = conversation_from(result.item, KEY)
    assert conversation.lease is not None
    assert conversation.lease.token == "a"
    assert conversation.attempts == 1
    assert [p.message for p in conversation.pending] == [message(1)]


@pytest.mark.parametrize(
    "attributes",
    [
        {r.HANDOFF: True},
        {r.HANDOFF: "true"},
        {r.HANDOFF: 1},
        {r.OPTED_OUT: "2026-11-22T10:00:00.000Z"},
        {r.OUTBOX: {"turn_id": "t"}},
    ],
)
async def test_claim_does_not_wait_when_nothing_is_to_be_waited_for(
    store: ConversationStore, attributes: dict[str, Any]
) -> None:
    await converse(store, **attributes)
    await staged(store)
    assert isinstance(await store.apply(KEY, claim("a", NOW + 2)), Applied)


@pytest.mark.parametrize("attributes", [{r.HANDOFF: False}, {r.HANDOFF: None}, {}])
async def test_claim_waits_when_the_flag_is_down(
    store: ConversationStore, attributes: dict[str, Any]
) -> None:
    await converse(store, **attributes)
    await staged(store)
    assert isinstance(await store.apply(KEY, claim("a", NOW + 2)), Refused)


@pytest.mark.parametrize("lease", ["odd", {}, {"expires_at": "never"}, {"expires_at": None}])
async def test_a_lease_that_no_number_ends_holds_nothing_up(
    store: ConversationStore, lease: Any, request: pytest.FixtureRequest
) -> None:
    if "moto" in request.node.name and lease == {"expires_at": "never"}:
        pytest.skip("moto fails where DynamoDB compares two types as false")
    await converse(store, reply_lease=lease)
    await staged(store)
    assert isinstance(await store.apply(KEY, claim("a")), Applied)


async def test_claim_is_refused_while_somebody_holds_the_lease(store: ConversationStore) -> None:
    await converse(store)
    await staged(store)
    assert isinstance(await store.apply(KEY, claim("a", NOW + 10_000)), Applied)
    still_held = NOW + 10_000 + 60_000 + 2_000
    assert isinstance(await store.apply(KEY, claim("b", still_held)), Refused)
    assert isinstance(await store.apply(KEY, claim("b", still_held + 1)), Applied)


@pytest.mark.parametrize("attributes", [{}, {r.PENDING: [], r.LAST_AT: NOW}, {r.HANDOFF: True}])
async def test_claim_is_refused_when_nothing_is_pending(
    store: ConversationStore, attributes: dict[str, Any]
) -> None:
    await converse(store, **attributes)
    assert isinstance(await store.apply(KEY, claim("a")), Refused)


async def test_intent_needs_the_token(store: ConversationStore) -> None:
    await claimed(store)
    intend = steps.intend_reply("b", outbox(), NOW, head="", seq=1)
    assert isinstance(await store.apply(KEY, intend), Refused)


async def test_only_one_of_many_claims_holds(store: ConversationStore, concurrent: None) -> None:
    await converse(store)
    await staged(store)
    results = await asyncio.gather(*(store.apply(KEY, claim(f"w{i}")) for i in range(12)))
    assert sum(isinstance(result, Applied) for result in results) == 1


async def test_many_stages_at_once_lose_none(store: ConversationStore, concurrent: None) -> None:
    await converse(store)
    await staged(store)
    await asyncio.gather(*(store.apply(KEY, stage(n)) for n in range(2, 22)))
    item = await store.read(KEY)
    assert item is not None
    assert item[r.SEQ] == 21
    assert {p["sid"] for p in item[r.PENDING]} == {message(n).sid for n in range(1, 22)}


async def test_renew_and_release_need_the_token(store: ConversationStore) -> None:
    await converse(store)
    await staged(store)
    await store.apply(KEY, claim("a"))
    assert isinstance(await store.apply(KEY, steps.renew("b", NOW)), Refused)
    later = NOW + 200_000
    assert isinstance(await store.apply(KEY, steps.renew("a", later)), Applied)
    # A request that comes late does not shorten it.
    assert isinstance(await store.apply(KEY, steps.renew("a", later - 1)), Refused)
    release = steps.release("b", give_back_attempt=True)
    assert isinstance(await store.apply(KEY, release), Refused)
    release = steps.release("a", give_back_attempt=True)
    assert isinstance(await store.apply(KEY, release), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert r.LEASE not in item
    assert item[r.ATTEMPTS] == 0


async def claimed(store: ConversationStore, count: int = 1, **attributes: Any) -> None:
    await converse(store, **attributes)
    await staged(store, count)
    assert isinstance(await store.apply(KEY, claim("a")), Applied)


async def test_intent_is_refused_for_newer_messages(store: ConversationStore) -> None:
    await claimed(store)
    await store.apply(KEY, stage(2))
    intend = steps.intend_reply("a", outbox(), NOW, head="", seq=1)
    assert isinstance(await store.apply(KEY, intend), Refused)
    intend = steps.intend_reply("a", outbox(), NOW, head="", seq=None)
    assert isinstance(await store.apply(KEY, intend), Applied)


async def test_intent_is_refused_when_its_turn_has_ended(store: ConversationStore) -> None:
    """CLAIM and INTENT come once more behind the COMMIT of their turn."""
    await claimed(store, count=1)
    head = message(1).sid
    reply = steps.intend_reply("a", outbox(), NOW, head=head, seq=None)
    handoff = steps.intend_handoff("a", outbox(), NOW, head=head)
    assert isinstance(await store.apply(KEY, reply), Applied)
    assert isinstance(await store.apply(KEY, reply), Refused)
    assert isinstance(await store.apply(KEY, handoff), Applied)
    other = steps.intend_reply("a", outbox("t-2"), NOW, head=head, seq=None)
    assert isinstance(await store.apply(KEY, other), Refused)
    over = steps.intend_reply("a", outbox("t-2"), NOW, head=head, seq=None, over=outbox())
    assert isinstance(await store.apply(KEY, over), Applied)
    commit = steps.commit("a", outbox("t-2"), (), NOW, status=r.AI_RESPONSE_SENT)
    assert isinstance(await store.apply(KEY, commit), Applied)
    await store.apply(KEY, stage(2))
    assert isinstance(await store.apply(KEY, claim("a")), Applied)
    assert isinstance(await store.apply(KEY, reply), Refused)
    assert isinstance(await store.apply(KEY, handoff), Refused)


async def test_a_turn_that_is_committed_does_not_begin_again(store: ConversationStore) -> None:
    """An apology's COMMIT leaves the lease and what is pending: its INTENT comes once more."""
    await claimed(store)
    apology = replace(outbox("apology-1", ()), kind="apology")
    intend = steps.intend_reply("a", apology, NOW, head=message(1).sid, seq=None)
    commit = steps.commit_apology("a", apology, apology.entries, NOW)
    assert isinstance(await store.apply(KEY, intend), Applied)
    assert isinstance(await store.apply(KEY, commit), Applied)
    assert isinstance(await store.apply(KEY, intend), Refused)
    assert isinstance(await store.apply(KEY, commit), Refused)


async def test_intent_is_refused_for_the_flag_and_the_opt_out(store: ConversationStore) -> None:
    await claimed(store)
    intend = steps.intend_reply("a", outbox(), NOW, head="", seq=1)
    await store.apply(KEY, steps.set_handoff(True))
    assert isinstance(await store.apply(KEY, intend), Refused)
    await store.apply(KEY, steps.set_handoff(False))
    await store.apply(KEY, steps.mark_opt_out(NOW, opted_out=True))
    assert isinstance(await store.apply(KEY, intend), Refused)
    await store.apply(KEY, steps.mark_opt_out(NOW, opted_out=False))
    assert isinstance(await store.apply(KEY, intend), Applied)


async def test_a_handoff_needs_only_the_token(store: ConversationStore) -> None:
    await claimed(store, handoff_to_human=True)
    intend = steps.intend_handoff("b", outbox(), NOW, head="")
    assert isinstance(await store.apply(KEY, intend), Refused)
    intend = steps.intend_handoff("a", outbox(), NOW, head="")
    assert isinstance(await store.apply(KEY, intend), Applied)


async def test_a_handoff_in_place_of_a_reply_is_refused_after_callbacks(
    store: ConversationStore,
) -> None:
    await claimed(store)
    turn = outbox()
    await store.apply(KEY, steps.intend_reply("a", turn, NOW, head="", seq=1))
    report = {"message_id": "SM9", "delivery": "sent"}
    await store.apply(KEY, delivery.report_in_outbox("t-1", 1, report))
    intend = steps.intend_handoff("a", turn, NOW, head="", over=turn)
    assert isinstance(await store.apply(KEY, intend), Refused)
    known = replace(turn, delivery={"1": report})
    intend = steps.intend_handoff("a", known, NOW, head="", over=known)
    assert isinstance(await store.apply(KEY, intend), Applied)


async def test_arm_notes_sids_and_is_refused_for_the_flag(store: ConversationStore) -> None:
    await claimed(store)
    await store.apply(KEY, steps.intend_reply("a", outbox(), NOW, head="", seq=1))
    arm = steps.arm("a", "t-1", 1, NOW, accepted={0: "SM0"})
    assert isinstance(await store.apply(KEY, arm), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert item[r.OUTBOX]["entries"][0]["message_id"] == "SM0"
    await store.apply(KEY, steps.set_handoff(True))
    assert isinstance(await store.apply(KEY, arm), Refused)


async def test_commit_settles_exactly_the_turn_and_leaves_the_rest(
    store: ConversationStore,
) -> None:
    await claimed(store, 2, name="Lee", messages=[{"role": "assistant", "content": "hi"}])
    turn = outbox(seqs=(1, 2))
    await store.apply(KEY, steps.intend_reply("a", turn, NOW, head="", seq=2))
    await store.apply(KEY, stage(3))
    commit = steps.commit(
        "a",
        turn,
        turn.entries,
        NOW,
        status=r.AI_RESPONSE_SENT,
        thread_id="resp_1",
        prune=[message(1).sid],
    )
    assert isinstance(await store.apply(KEY, commit), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert [m["content"] for m in item[r.MESSAGES]] == ["hi", "hi", "hello ☺"]
    assert [p["sid"] for p in item[r.PENDING]] == [message(3).sid]
    assert item[r.SEQ] == 3
    assert item[r.THREAD_ID] == "resp_1"
    assert item[r.LAST_TURN] == "t-1"
    assert item["name"] == "Lee"
    assert message(1).sid not in item[r.SEEN]
    assert not {r.LEASE, r.OUTBOX, r.ATTEMPTS} & item.keys()
    assert isinstance(await store.apply(KEY, commit), Refused)


async def test_commit_is_refused_after_a_callback_wrote_into_the_outbox(
    store: ConversationStore,
) -> None:
    await claimed(store)
    turn = outbox()
    await store.apply(KEY, steps.intend_reply("a", turn, NOW, head="", seq=1))
    report = {"message_id": "SM9", "delivery": "sent"}
    told = await store.apply(KEY, delivery.report_in_outbox("t-1", 1, report))
    assert isinstance(told, Applied)
    commit = steps.commit("a", turn, turn.entries, NOW, status=r.AI_RESPONSE_SENT)
    refused = await store.apply(KEY, commit)
    assert isinstance(refused, Refused)
    seen = conversation_from(refused.item or {}, KEY).outbox
    assert seen is not None
    assert seen.delivery == {"1": report}
    commit = steps.commit("a", seen, turn.entries, NOW, status=r.AI_RESPONSE_SENT)
    assert isinstance(await store.apply(KEY, commit), Applied)


async def test_delivery_states_never_go_backwards(store: ConversationStore) -> None:
    await converse(store, messages=[{"message_id": "SM9", "delivery": "accepted"}])

    async def told(status: str) -> bool:
        step = delivery.report_in_history(0, "SM9", {"delivery": status})
        return isinstance(await store.apply(KEY, step), Applied)

    assert [await told(s) for s in ("delivered", "sent", "read", "delivered", "failed")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    other = delivery.report_in_history(0, "SM8", {"delivery": "failed"})
    assert isinstance(await store.apply(KEY, other), Refused)


async def test_a_report_gives_a_part_the_sid_that_was_never_learnt(
    store: ConversationStore,
) -> None:
    await converse(store, messages=[{"turn_id": "t-1", "delivery": "unknown"}])
    report = {"message_id": "SM9", "delivery": "delivered"}
    other = delivery.report_in_history(0, "SM9", report, turn_id="t-2")
    assert isinstance(await store.apply(KEY, other), Refused)
    ours = delivery.report_in_history(0, "SM9", report, turn_id="t-1")
    assert isinstance(await store.apply(KEY, ours), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert item[r.MESSAGES] == [{"turn_id": "t-1", **report}]


async def test_lookup_finds_every_record_of_a_customer(store: ConversationStore) -> None:
    await claimed(store, handoff_to_human=True, thread_id="resp_0")
    other = ConversationKey(CUSTOMER, "c-2")
    await store.create(other, {r.COMPANY_TEL: "+1"})
    await store.create(ConversationKey("+447700900002", "c-3"), {})
    found = {c.key: c for c in await store.lookup(CUSTOMER, message(1).sid)}
    assert set(found) == {KEY, other}
    assert found[KEY].seen
    assert found[KEY].staged_before
    assert found[KEY].handoff
    assert found[KEY].thread_id == "resp_0"
    assert found[KEY].company_tel == BUSINESS
    assert not found[other].staged_before
    assert not found[other].seen
    assert not (await store.lookup(CUSTOMER, message(2).sid))[0].seen


async def test_lookup_finds_business_scoped_ids(store: ConversationStore) -> None:
    await store.create(ConversationKey("US.ABC123", "c-9"), {})
    assert [c.conversation_id for c in await store.lookup("US.ABC123", "SM1")] == ["c-9"]
    assert await store.lookup("US.ABC124", "SM1") == []


async def test_lookup_by_an_index(indexed_store: ConversationStore) -> None:
    key = ConversationKey("c-1")
    assert await indexed_store.create(key, {"phone": CUSTOMER, r.COMPANY_TEL: BUSINESS})
    await indexed_store.create(ConversationKey("c-2"), {"phone": "+1"})
    (found,) = await indexed_store.lookup(CUSTOMER, "SM1")
    assert found.key == key
    assert found.company_tel == BUSINESS
    assert isinstance(await indexed_store.apply(key, stage(1, first=True)), Applied)
    assert (await indexed_store.lookup(CUSTOMER, message(1).sid))[0].seen


async def test_create_never_overwrites(store: ConversationStore) -> None:
    await converse(store, name="Lee")
    assert not await store.create(KEY, {"name": "Kim"})
    item = await store.read(KEY)
    assert item is not None
    assert item["name"] == "Lee"
    assert item[r.RECIPIENT_TEL] == CUSTOMER


async def test_side_items_live_apart(store: ConversationStore) -> None:
    await store.put_side("inbound#SM1", {"message": {"body": "x" * 9000}}, NOW)
    item = await store.get_side("inbound#SM1")
    assert item is not None
    assert len(item["message"]["body"]) == 9000
    assert await store.delete_side("inbound#SM1")
    assert await store.get_side("inbound#SM1") is None
    assert not await store.delete_side("inbound#SM1")


async def test_parts_of_a_side_item_live_apart(store: ConversationStore) -> None:
    for part in ("1", "2"):
        await store.put_side("archive#c-1", {"messages": [part]}, None, part=part)
    assert await store.get_side("archive#c-1") is None
    assert not await store.delete_side("archive#c-1")
    assert await store.delete_side("archive#c-1", part="2")
    assert not await store.delete_side("archive#c-1", part="2")
    assert await store.delete_side("archive#c-1", part="1")


async def test_a_customer_is_found_under_the_other_name(store: ConversationStore) -> None:
    await converse(store)
    find = FindConversation(store, LoopClock(), Recorder(), 0)
    shown = message(1, params={"ExternalUserId": "US.ABC123"})
    await find.remember(shown, KEY)
    hidden = message(2, sender="whatsapp:US.ABC123", params={})
    route = await find(hidden)
    assert route is not None
    assert route.target.key == KEY


async def test_a_record_is_erased_as_it_was_read(store: ConversationStore) -> None:
    await claimed(store, 2)
    condition = erasure.unchanged("a", 2)
    refused = await store.erase(KEY, erasure.unchanged("b", 2))
    assert isinstance(refused, Refused)
    assert refused.item is not None
    assert refused.item[r.SEQ] == 2
    assert isinstance(await store.apply(KEY, stage(3)), Applied)
    # A message has come: it must not go with the rest.
    assert isinstance(await store.erase(KEY, condition), Refused)
    assert isinstance(await store.erase(KEY, erasure.unchanged("a", 3)), Applied)
    assert await store.read(KEY) is None
    assert await store.erase(KEY, erasure.unchanged("a", 3)) == Refused(None)


async def test_a_record_can_be_erased_but_for_some_of_it(store: ConversationStore) -> None:
    await converse(store, name="Lee", messages=[{"content": "x"}])
    assert isinstance(await store.erase(KEY, ItemExists(), leaving={r.OPTED_OUT: "then"}), Applied)
    kept = {r.RECIPIENT_TEL: KEY.partition, r.CONVERSATION_ID: KEY.sort, r.OPTED_OUT: "then"}
    assert await store.read(KEY) == kept
    other = ConversationKey("+1", "c")
    assert await store.erase(other, ItemExists(), leaving={r.OPTED_OUT: "then"}) == Refused(None)
    assert await store.read(other) is None


async def test_the_head_of_the_history_goes_only_as_it_was_read(store: ConversationStore) -> None:
    history = [
        {"content": f"text {n}", "message_id": f"SM{n}", "tokens": n, "seen": n == 1}
        for n in range(4)
    ]
    await claimed(store, messages=history)
    item = await store.read(KEY)
    assert item is not None
    head = item[r.MESSAGES][:3]
    assert isinstance(await store.apply(KEY, steps.roll_over("b", head)), Refused)
    report = delivery.report_in_history(1, "SM1", {"delivery": "delivered"})
    assert isinstance(await store.apply(KEY, report), Applied)
    assert isinstance(await store.apply(KEY, steps.roll_over("a", head)), Refused)
    item = await store.read(KEY)
    assert item is not None
    assert isinstance(await store.apply(KEY, steps.roll_over("a", item[r.MESSAGES][:3])), Applied)
    item = await store.read(KEY)
    assert item is not None
    assert [m["content"] for m in item[r.MESSAGES]] == ["text 3"]


async def test_once_per_period(store: ConversationStore) -> None:
    assert await store.once_per("notice#x", 100, 50)
    assert not await store.once_per("notice#x", 149, 50)
    assert await store.once_per("notice#x", 150, 50)
    assert await store.once_per("notice#y", 149, 50)
