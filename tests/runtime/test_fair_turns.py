"""The buffer's turns, shared by the businesses whose customers write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from replyd.adapters.memory import CountingIds, LoopClock, MemoryQueue, Recorder
from replyd.domain.messages import ConversationKey
from replyd.domain.wakeup import Wakeup
from replyd.flows.outcomes import Outcome, Retry, Settled
from replyd.flows.workbench import News
from replyd.ports import Received
from replyd.runtime.buffer import Buffer
from replyd.runtime.progress import Progress


@dataclass
class Shop:
    """Turns of one second each; whose began when."""

    settings: dict[str, Any]
    began: list[tuple[str, float]] = field(default_factory=list)
    ended: int = 0
    at_once: int = 0
    failing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        clock = LoopClock()
        self.queue = MemoryQueue(30)
        limits = {"concurrency": 1, "max_held": 5000, "visibility_seconds": 30}
        self.buffer = Buffer(
            answer=self.answer,
            wakeups=self.queue,
            clock=clock,
            ids=CountingIds("w"),
            telemetry=Recorder(),
            progress=Progress(clock.elapsed),
            heartbeat_seconds=10,
            turn_seconds=60,
            **(limits | self.settings),
        )

    async def answer(self, key: ConversationKey, seq: int, _: News) -> Outcome:
        self.began.append((key.partition, asyncio.get_running_loop().time()))
        self.at_once = max(self.at_once, self.buffer.running)
        await asyncio.sleep(1)
        self.ended += 1
        return Retry() if key.partition in self.failing else Settled(seq)

    def offer(self, business: str, first: int, count: int = 1) -> None:
        for number in range(first, first + count):
            name = f"{business}{number}"
            self.buffer.offer(
                Wakeup(ConversationKey(name, "c"), 1, business=business),
                Received(name, name, "{}"),
            )

    def order(self) -> str:
        return " ".join(name for name, _ in self.began)


@asynccontextmanager
async def open_shop(**changed: Any) -> AsyncIterator[Shop]:
    shop = Shop(changed)
    receipts = asyncio.create_task(shop.buffer.run())
    try:
        yield shop
    finally:
        await shop.buffer.drain(5)
        receipts.cancel()
        await asyncio.gather(receipts, return_exceptions=True)
    assert shop.buffer.held == shop.buffer.running == 0


async def test_a_flood_of_one_business_delays_only_itself() -> None:
    async with open_shop() as shop:
        shop.offer("a", 0, 1000)
        await asyncio.sleep(10.5)
        shop.offer("b", 0)
        await asyncio.sleep(2)
    # The turn under way ended at 11.
    assert shop.began[11:] == [("b0", 11.0), ("a11", 12.0)]
    assert shop.at_once == 1


async def test_businesses_take_turns() -> None:
    async with open_shop() as shop:
        shop.offer("a", 0, 4)
        shop.offer("b", 0, 2)
        shop.offer("c", 0)
        await asyncio.sleep(10)
    assert shop.order() == "a0 b0 c0 a1 b1 a2 a3"


async def test_one_business_has_no_more_turns_than_its_share() -> None:
    async with open_shop(concurrency=5, per_tenant=2) as shop:
        shop.offer("a", 0, 6)
        await asyncio.sleep(0.5)
        shop.offer("b", 0, 2)
        await asyncio.sleep(10)
    assert [at for name, at in shop.began if name[0] == "a"] == [0, 0, 1, 1, 2, 2]
    # There was room for it at once.
    assert [at for name, at in shop.began if name[0] == "b"] == [0.5, 0.5]
    assert shop.at_once == 4


async def test_without_a_share_one_business_may_have_all_turns() -> None:
    async with open_shop(concurrency=5) as shop:
        shop.offer("a", 0, 5)
        await asyncio.sleep(0.5)
        assert len(shop.began) == 5


async def test_customers_of_an_unknown_business_share_nothing() -> None:
    async with open_shop(concurrency=5, per_tenant=1) as shop:
        for number in range(3):
            key = ConversationKey(f"+44770090000{number}", "c")
            shop.buffer.wake(key, 1, 0)
        shop.offer("", 7)
        await asyncio.sleep(0.5)
        assert len(shop.began) == 4


async def test_a_business_once_known_stays_known() -> None:
    async with open_shop(concurrency=5, per_tenant=1) as shop:
        shop.failing = {"a0"}
        shop.offer("a", 0)
        await asyncio.sleep(1.5)
        # A wake-up of an older shape, without the number.
        key = ConversationKey("a0", "c")
        shop.buffer.offer(Wakeup(key, 2), Received("other", "other", "{}"))
        shop.offer("a", 1, 10)
        await asyncio.sleep(20)
        assert shop.at_once == 1
        assert len(shop.began) > 12


async def test_a_drain_leaves_no_turn_behind_of_those_that_wait() -> None:
    async with open_shop(concurrency=2, per_tenant=1) as shop:
        shop.offer("a", 0, 50)
        shop.offer("b", 0, 50)
        await asyncio.sleep(0.5)
    assert shop.order() == "a0 b0"
    assert shop.ended == 2
