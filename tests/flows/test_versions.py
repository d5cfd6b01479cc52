"""Two versions side by side, as while they are exchanged: what one does not know of the other."""

import asyncio
import json
from typing import Any

import pytest

from replyd.bootstrap import wiring
from replyd.domain import record
from replyd.domain.events import PoisonReceived
from replyd.domain.wakeup import BodyCodec, Foreign, Wakeup
from tests.support.world import World, message


class NewerCodec(BodyCodec):
    """Writes bodies of version 2, and reads both."""

    def encode(self, **fields: Any) -> str:
        return json.dumps({**json.loads(super().encode(**fields)), "version": 2})

    def decode(self, body: str) -> Wakeup | Foreign:
        return super().decode(json.dumps({**json.loads(body), "version": 1}))


async def test_the_wakeups_of_a_newer_version_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.converse()
    older = world.worker()
    monkeypatch.setattr(wiring, "body_codec", lambda _: NewerCodec())
    newer = world.worker()
    await newer.accept(message(1))
    older.start()
    await asyncio.sleep(80)
    # Three times: each time it is hidden for 30 s.
    reports = world.events(PoisonReceived)
    assert [r.receives for r in reports] == [1, 2, 3]
    assert "version" in reports[0].reason
    assert len(world.queue.messages) == 1
    assert world.model.requests == []
    newer.start()
    await older.stop()
    await asyncio.sleep(40)
    await newer.stop()
    assert world.queue.messages == {}
    assert world.queue.dead == []
    assert len(world.channel.accepted) == 1


async def test_the_wakeups_of_an_older_version_are_read() -> None:
    world = World()
    world.converse()
    await world.webhook()(message(1))
    (body, delay), world.queue.messages = world.queue.sent[0], {}
    # What a later version 1 adds is not looked at.
    await world.queue.send(json.dumps({**json.loads(body), "later": {"a": 1}}), delay)
    async with world.running():
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert world.events(PoisonReceived) == []


async def test_an_effect_of_a_newer_version_goes_to_people_once_its_lease_has_ended() -> None:
    """Nobody here knows how to look for it, and it is tried neither again nor for ever."""
    world = World()
    world.converse()
    await world.webhook()(message(1))
    now = world.clock.now()
    world.item()[record.LEASE] = {"owner": "newer", "token": "t", "expires_at": now + 30_000}
    world.item()[record.OUTBOX] = {
        "turn_id": "turn-1",
        "kind": "a kind of a later version",
        "seqs": [1],
        "entries": [{"role": "assistant", "content": "perhaps", "turn_id": "turn-1"}],
        "at": now,
        "later": {"a": 1},
    }
    async with world.running():
        await asyncio.sleep(20)
        assert world.handoffs.bodies == []
        await asyncio.sleep(60)
    (body,) = map(json.loads, world.handoffs.bodies)
    assert (body["handoff_reason"], body["message"]["sid"]) == ("ambiguous", message(1).sid)
    assert "perhaps" in body["handoff_summary"]
    item = world.item()
    assert (record.OUTBOX in item, record.LEASE in item, item[record.PENDING]) == (False, False, [])
    assert [e.get("delivery") for e in item[record.MESSAGES]] == ["unknown"]
    assert world.channel.accepted == []
    assert world.queue.messages == {}


async def test_a_word_of_a_newer_version_is_recorded_and_the_messages_are_answered() -> None:
    """Its outbox settles no message."""
    world = World()
    world.converse()
    await world.webhook()(message(1))
    world.item()[record.OUTBOX] = {
        "turn_id": "turn-1",
        "kind": "a kind of a later version",
        "seqs": [],
        "entries": [{"role": "assistant", "content": "perhaps", "turn_id": "turn-1"}],
        "at": world.clock.now(),
    }
    async with world.running():
        await asyncio.sleep(30)
    assert [(e["role"], e.get("delivery")) for e in world.item()[record.MESSAGES]] == [
        ("assistant", "unknown"),
        ("user", None),
        ("assistant", "accepted"),
    ]
    assert record.OUTBOX not in world.item()
    assert len(world.channel.accepted) == 1
    assert world.queue.messages == {}


async def test_what_another_version_keeps_in_the_record_is_left_alone() -> None:
    world = World()
    later: dict[str, Any] = {"reply_later": {"a": [1, 2]}, "later": "x"}
    world.converse(**later)
    async with world.running() as worker:
        await worker.accept(message(1))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert {name: world.item()[name] for name in later} == later
