"""Clients of AWS: what they share."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiobotocore.credentials import AioEnvProvider
from botocore.loaders import JSONFileLoader

from replyd.adapters import aws


async def test_a_description_is_read_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    read, load_file = Counter[str](), JSONFileLoader.load_file

    def counted(self: Any, path: str) -> Any:
        data = load_file(self, path)
        # Most are looked for in several places.
        if data is not None:
            read[path] += 1
        return data

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    aws._loader.cache_clear()
    async with AsyncExitStack() as stack:
        for service in ("sqs", "dynamodb", "sqs"):
            await stack.enter_async_context(aws.create_client(service, region="eu-west-1"))
    assert any("/sqs/" in path for path in read)
    assert set(read.values()) == {1}


async def test_credentials_are_looked_up_once_for_clients_that_share_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups, load = Counter[str](), AioEnvProvider.load

    async def counted(self: Any) -> Any:
        lookups["environment"] += 1
        return await load(self)

    monkeypatch.setattr(AioEnvProvider, "load", counted)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    session = aws.create_session()
    async with AsyncExitStack() as stack:
        for service in ("sqs", "dynamodb"):
            await stack.enter_async_context(
                aws.create_client(service, region="eu-west-1", session=session)
            )
    assert lookups == {"environment": 1}
