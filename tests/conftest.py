"""What tests of every kind share."""

import asyncio
from collections.abc import Iterator

import pytest

from replyd.demo.local_aws import LocalAws


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """The endpoint URL of an SQS and DynamoDB that all tests of the session share: use names of
    your own."""
    # A loop factory keeps the loop that pytest-asyncio has set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        aws = LocalAws()
        runner.run(aws.__aenter__())
        try:
            yield aws.endpoint_url
        finally:
            runner.run(aws.__aexit__(None, None, None))
