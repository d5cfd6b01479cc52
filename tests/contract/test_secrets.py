"""What every keeper of secrets does."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from replyd.adapters.memory.secrets import MemorySecrets
from replyd.adapters.secretsmanager import SecretsManager
from replyd.errors import Permanent
from replyd.ports import Secrets
from tests.contract.conftest import client

TEXT = "s3cret ☺\n"


@dataclass
class Keeper:
    """The port, and what its owner can do."""

    port: Secrets
    store: Callable[[str, str], Awaitable[object]]


@pytest.fixture(params=["memory", "moto"])
async def keeper(request: pytest.FixtureRequest) -> AsyncIterator[Keeper]:
    if request.param == "memory":
        twin = MemorySecrets()

        async def keep(name: str, text: str) -> None:
            twin.texts[name] = text

        yield Keeper(twin, keep)
        return
    async with client("secretsmanager", str(request.getfixturevalue("moto"))) as aws:
        known: set[str] = set()

        async def put(name: str, text: str) -> None:
            if name in known:
                await aws.put_secret_value(SecretId=name, SecretString=text)
            else:
                await aws.create_secret(Name=name, SecretString=text)
            known.add(name)

        yield Keeper(SecretsManager(aws), put)


def fresh() -> str:
    return f"replyd/{uuid.uuid4().hex}"


async def test_a_secret_is_read_as_it_was_stored(keeper: Keeper) -> None:
    name = fresh()
    await keeper.store(name, TEXT)
    for _ in range(2):
        assert await keeper.port.get(name) == TEXT


async def test_a_new_value_is_read_at_once(keeper: Keeper) -> None:
    name = fresh()
    await keeper.store(name, "old")
    assert await keeper.port.get(name) == "old"
    await keeper.store(name, "new")
    assert await keeper.port.get(name) == "new"


async def test_each_secret_is_its_own(keeper: Keeper) -> None:
    names = [fresh() for _ in range(8)]
    for name in names:
        await keeper.store(name, f"text of {name}")
    found = await asyncio.gather(*(keeper.port.get(name) for name in names))
    assert found == [f"text of {name}" for name in names]


async def test_a_secret_that_nobody_stored(keeper: Keeper) -> None:
    with pytest.raises(Permanent, match="does not exist") as caught:
        await keeper.port.get(fresh())
    assert (caught.value.dependency, caught.value.code) == (
        "secretsmanager",
        "ResourceNotFoundException",
    )


async def test_nothing_shows_a_secret(keeper: Keeper) -> None:
    name = fresh()
    await keeper.store(name, TEXT)
    await keeper.port.get(name)
    assert "s3cret" not in repr(keeper.port)
