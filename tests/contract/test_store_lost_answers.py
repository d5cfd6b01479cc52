"""Every step sent twice, as a retry sends a request whose first answer was lost: the second answer
reads as success, and the item is as one application left it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from replyd.domain import consent, delivery, erasure, person_steps, steps, tool_steps, turn
from replyd.domain import record as r
from replyd.domain.expressions import Applied, Refused, Step, StepResult
from replyd.domain.record import Conversation, Outbox, conversation_from
from replyd.ports import ConversationStore
from tests.contract.conftest import endpoint
from tests.contract.test_store import (
    NOW,
    WINDOW,
    claim,
    claimed,
    converse,
    outbox,
    stage,
    staged,
)
from tests.support.world import KEY, message

LATER = NOW + 60_000
POLICY = turn.TurnPolicy()
SENT = {"message_id": "SM9", "delivery": "sent"}
HISTORY = [{"role": "assistant", "content": f"text {n}", "message_id": f"SM{n}"} for n in range(4)]
HANDOFF = replace(outbox("t-2"), kind="handoff", delivery={"1": SENT})
SAID = person_steps.entries_of(["one", "two"], author="Ann", turn_id="person-k", now=NOW)
ANSWER = Outbox("person-k", "person", (), SAID, NOW, delivery={})
APOLOGY = replace(outbox("apology-SM1"), kind="apology", seqs=())

CALLED = {"token": "a", "at": LATER, "outcome": "unknown"}
DONE = CALLED | {"outcome": "done", "result": "table 4"}


@pytest.fixture(params=["memory", "ministack", "local"])
def tables(request: pytest.FixtureRequest) -> str:
    """A condition that is refused is read the same way everywhere, which test_store.py shows of
    moto and the bench's double too."""
    return endpoint(request)


Prepare = Callable[[ConversationStore], Awaitable[None]]
Read = Callable[[StepResult, Conversation | None], bool]


def conversation(result: StepResult) -> Conversation | None:
    return conversation_from(result.item, KEY) if result.item else None


async def applied(store: ConversationStore, *some: Step) -> None:
    for step in some:
        assert isinstance(await store.apply(KEY, step), Applied), step.name


# --- the states that steps start from ------------------------------------------------------------


async def pending(store: ConversationStore) -> None:
    await converse(store, messages=HISTORY)
    await staged(store, 2)


async def held(store: ConversationStore) -> None:
    await claimed(store, 2, messages=HISTORY)


async def intended(store: ConversationStore) -> None:
    await held(store)
    await applied(store, steps.intend_reply("a", outbox(), LATER, head="", seq=2))


async def reported(store: ConversationStore) -> None:
    await intended(store)
    await applied(store, delivery.report_in_outbox("t-1", 1, SENT))


async def apologising(store: ConversationStore) -> None:
    await held(store)
    await applied(store, steps.intend_reply("a", APOLOGY, LATER, head="", seq=None))


async def stopped(store: ConversationStore) -> None:
    await held(store)
    await applied(store, steps.mark_opt_out(NOW, opted_out=True))


async def answering(store: ConversationStore) -> None:
    await converse(store)
    await applied(store, take_as_person(), intend_person())


async def taken(store: ConversationStore) -> None:
    await converse(store)
    await applied(store, take_as_person())


def take_as_person(token: str = "a") -> Step:
    return person_steps.take(token, "me", LATER, lease_ms=60_000, skew_ms=2_000)


def intend_person(token: str = "a") -> Step:
    return person_steps.intend_person(token, ANSWER, LATER, NOW, known=0)


def is_taken(result: StepResult, found: Conversation | None) -> bool:
    answer = person_steps.after_take(result, found, token="a", now=LATER, skew_ms=2_000)
    return isinstance(answer, turn.Claimed)


def take_to_erase(token: str = "a") -> Step:
    return erasure.take_to_erase(
        token, "me", LATER, lease_ms=60_000, skew_ms=2_000, even_unanswered=True
    )


def is_taken_to_erase(_result: StepResult, found: Conversation | None) -> bool:
    return turn.is_ours(found, "a")


def is_persons_intent(result: StepResult, found: Conversation | None) -> bool:
    turn_id = ANSWER.turn_id
    answer = person_steps.after_intend_person(result, found, token="a", turn_id=turn_id)
    return answer == turn.Holds()


async def called(store: ConversationStore) -> None:
    await held(store)
    await applied(store, arm_tool("look"))


def arm_tool(name: str, *, token: str = "a", first: bool = True) -> Step:
    head = message(1).sid
    return tool_steps.arm_tool(
        token, name, CALLED | {"token": token}, LATER, head=head, first=first
    )


# --- the readings --------------------------------------------------------------------------------


def is_staged_again(result: StepResult, _found: Conversation | None) -> bool:
    return turn.after_stage(result, message(3).sid) == turn.Staged(
        seq=3, pending=3, first_received_at=NOW + 1, last_at=NOW + 9, again=True
    )


def is_first_staged_again(result: StepResult, _found: Conversation | None) -> bool:
    answer = turn.after_stage(result, message(1).sid)
    return isinstance(answer, turn.Staged) and (answer.seq, answer.again) == (1, True)


def is_claimed(result: StepResult, found: Conversation | None) -> bool:
    answer = turn.after_claim(
        result, found, token="a", seq=2, now=LATER, policy=POLICY, window=WINDOW
    )
    return (
        isinstance(answer, turn.Claimed)
        and answer.conversation.attempts == 1
        and [p.message for p in answer.conversation.pending] == [message(1), message(2)]
    )


def is_renewed(result: StepResult, found: Conversation | None) -> bool:
    answer = turn.after_renewal(found, token="a", seq=2)
    return isinstance(result, Applied) and answer == turn.Holds()


def is_intended(result: StepResult, found: Conversation | None) -> bool:
    return turn.after_intent(result, found, token="a", turn_id="t-1", seq=2) == turn.Holds()


def is_handoff_intended(result: StepResult, found: Conversation | None) -> bool:
    return turn.after_handoff_intent(result, found, token="a") == turn.Holds()


def is_armed(result: StepResult, found: Conversation | None) -> bool:
    return turn.after_arm(result, found, token="a") == turn.Holds()


def is_tool_armed(result: StepResult, found: Conversation | None) -> bool:
    answer = tool_steps.after_tool_armed(result, found, token="a", name="book")
    return answer == turn.Holds()


def is_committed(turn_id: str = "t-1") -> Read:
    def read(result: StepResult, found: Conversation | None) -> bool:
        return turn.after_commit(result, found, token="a", turn_id=turn_id) == turn.Holds()

    return read


def is_applied(result: StepResult, _found: Conversation | None) -> bool:
    return isinstance(result, Applied)


def is_old_news(result: StepResult, found: Conversation | None) -> bool:
    """Refused because the item has it already, which the caller sees there."""
    if not isinstance(result, Refused) or found is None:
        return False
    delivery = found.outbox.delivery if found.outbox else {}
    reports = [*(delivery or {}).values(), *found.messages]
    return any(report.get("delivery") == "sent" for report in reports)


def is_done_without_asking(result: StepResult, _found: Conversation | None) -> bool:
    """The caller does the same after either answer."""
    return isinstance(result, Refused)


@dataclass(frozen=True)
class Case:
    start: Prepare
    step: Step
    reads: Read


def commit(entries: Sequence[dict[str, Any]] = outbox().entries, **more: Any) -> Step:
    known = replace(outbox(), delivery={"1": SENT})
    return steps.commit("a", known, entries, LATER, status=r.AI_RESPONSE_SENT, **more)


def release(**more: Any) -> Step:
    return steps.release("a", **({"give_back_attempt": True} | more))


REPORT = delivery.report_in_outbox("t-1", 1, SENT)
OVER: Outbox = replace(outbox(), delivery={"1": SENT})
CASES = {
    "stage, the first": Case(converse, stage(1, first=True), is_first_staged_again),
    "stage": Case(pending, stage(3, NOW + 9), is_staged_again),
    "stage STOP": Case(pending, stage(3, NOW + 9, opt_out=True), is_staged_again),
    "stage START": Case(pending, stage(3, NOW + 9, opt_in=True), is_staged_again),
    "claim": Case(pending, claim("a"), is_claimed),
    "renew": Case(held, steps.renew("a", LATER + 90_000), is_renewed),
    "release": Case(held, release(), is_done_without_asking),
    "release after a failure": Case(
        intended, release(drop_outbox=True, failure={"detail": "x"}), is_done_without_asking
    ),
    "intend_reply": Case(
        held, steps.intend_reply("a", outbox(), LATER, head="", seq=2), is_intended
    ),
    "intend_handoff": Case(
        held, steps.intend_handoff("a", HANDOFF, LATER, head=""), is_handoff_intended
    ),
    "intend_handoff over a reply": Case(
        reported,
        steps.intend_handoff("a", replace(HANDOFF, delivery={}), LATER, head="", over=OVER),
        is_handoff_intended,
    ),
    "intend_notice": Case(
        stopped, consent.intend_notice("a", outbox(), LATER, head=message(1).sid), is_intended
    ),
    "arm": Case(intended, steps.arm("a", "t-1", 1, LATER, accepted={0: "SM0"}), is_armed),
    "arm_tool, the first": Case(held, arm_tool("book"), is_tool_armed),
    "arm_tool": Case(called, arm_tool("book", first=False), is_tool_armed),
    "note_tool": Case(called, tool_steps.note_tool("a", "look", DONE), is_applied),
    "commit": Case(reported, commit(prune=[message(1).sid], thread_id="resp_1"), is_committed()),
    "commit without texts": Case(reported, commit(()), is_committed()),
    "commit_apology": Case(
        apologising,
        steps.commit_apology("a", APOLOGY, APOLOGY.entries, LATER + 9),
        is_committed(APOLOGY.turn_id),
    ),
    "report_in_outbox": Case(intended, REPORT, is_old_news),
    "report_in_history": Case(
        pending, delivery.report_in_history(2, "SM2", {"delivery": "sent"}), is_old_news
    ),
    "people_told_in_outbox": Case(
        reported, delivery.people_told_in_outbox("t-1", 1, "SM9"), is_applied
    ),
    "people_told_in_history": Case(pending, delivery.people_told_in_history(2, "SM2"), is_applied),
    "roll_over": Case(held, steps.roll_over("a", HISTORY[:2]), is_done_without_asking),
    "mark_opt_out": Case(pending, steps.mark_opt_out(NOW, opted_out=True), is_applied),
    "mark_opt_out, undone": Case(pending, steps.mark_opt_out(NOW, opted_out=False), is_applied),
    "take": Case(converse, take_as_person(), is_taken),
    "intend_person": Case(taken, intend_person(), is_persons_intent),
    "arm_person": Case(
        answering,
        person_steps.arm_person("a", "person-k", 1, LATER, accepted={0: "SM0"}),
        is_armed,
    ),
    "commit_person": Case(
        answering,
        person_steps.commit_person("a", ANSWER, SAID, LATER),
        is_committed(ANSWER.turn_id),
    ),
    "take_over": Case(pending, person_steps.take_over("Ann", "a refund", NOW), is_applied),
    "give_back": Case(pending, person_steps.give_back(NOW), is_applied),
    "take_to_erase": Case(pending, take_to_erase(), is_taken_to_erase),
    "set_handoff": Case(pending, steps.set_handoff(True), is_applied),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_a_step_sent_twice_holds_once(store: ConversationStore, case: Case) -> None:
    await case.start(store)
    await applied(store, case.step)
    once = await store.read(KEY)
    assert once is not None
    again = await store.apply(KEY, case.step)
    assert case.reads(again, conversation(again))
    assert await store.read(KEY) == once


async def test_every_step_is_among_the_cases() -> None:
    """A step that somebody adds needs a reading too."""
    made = {case.step.name for case in CASES.values()}
    modules = (steps, delivery, tool_steps, consent, person_steps, erasure)
    builders = {
        name
        for module in modules
        for name, value in vars(module).items()
        if getattr(value, "__annotations__", {}).get("return") is Step and not name.startswith("_")
    }
    # With `intend` the other INTENTs are made.
    builders.remove("intend")
    assert made == builders


async def test_no_step_brings_a_record_back_that_was_erased(store: ConversationStore) -> None:
    """DynamoDB's update makes an item that is not there, unless its condition forbids it."""
    for case in CASES.values():
        assert await store.apply(KEY, case.step) == Refused(None), case.step.name
    assert await store.read(KEY) is None


# --- what may happen between the two -------------------------------------------------------------

NEWER = stage(3, NOW + 9)
SILENCE = steps.set_handoff(True)
MEANWHILE = {
    "claim, a message": (CASES["claim"], NEWER),
    "claim, the flag": (CASES["claim"], SILENCE),
    "stage, a claim": (CASES["stage"], claim("b", LATER + 9)),
    "intend_reply, a message": (CASES["intend_reply"], NEWER),
    "intend_reply, the flag": (CASES["intend_reply"], SILENCE),
    "intend_handoff, a message": (CASES["intend_handoff"], NEWER),
    "commit, a message": (CASES["commit"], NEWER),
    "commit_apology, a message": (CASES["commit_apology"], NEWER),
}


@pytest.mark.parametrize(("case", "other"), MEANWHILE.values(), ids=list(MEANWHILE))
async def test_what_comes_between_the_two_hides_nothing(
    store: ConversationStore, case: Case, other: Step
) -> None:
    await case.start(store)
    await applied(store, case.step, other)
    between = await store.read(KEY)
    again = await store.apply(KEY, case.step)
    if case is CASES["claim"] and other is NEWER:
        assert isinstance(again, Refused)
        found = conversation(again)
        assert found is not None
        assert found.lease is not None
        assert found.lease.token == "a"
    else:
        assert case.reads(again, conversation(again))
    assert await store.read(KEY) == between


async def test_a_commit_whose_answer_was_lost_holds_though_others_went_on(
    store: ConversationStore,
) -> None:
    await reported(store)
    await applied(store, commit(), NEWER, claim("b", LATER + 100_000))
    taken = await store.read(KEY)
    again = await store.apply(KEY, commit())
    assert is_committed()(again, conversation(again))
    assert await store.read(KEY) == taken


async def test_a_message_that_a_turn_has_settled_is_not_staged_again(
    store: ConversationStore,
) -> None:
    await reported(store)
    await applied(store, commit())
    again = await store.apply(KEY, stage(1))
    assert isinstance(turn.after_stage(again, message(1).sid), turn.AlreadySettled)


async def test_a_tool_that_was_called_before_is_not_armed_again(store: ConversationStore) -> None:
    await called(store)
    await applied(store, steps.release("a", give_back_attempt=False), claim("b", LATER + 9))
    again = await store.apply(KEY, arm_tool("look", token="b", first=False))
    found = conversation(again)
    answer = tool_steps.after_tool_armed(again, found, token="b", name="look")
    assert isinstance(answer, tool_steps.CalledBefore)
    assert answer.conversation.tools["look"]["outcome"] == "unknown"


@pytest.mark.parametrize("silence", [SILENCE, steps.mark_opt_out(NOW, opted_out=True)])
async def test_no_tool_is_armed_once_the_ai_is_silenced(
    store: ConversationStore, silence: Step
) -> None:
    await held(store)
    await applied(store, silence)
    refused = await store.apply(KEY, arm_tool("book"))
    found = conversation(refused)
    answer = tool_steps.after_tool_armed(refused, found, token="a", name="book")
    assert isinstance(answer, turn.Silenced)


async def test_a_commit_forgets_the_tools_raises_the_flag_and_counts(
    store: ConversationStore,
) -> None:
    await called(store)
    handoff = replace(HANDOFF, delivery={}, raise_flag=True)
    await applied(
        store,
        steps.intend_handoff("a", handoff, LATER, head=message(1).sid),
        steps.commit("a", handoff, (), LATER, status="x", usage={"day": "2026-11-23"}),
    )
    item = await store.read(KEY)
    assert item is not None
    assert (r.TOOLS in item, item[r.HANDOFF]) == (False, True)
    assert item[r.USAGE] == {"day": "2026-11-23"}


async def test_create_twice_leaves_the_first(store: ConversationStore) -> None:
    await converse(store, name="Lee")
    once = await store.read(KEY)
    assert not await store.create(KEY, {"name": "Lee"})
    assert await store.read(KEY) == once


async def test_side_items_are_put_and_deleted_any_number_of_times(
    store: ConversationStore,
) -> None:
    for _ in range(2):
        await store.put_side("inbound#SM1", {"body": "x"}, NOW)
    item = await store.get_side("inbound#SM1")
    assert item is not None
    assert item["body"] == "x"
    for _ in range(2):
        await store.delete_side("inbound#SM1")
    assert await store.get_side("inbound#SM1") is None


# --- refusals ------------------------------------------------------------------------------------

# What people's tools may keep in the record: every type that DynamoDB has.
FOREIGN: dict[str, Any] = {
    "name": "Lee ☺ \u0000",
    "empty": "",
    "nothing": None,
    "no": False,
    "negative": -7,
    "price": Decimal("1.50"),
    "large": 10**30,
    "photo": b"\x00\xff",
    "tags": {"a", "b"},
    "lists": [[], [1, ["two", {}]], {"three": [None, True]}],
    "a.name [0] #1": {"with.dots": {" ": "and a space"}},
}
REFUSED = [
    stage(1),
    claim("b"),
    steps.renew("b", LATER),
    steps.release("b", give_back_attempt=True),
    steps.intend_reply("a", outbox("t-3"), LATER, head="", seq=7),
    steps.intend_handoff("b", outbox("t-3"), LATER, head=""),
    steps.arm("b", "t-1", 1, LATER),
    arm_tool("book", token="b"),
    tool_steps.note_tool("b", "look", DONE),
    tool_steps.note_tool("a", "never", DONE),
    # Nobody has opted out.
    consent.intend_notice("a", outbox("t-3"), LATER, head=message(1).sid),
    steps.commit("a", outbox(), (), LATER, status=r.AI_RESPONSE_SENT),
    steps.commit_apology("b", APOLOGY, (), LATER),
    delivery.report_in_outbox("t-1", 1, SENT),
    delivery.report_in_history(9, "SM9", {"delivery": "failed"}),
    delivery.people_told_in_outbox("t-1", 1, "SM8"),
    delivery.people_told_in_history(9, "SM9"),
    steps.roll_over("b", HISTORY[:2]),
    take_as_person("p"),
    intend_person("b"),
    person_steps.arm_person("b", "t-1", 1, LATER),
    person_steps.commit_person("b", ANSWER, SAID, LATER),
]


async def test_a_refusal_brings_the_whole_item(store: ConversationStore) -> None:
    await claimed(store, 2, messages=HISTORY, **FOREIGN)
    await applied(store, steps.intend_reply("a", outbox(), LATER, head="", seq=2), REPORT)
    item = await store.read(KEY)
    assert item is not None
    assert {name: item[name] for name in FOREIGN} == FOREIGN
    assert [type(item[name]) for name in FOREIGN] == [type(value) for value in FOREIGN.values()]
    for step in REFUSED:
        assert await store.apply(KEY, step) == Refused(item), step.name
    assert await store.read(KEY) == item
