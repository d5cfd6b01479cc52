"""What no webhook made durable is found in the vendor's list, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from replyd.bootstrap.wiring import Daemon
from replyd.domain import record
from replyd.domain.events import CaughtUp, DependencyFailed, MessageDropped
from replyd.domain.messages import InboundMessage
from replyd.errors import Busy, DependencyDown, Permanent, Temporary
from replyd.settings import Settings
from tests.support.faults import Wires
from tests.support.world import ACCOUNT, CUSTOMER, World, message

INTERVAL = 300
NAME = f"catchup#{ACCOUNT}"
HOUR = 3600


class Late(World):
    """A world whose workers also catch up, each with a service of its own."""

    def __init__(self, catchup: dict[str, Any] | None = None, **groups: dict[str, Any]) -> None:
        super().__init__(**groups)
        settings = self.settings.model_dump() | {
            "catchup": {"settle_seconds": 0, "first_look_back_seconds": HOUR} | (catchup or {})
        }
        settings["twilio"]["accounts"] = {ACCOUNT: ("token",)}
        self.settings = Settings.model_validate(settings)
        self.daemons: list[Daemon] = []

    def _wired(self, wires: Wires, settings: Settings) -> Daemon:
        self.daemons.append(super()._wired(wires, settings))
        return self.daemons[-1]

    def writes(self, sent: InboundMessage, ago: float = 0) -> None:
        """Nobody takes the webhook."""
        self.channel.receive(sent, self.clock.now() - round(ago * 1000))

    @asynccontextmanager
    async def catching_up(self, workers: int = 1) -> AsyncIterator[None]:
        async with self.running(workers):
            tasks = [asyncio.create_task(d.catch_up.run()) for d in self.daemons]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def rounds(self) -> list[CaughtUp]:
        return self.events(CaughtUp)

    def cursor(self) -> int | None:
        return self.store.side.get(NAME, {}).get("seen_until")


def late(**groups: Any) -> Late:
    world = Late(**groups)
    world.converse()
    return world


async def test_what_no_webhook_brought_is_answered_once() -> None:
    world = late()
    world.writes(message(1, "anybody there?"), ago=HOUR / 2)
    async with world.catching_up():
        await asyncio.sleep(3 * INTERVAL)
    assert [r.turn for r in world.model.requests] == ["anybody there?"]
    assert len(world.channel.accepted) == 1
    assert world.handed_over() == []
    assert [r.staged for r in world.rounds()] == [1, 0, 0]


async def test_a_burst_that_is_found_is_one_turn() -> None:
    world = late()
    for number in (2, 1, 3):
        world.writes(message(number), ago=100 - number)
    async with world.catching_up():
        await asyncio.sleep(60)
    assert [role for role, _ in world.history()] == ["user", "user", "user", "assistant"]
    assert [text for _, text in world.history()][:3] == ["message 1", "message 2", "message 3"]


async def test_what_webhooks_brought_is_known_and_costs_nothing_here() -> None:
    world = late()
    async with world.catching_up():
        for number in (1, 2):
            world.writes(message(number))
            await world.daemons[0].accept(message(number))
        await asyncio.sleep(5)
        lookups, applied = world.store.lookups, len(world.store.applied)
        await asyncio.sleep(INTERVAL)
    assert len(world.channel.accepted) == 1
    assert world.rounds()[0].known == 2
    assert world.store.lookups == lookups
    assert "stage" not in world.store.applied[applied:]
    assert world.events(MessageDropped) == []


async def test_what_another_instance_settled_is_refused_by_stage_without_a_log_line() -> None:
    world = late()
    async with world.running():
        await world.daemons[0].accept(message(1))
        world.writes(message(1))
        await asyncio.sleep(20)
    async with world.catching_up():
        await asyncio.sleep(30)
    assert len(world.channel.accepted) == 1
    assert [(r.listed, r.known, r.staged) for r in world.rounds()] == [(1, 1, 0)]
    assert world.events(MessageDropped) == []


async def test_what_was_staged_by_a_webhook_that_died_gets_its_wake_up() -> None:
    world = late()
    dying = world.webhook()
    world.queue.fail["send"] = [DependencyDown("sqs", "gone")]
    with pytest.raises(DependencyDown):
        await dying(message(1))
    world.writes(message(1))
    assert len(world.item()[record.PENDING]) == 1
    world.daemons.clear()
    async with world.catching_up():
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 1
    assert [(r.known, r.staged) for r in world.rounds()] == [(1, 0)]


async def test_what_is_too_old_for_the_ai_goes_to_people() -> None:
    world = late()
    world.store.side[NAME] = {"seen_until": world.clock.now() - 5 * HOUR * 1000}
    world.writes(message(1, "hours ago"), ago=3 * HOUR)
    async with world.catching_up():
        await asyncio.sleep(2 * INTERVAL)
    (body,) = world.handed_over()
    assert (body["handoff_reason"], body["message"]["body"]) == ("too_old", "hours ago")
    assert world.model.requests == []
    assert world.channel.accepted == []
    assert world.rounds()[0].too_old == 1
    # When the customer wrote, not when it was found.
    assert body["received_at"] < record.iso(world.clock.now() - 3 * HOUR * 1000)


async def test_the_window_of_what_is_too_old_has_closed() -> None:
    world = late(window={"quiet_seconds": 20, "max_wait_seconds": 60})
    world.store.side[NAME] = {"seen_until": world.clock.now() - 5 * HOUR * 1000}
    world.writes(message(1), ago=3 * HOUR)
    async with world.catching_up():
        while not world.handoffs.bodies:
            await asyncio.sleep(0.5)
        assert world.rounds()
        # The wait for the first round, and at most one quiet time until the wake-up comes.
        assert world.clock.elapsed() < 15 + 20 + 2
    assert world.store.applied.count("claim") == 1


async def test_a_new_installation_does_not_answer_what_was_written_long_before_it() -> None:
    world = late()
    world.writes(message(1), ago=2 * HOUR)
    world.writes(message(2), ago=HOUR / 2)
    async with world.catching_up():
        await asyncio.sleep(INTERVAL)
    assert [r.turn for r in world.model.requests] == ["message 2"]
    assert world.handed_over() == []


async def test_what_is_beyond_the_look_back_is_left_alone() -> None:
    world = late(catchup={"look_back_seconds": 2 * HOUR})
    world.store.side[NAME] = {"seen_until": world.clock.now() - 50 * HOUR * 1000}
    world.writes(message(1), ago=3 * HOUR)
    async with world.catching_up():
        await asyncio.sleep(INTERVAL)
    assert world.handed_over() == []
    assert world.rounds()[0].listed == 0


async def test_a_message_that_is_young_is_left_to_its_webhook() -> None:
    world = late(catchup={"settle_seconds": 100})
    async with world.catching_up():
        await asyncio.sleep(10)
        world.writes(message(1))
        await asyncio.sleep(60)
        assert world.model.requests == []
        await asyncio.sleep(2 * INTERVAL)
    assert len(world.channel.accepted) == 1


async def test_what_is_listed_late_is_found_within_the_overlap() -> None:
    world = late()
    async with world.catching_up():
        await asyncio.sleep(INTERVAL)
        cursor = world.cursor()
        assert cursor is not None
        world.channel.receive(message(1), cursor - 100_000)
        await asyncio.sleep(INTERVAL * 1.5)
    assert len(world.channel.accepted) == 1


async def test_the_cursor_stays_before_what_failed_and_it_is_found_again() -> None:
    world = late(catchup={"overlap_seconds": 0})
    for number in (1, 2):
        world.writes(message(number), ago=1000 - 100 * number)
    failed_at = world.channel.inbox[0].at
    world.store.side[NAME] = {"seen_until": world.clock.now() - HOUR * 1000}
    async with world.catching_up():
        world.store.fail_before["stage"] = [Temporary("dynamodb", "not now")]
        await asyncio.sleep(60)
        (first,) = world.rounds()
        assert (first.listed, first.staged, first.failed) == (2, 0, 1)
        assert world.cursor() == first.seen_until == failed_at
        (error,) = world.events(DependencyFailed)
        assert error.operation == "catch_up"
        await asyncio.sleep(INTERVAL * 1.5)
    assert sum(role == "user" for role, _ in world.history()) == 2
    cursor = world.cursor()
    assert cursor is not None
    assert cursor > failed_at


async def test_what_is_refused_for_good_does_not_keep_the_others() -> None:
    world = late(catchup={"overlap_seconds": 0})
    for number in (1, 2):
        world.writes(message(number), ago=1000 - 100 * number)
    async with world.catching_up():
        world.store.fail_before["stage"] = [Permanent("dynamodb", "never")]
        await asyncio.sleep(60)
    (first,) = world.rounds()
    assert (first.staged, first.failed) == (1, 1)
    cursor = world.cursor()
    assert cursor is not None
    assert cursor > world.channel.inbox[1].at


@pytest.mark.parametrize("kind", [Temporary, Busy, DependencyDown, Permanent])
async def test_a_list_that_cannot_be_read_moves_nothing(kind: type[Temporary]) -> None:
    world = late()
    world.writes(message(1), ago=60)
    world.channel.list_failures = [kind("twilio", "no")]
    began = world.clock.now() - HOUR * 1000
    async with world.catching_up():
        await asyncio.sleep(INTERVAL / 2)
        assert world.cursor() == began
        assert [e.operation for e in world.events(DependencyFailed)] == ["catch_up"]
        await asyncio.sleep(INTERVAL)
    assert len(world.channel.accepted) == 1


async def test_a_list_that_was_cut_off_does_not_jump_over_the_rest() -> None:
    world = late()
    world.writes(message(1, "beyond the last page"), ago=1000)
    world.writes(message(2, "on the first page"), ago=100)
    world.channel.inbox_from = world.clock.now() - 500_000
    began = world.clock.now() - HOUR * 1000
    async with world.catching_up():
        await asyncio.sleep(60)
        assert [r.turn for r in world.model.requests] == ["on the first page"]
        assert world.cursor() == began
        world.channel.inbox_from = 0
        await asyncio.sleep(INTERVAL * 1.5)
    assert [r.turn for r in world.model.requests] == ["on the first page", "beyond the last page"]


async def test_one_instance_lists_for_all() -> None:
    world = late()
    async with world.catching_up(workers=3):
        await asyncio.sleep(4 * INTERVAL)
    assert 3 <= len(world.rounds()) <= 5


async def test_when_the_one_that_listed_has_ended_another_goes_on() -> None:
    world = late()
    async with world.catching_up(workers=2):
        await asyncio.sleep(60)
        assert len(world.rounds()) == 1
        await world.crash(world.workers[0])
        world.writes(message(1))
        await asyncio.sleep(1.5 * INTERVAL)
        assert len(world.channel.accepted) == 1


async def test_two_rounds_at_once_answer_once() -> None:
    world = late(catchup={"interval_seconds": 1})
    world.writes(message(1), ago=60)
    async with world.catching_up(workers=3):
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 1
    assert len(world.history()) == 2


async def test_a_process_that_takes_webhooks_only_does_not_list() -> None:
    world = late()
    world.writes(message(1), ago=60)
    world.webhook()
    task = asyncio.create_task(world.daemons[0].catch_up.run())
    await asyncio.sleep(2 * INTERVAL)
    task.cancel()
    assert world.rounds() == []
    assert record.PENDING not in world.item()


async def test_a_list_that_never_ends_is_told_as_stuck() -> None:
    world = late()
    async with world.catching_up():
        world.channel.seconds = 3 * HOUR
        await asyncio.sleep(HOUR / 60)
        assert world.daemons[0].progress.stuck() == []
        await asyncio.sleep(HOUR)
        assert world.daemons[0].progress.stuck() == ["catch-up"]


async def test_a_long_round_is_not_stuck() -> None:
    world = late()
    for number in range(1, 200):
        world.writes(message(number), ago=2000 - number)
    async with world.catching_up():
        world.queue.send_seconds = 5
        for _ in range(150):
            await asyncio.sleep(10)
            assert world.daemons[0].progress.stuck() == []
    assert world.rounds()[0].duration_ms > 900_000


async def test_a_round_that_is_cut_short_is_taken_up_by_the_next_process() -> None:
    world = late(catchup={"interval_seconds": 60})
    for number in (1, 2):
        world.writes(message(number), ago=100 - number)
    async with world.catching_up():
        await asyncio.sleep(14)
        world.queue.send_seconds = 30
        while record.PENDING not in world.item():
            await asyncio.sleep(0.1)
        await world.crash(world.workers[0])
    assert len(world.item()[record.PENDING]) == 1
    world.queue.send_seconds = 0
    world.daemons.clear()
    async with world.catching_up():
        await asyncio.sleep(2 * INTERVAL)
    assert len(world.channel.accepted) == 1
    users = [text for role, text in world.history() if role == "user"]
    assert users == ["message 1", "message 2"]


async def test_stop_that_is_found_late_counts() -> None:
    world = late()
    world.writes(message(1, "STOP"), ago=600)
    async with world.catching_up():
        await asyncio.sleep(60)
    assert record.OPTED_OUT in world.item()
    assert [body["handoff_reason"] for body in world.handed_over()] == ["opted_out"]


async def test_start_that_is_found_late_does_not_undo_a_stop() -> None:
    """The STOP may be the younger of the two."""
    world = late()
    world.writes(message(1, "START"), ago=600)
    async with world.catching_up():
        await world.daemons[0].accept(message(2, "STOP"))
        await asyncio.sleep(60)
    assert record.OPTED_OUT in world.item()
    assert {body["handoff_reason"] for body in world.handed_over()} == {"opted_out"}
    assert len(world.handed_over()) == 2


async def test_an_unknown_sender_is_told_once() -> None:
    world = Late(unknown={"policy": "notify", "notice_text": "Please write to us by e-mail."})
    world.writes(message(1), ago=60)
    world.writes(message(2), ago=30)
    async with world.catching_up():
        await asyncio.sleep(3 * INTERVAL)
    assert [p.recipient for p in world.channel.accepted] == [f"whatsapp:{CUSTOMER}"]
    assert len(world.events(MessageDropped)) == 2


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ({"catchup": {"look_back_seconds": 15 * 24 * HOUR}}, "history.seen_days"),
        ({"catchup": {"max_age_seconds": 100}}, "turn.give_up_after_seconds"),
        ({"catchup": {"look_back_seconds": 1800}}, "catchup.max_age_seconds"),
    ],
)
def test_settings_that_would_answer_twice_or_never_are_refused(
    groups: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Settings.model_validate(groups)


async def test_what_came_before_the_very_first_start_is_another_systems() -> None:
    """It has answered it, and must not be answered again."""
    world = late(catchup={"first_look_back_seconds": 0})
    world.writes(message(1), ago=60)
    async with world.catching_up():
        await asyncio.sleep(20)
        world.writes(message(2))
        await asyncio.sleep(2 * INTERVAL)
    assert [r.turn for r in world.model.requests] == ["message 2"]


async def test_a_first_round_that_fails_lets_no_later_process_begin_later() -> None:
    world = late(catchup={"first_look_back_seconds": 0})
    world.channel.list_failures = [DependencyDown("twilio", "no")] * 3
    async with world.catching_up():
        await asyncio.sleep(20)
        world.writes(message(1))
        await asyncio.sleep(INTERVAL / 2)
    world.daemons.clear()
    await asyncio.sleep(INTERVAL)
    async with world.catching_up():
        await asyncio.sleep(4 * INTERVAL)
    assert [r.turn for r in world.model.requests] == ["message 1"]


async def test_a_process_that_ends_before_its_first_round_lets_no_later_one_begin_later() -> None:
    world = late(catchup={"first_look_back_seconds": 0})
    async with world.catching_up():
        await asyncio.sleep(1)
        world.writes(message(1))
    assert world.rounds() == []
    world.daemons.clear()
    await asyncio.sleep(INTERVAL)
    async with world.catching_up():
        await asyncio.sleep(2 * INTERVAL)
    assert [r.turn for r in world.model.requests] == ["message 1"]


async def test_of_two_processes_the_first_start_counts() -> None:
    world = late(catchup={"first_look_back_seconds": 0})
    async with world.catching_up(workers=2):
        await asyncio.sleep(1)
        began = world.cursor()
        world.daemons.clear()
        async with world.catching_up():
            await asyncio.sleep(1)
            assert began is not None
            assert world.cursor() == began


async def test_a_store_that_fails_at_the_start_leaves_it_to_the_first_round() -> None:
    world = late(catchup={"first_look_back_seconds": 0})
    world.store.fail_before["get_side"] = [DependencyDown("dynamodb", "no")]
    async with world.catching_up():
        await asyncio.sleep(1)
        assert world.cursor() is None
        world.writes(message(1))
        await asyncio.sleep(2 * INTERVAL)
    assert [r.turn for r in world.model.requests] == ["message 1"]
