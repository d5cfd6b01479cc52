"""A moto server with stacks made from the template."""

import asyncio
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from tests.support.stack import Stack, deploy

SECRETS = (
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:replyd/*",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:openai-??????",
)
FOREIGN_TABLE = "arn:aws:dynamodb:eu-west-1:210987654321:table/crm"


@pytest.fixture(scope="package")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="package")
def stacks(moto: str) -> dict[str, Stack]:
    """By name, which is the prefix too: `made` has a table of its own, `named` uses the table
    `crm` and its index, and secrets, `foreign` one of another account by its ARN. All may
    list conversations."""

    async def deployed() -> dict[str, Stack]:
        listing = {"OperatorApi": "true"}
        index = {"LookupIndex": "by_phone", **listing}
        return {
            "made": await deploy(moto, "made", **listing),
            "named": await deploy(
                moto, "named", ExistingTable="crm", SecretArns=",".join(SECRETS), **index
            ),
            "foreign": await deploy(moto, "foreign", ExistingTable=FOREIGN_TABLE, **index),
        }

    # A loop factory keeps the loop that pytest-asyncio has set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(deployed())
