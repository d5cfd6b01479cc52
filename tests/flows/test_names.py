"""A customer has a number and a business-scoped id, and may show either: one conversation."""

import asyncio
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import InboundMessage
from replyd.errors import Temporary
from tests.support.world import CUSTOMER, KEY, World, message

ID = "GB.aB3xyz"


def hidden(number: int) -> InboundMessage:
    """The customer shows the id alone."""
    return written(number, f"whatsapp:{ID}")


def both(number: int) -> InboundMessage:
    return written(number, f"whatsapp:{CUSTOMER}")


def written(number: int, sender: str) -> InboundMessage:
    sid = message(number).sid
    return message(number, sender=sender, params={"MessageSid": sid, "ExternalUserId": ID})


async def exchange(world: World, *messages: InboundMessage) -> list[str]:
    """To whom the replies went, a turn for each message."""
    async with world.running() as worker:
        for one in messages:
            await worker.accept(one)
            await asyncio.sleep(10)
    return [part.recipient for part in world.channel.accepted]


async def test_who_hides_the_number_goes_on_in_its_conversation() -> None:
    world = World()
    world.converse()
    to = await exchange(world, both(1), hidden(2), both(3))
    assert to == [f"whatsapp:{CUSTOMER}", f"whatsapp:{ID}", f"whatsapp:{CUSTOMER}"]
    assert [c for role, c in world.history() if role == "user"] == [
        f"message {n}" for n in (1, 2, 3)
    ]


async def test_who_shows_the_number_later_goes_on_in_the_ids_conversation() -> None:
    world = World()
    key = KEY.__class__(ID, "c-1")
    world.converse(key)
    to = await exchange(world, hidden(1), both(2))
    assert to == [f"whatsapp:{ID}", f"whatsapp:{CUSTOMER}"]
    assert len(world.history(key)) == 4


async def test_an_id_that_nobody_has_seen_is_unknown() -> None:
    world = World()
    world.converse()
    assert await exchange(world, hidden(1)) == []
    assert record.PENDING not in world.item()


async def test_the_alias_is_put_once_in_both_directions() -> None:
    world = World()
    world.converse()
    put: list[str] = []
    put_side = world.store.put_side

    async def counted(name: str, *rest: Any, part: str = "") -> None:
        put.append(f"{name} {part}")
        await put_side(name, *rest, part=part)

    world.store.put_side = counted  # type: ignore[method-assign,assignment]
    await exchange(world, both(1), both(2), both(3))
    assert put == [f"alias#{CUSTOMER} {ID}", f"alias#{ID} "]


async def test_an_alias_that_cannot_be_put_costs_no_message() -> None:
    world = World()
    world.converse()

    async def failing(*_rest: Any, **_more: Any) -> None:
        raise Temporary("dynamodb", "throttled")

    world.store.put_side = failing  # type: ignore[method-assign]
    assert len(await exchange(world, both(1))) == 1


@pytest.mark.parametrize("said_by", [both, hidden])
async def test_stop_holds_under_either_name(said_by: Any) -> None:
    world = World()
    world.converse()
    await exchange(world, both(1))
    world.channel.accepted.clear()
    stop = said_by(2)
    stop = InboundMessage(**{f: getattr(stop, f) for f in stop.__slots__} | {"body": "STOP"})
    assert await exchange(world, stop, both(3), hidden(4)) == []
    assert record.OPTED_OUT in world.item()
