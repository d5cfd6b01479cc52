"""FAIL: attempts used up, or a customer who has waited too long, and what is said of it."""

import asyncio

import pytest

from replyd.domain import record
from replyd.domain.events import TurnEnded
from replyd.domain.expressions import Step, StepResult
from replyd.domain.messages import ConversationKey
from replyd.errors import Ambiguous, DependencyDown, DependencyError, Permanent, Temporary
from tests.support.world import World, message

SORRY = "Sorry, a colleague will answer you."
FAILURES: list[DependencyError] = [Temporary("openai", "HTTP 500")] * 50


def failing(**turn: object) -> World:
    world = World(turn={"max_attempts": 2, "apology_text": SORRY, **turn})
    world.converse()
    world.model.failures = list(FAILURES)
    return world


def texts(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


async def test_the_customer_is_told_once_and_people_get_the_messages() -> None:
    world = failing()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert texts(world) == [SORRY]
    (body,) = world.handed_over()
    assert body["handoff_reason"] == "failed"
    assert body["handoff_detail"] == "no reply after 2 attempts, the last one: HTTP 500"
    assert world.history() == [("assistant", SORRY), ("user", "message 1")]
    assert world.item()[record.MESSAGES][0]["message_id"] == f"SM{1:032d}"
    assert world.queue.messages == {}


async def test_the_record_the_log_and_the_account_say_why() -> None:
    world = failing()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(4)
        assert world.item()[record.FAILURE]["detail"] == "HTTP 500"
        await asyncio.sleep(60)
    failure = world.item()[record.FAILURE]
    assert failure["reason"] == "failed"
    assert failure["detail"] == "no reply after 2 attempts, the last one: HTTP 500"
    assert world.item()[record.STATUS] == "reply_failed"
    ended = world.events(TurnEnded)[-1]
    assert (ended.outcome, ended.reason) == ("handed_over", "failed")


async def test_a_reply_that_goes_out_in_the_end_clears_the_failure() -> None:
    world = failing()
    world.model.failures = FAILURES[:1]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert record.FAILURE not in world.item()
    assert texts(world) == ["You said: message 1"]


async def test_no_apology_without_a_text() -> None:
    world = failing(apology_text="")
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert texts(world) == []
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]


async def test_an_answer_that_the_model_refuses_is_apologised_for() -> None:
    world = failing()
    world.model.failures = [Permanent("openai", "the request is refused")]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(30)
    assert texts(world) == [SORRY]
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]


@pytest.mark.parametrize("why", ["people", "stop"])
async def test_no_apology_over_people_or_after_stop(why: str) -> None:
    world = failing()
    world.store.fail_before["intend_reply"] = [Temporary("dynamodb", "no answer")]
    async with world.running() as worker:
        await worker.accept(message(1))
        while world.store.fail_before["intend_reply"]:
            await asyncio.sleep(1)
        # The attempts are used up, and the apology could not be written yet.
        assert texts(world) == []
        world.item()[record.HANDOFF if why == "people" else record.OPTED_OUT] = True
        await asyncio.sleep(60)
    assert texts(world) == []
    assert len(world.handed_over()) == 1


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_apology_that_may_have_gone_out_is_not_repeated(accepted: bool) -> None:
    world = failing()
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    world.channel.arrivals = [0 if accepted else None]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(120)
    assert texts(world) == ([SORRY] if accepted else [])
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]
    assert world.item()[record.MESSAGES][0]["delivery"] == "unknown"


@pytest.mark.parametrize(
    "refusal", [DependencyDown("twilio", "unreachable"), Permanent("twilio", "blocked")]
)
async def test_an_apology_that_is_refused_keeps_nothing_from_people(refusal: Exception) -> None:
    world = failing()
    world.channel.failures = [refusal]  # type: ignore[list-item]
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
    assert texts(world) == []
    assert world.history() == [("user", "message 1")]
    assert [b["handoff_reason"] for b in world.handed_over()] == ["failed"]


@pytest.mark.parametrize("step", ["intend_reply", "commit_apology", "intend_handoff"])
async def test_a_worker_that_dies_over_an_apology(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is sent, before it is settled, and before people have got the messages."""
    world = failing(give_up_after_seconds=1000)
    reached, apply = asyncio.Event(), world.store.apply

    async def apply_and_die(key: ConversationKey, taken: Step) -> StepResult:
        result = await apply(key, taken)
        if taken.name == step and not reached.is_set():
            reached.set()
            await asyncio.Future()
        return result

    monkeypatch.setattr(world.store, "apply", apply_and_die)
    async with world.running(workers=2):
        await world.workers[0].accept(message(1))
        await reached.wait()
        await world.crash(next(w for w in world.workers if w.buffer.running))
        await asyncio.sleep(200)
    assert len(texts(world)) <= 1
    assert len([t for _, t in world.history() if t == SORRY]) == 1
    assert {b["handoff_reason"] for b in world.handed_over()} == {"failed"}
    assert record.OUTBOX not in world.item()
    assert record.LEASE not in world.item()
    assert world.queue.messages == {}


async def test_an_apology_is_for_what_is_pending_then() -> None:
    """The next time the AI gives up, the customer is told again."""
    world = failing()
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(60)
        await worker.accept(message(2))
        await asyncio.sleep(60)
    assert texts(world) == [SORRY, SORRY]
    assert [b["message"]["body"] for b in world.handed_over()] == ["message 1", "message 2"]


async def test_what_comes_during_the_apology_goes_to_people_too() -> None:
    world = failing()
    world.channel.seconds = 5
    async with world.running() as worker:
        await worker.accept(message(1))
        while "intend_reply" not in world.store.applied:
            await asyncio.sleep(0.1)
        await worker.accept(message(2))
        await asyncio.sleep(60)
    bodies = [b["message"]["body"] for b in world.handed_over()]
    assert sorted(bodies) == ["message 1", "message 2"]
    assert world.queue.messages == {}
