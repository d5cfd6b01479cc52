"""The customer sees that an answer is being written."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from replyd.domain.events import DependencyFailed
from replyd.domain.record import Pending, conversation_from
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from replyd.flows.account import Account
from replyd.flows.lease import Lease
from replyd.flows.typing_indicator import REPEAT_SECONDS, typing_indicator
from replyd.flows.workbench import Taken, Turn
from tests.support.world import CUSTOMER, KEY, World, message


class Writing:
    """A turn that has taken `messages`, and what the customer saw of it."""

    def __init__(self, *senders: str, answer_seconds: float = 0.1) -> None:
        self.world = World()
        self.world.converse()
        self.world.channel.seconds = answer_seconds
        bench = self.world.worker().answer._bench
        conversation = conversation_from(self.world.item(), KEY)
        lease = Lease(bench.store, bench.clock, KEY, "token", bench.policy.lease_ms)
        self.turn = Turn(bench, lease, conversation, Account(claimed_at=0))
        messages = [message(n, sender=sender) for n, sender in enumerate(senders, start=1)]
        self.turn.taken = tuple(
            Taken(Pending(n, m.sid, 0, m), m, m.body) for n, m in enumerate(messages, start=1)
        )

    def shown(self, *, enabled: bool = True) -> AbstractAsyncContextManager[None]:
        return typing_indicator(self.turn, enabled=enabled)

    def fail(self, *failures: DependencyError) -> None:
        self.world.channel.typing_failures.extend(failures)

    @property
    def seen(self) -> list[str]:
        return self.world.channel.typing

    @property
    def counted(self) -> list[DependencyFailed]:
        return self.world.events(DependencyFailed)


WHATSAPP = f"whatsapp:{CUSTOMER}"
SID = "SM" + "0" * 31


async def test_it_is_shown_at_once_on_the_newest_message() -> None:
    writing = Writing(WHATSAPP, WHATSAPP, WHATSAPP)
    async with writing.shown():
        await asyncio.sleep(1)
        assert writing.seen == [SID + "3"]
    assert writing.counted == []


async def test_it_is_shown_again_before_whatsapp_ends_it() -> None:
    writing = Writing(WHATSAPP)
    async with writing.shown():
        await asyncio.sleep(3 * REPEAT_SECONDS)
        assert writing.seen == [SID + "1"] * 3
    assert REPEAT_SECONDS + 2 * writing.world.channel.seconds < 25


async def test_it_ends_with_the_block() -> None:
    writing = Writing(WHATSAPP)
    async with writing.shown():
        await asyncio.sleep(1)
    before = asyncio.all_tasks()
    await asyncio.sleep(100)
    assert len(writing.seen) == 1
    assert before == {asyncio.current_task()}


async def test_it_ends_with_a_block_that_raises() -> None:
    writing = Writing(WHATSAPP)

    async def block() -> None:
        async with writing.shown():
            await asyncio.sleep(1)
            raise ValueError("the model")

    with pytest.raises(ValueError, match="the model"):
        await block()
    await asyncio.sleep(100)
    assert len(writing.seen) == 1


async def test_nobody_waits_for_it() -> None:
    writing = Writing(WHATSAPP, answer_seconds=60)
    async with writing.shown():
        pass
    assert asyncio.get_running_loop().time() == 0
    assert writing.seen == []


async def test_a_block_that_is_cancelled_is_cancelled() -> None:
    writing = Writing(WHATSAPP)

    async def block() -> None:
        async with writing.shown():
            await asyncio.sleep(100)

    task = asyncio.create_task(block())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", [Temporary, Busy, DependencyDown])
async def test_a_failure_is_counted_and_the_next_one_may_succeed(
    kind: type[DependencyError],
) -> None:
    writing = Writing(WHATSAPP)
    writing.fail(kind("twilio", "no answer in time", code="timeout"))
    async with writing.shown():
        await asyncio.sleep(REPEAT_SECONDS + 1)
        assert len(writing.seen) == 1
    (failure,) = writing.counted
    assert (failure.dependency, failure.operation) == ("twilio", "typing")
    # Readiness rests on this one.
    assert not failure.down


async def test_a_final_failure_is_the_last() -> None:
    writing = Writing(WHATSAPP)
    writing.fail(Permanent("twilio", "refused", code="20404"))
    async with writing.shown():
        await asyncio.sleep(100)
    assert writing.seen == []
    assert [failure.code for failure in writing.counted] == ["20404"]


async def test_not_where_it_is_switched_off() -> None:
    writing = Writing(WHATSAPP)
    async with writing.shown(enabled=False):
        await asyncio.sleep(1)
    assert writing.seen == []


@pytest.mark.parametrize("sender", [CUSTOMER, "messenger:1234"])
async def test_not_on_another_channel(sender: str) -> None:
    writing = Writing(sender)
    async with writing.shown():
        await asyncio.sleep(1)
    assert writing.seen == []


async def test_not_without_a_message() -> None:
    writing = Writing()
    async with writing.shown():
        await asyncio.sleep(1)
    assert writing.seen == []


async def test_a_username_is_on_whatsapp() -> None:
    writing = Writing("whatsapp:US.ABC123")
    async with writing.shown():
        await asyncio.sleep(1)
    assert len(writing.seen) == 1
