"""Clients of AWS: what they share."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
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
