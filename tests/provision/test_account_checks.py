"""What `replyd check` says of accounts whose tokens are in secrets."""

from collections.abc import AsyncIterator, Iterator

import pytest
from moto.server import ThreadedMotoServer

from replyd.demo.openai_double import OpenAIDouble
from replyd.demo.twilio_double import TwilioDouble
from replyd.provision import exit_code
from tests.contract.conftest import client
from tests.provision.test_ai_checks import KEY, Place

ACCOUNT, OTHER = "AC" + "1" * 32, "AC" + "2" * 32
TOKEN = "t0ken-in-a-secret"
ROWS = ("Twilio AC11…1111", "Twilio AC22…2222")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with OpenAIDouble(api_key=KEY) as openai:
        yield Place(openai)


async def test_each_account_has_a_row_wherever_its_token_is(
    place: Place, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto)
    async with (
        client("secretsmanager", moto) as aws,
        TwilioDouble(account_sid=ACCOUNT, auth_token=TOKEN) as twilio,
    ):
        await aws.create_secret(Name=f"twilio/{ACCOUNT}", SecretString=TOKEN)
        rows = await place.check(
            aws={"region": "us-east-1"},
            twilio={
                "base_url": twilio.base_url,
                "secret_name": "twilio/{account_sid}",
                "account_sids": [ACCOUNT, OTHER],
            },
        )
    ours, theirs = (rows[name] for name in ROWS)
    assert (ours.ok, ours.found) == (True, "credentials are valid")
    assert not theirs.ok
    assert "the secret with the account's auth token: does not exist" in theirs.found
    assert "in its secret" in theirs.mend
    assert exit_code(list(rows.values())) == 69
    assert TOKEN not in repr(rows)
