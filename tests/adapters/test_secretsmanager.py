"""AWS Secrets Manager: what its refusals mean, and that nothing shows a secret."""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from moto.server import ThreadedMotoServer

from replyd.adapters.aws import TRIES
from replyd.adapters.secretsmanager import SecretsManager, open_secrets
from replyd.errors import Busy, DependencyDown, DependencyError, Permanent, Temporary
from tests.contract.conftest import client

SECRET = "s3cret-value"
NAME = "replyd/openai"


@dataclass
class Aws:
    """Answers with `refusal`, an HTTP status and a code, and with a secret when there is none."""

    refusal: tuple[int, str] | None = None
    answer: dict[str, str] = field(default_factory=lambda: {"SecretString": SECRET})
    asked: int = 0

    async def __call__(self, _request: web.BaseRequest) -> web.Response:
        self.asked += 1
        if self.refusal is None:
            return web.json_response(self.answer, content_type="application/x-amz-json-1.1")
        status, code = self.refusal
        # AWS's sentences name what was asked for, and may quote more.
        body = {"__type": code, "Message": f"User arn:aws:iam::1:user/x and {SECRET}"}
        return web.json_response(body, status=status, content_type="application/x-amz-json-1.1")


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else can take it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def use(url: str) -> None:
        for name, value in {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture
async def secrets(aws: Aws, endpoint: Callable[[str], None]) -> AsyncIterator[SecretsManager]:
    runner = web.ServerRunner(web.Server(aws))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    endpoint(f"http://{host}:{port}")
    async with open_secrets("us-east-1") as made:
        yield made
    await runner.cleanup()


async def failure(secrets: SecretsManager) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        await secrets.get(NAME)
    error = caught.value
    assert error.dependency == "secretsmanager"
    for text in (str(error), repr(error)):
        assert SECRET not in text
        assert "arn:aws:iam" not in text
    return error


@pytest.mark.parametrize(
    ("status", "code", "kind", "word"),
    [
        (400, "ResourceNotFoundException", Permanent, "does not exist"),
        (400, "AccessDeniedException", Permanent, "secretsmanager:GetSecretValue"),
        (400, "DecryptionFailure", Permanent, "KMS"),
        (400, "InvalidRequestException", Permanent, "deletion"),
        (400, "InvalidParameterException", Permanent, "name"),
        (400, "ValidationException", Permanent, "name"),
        (400, "ThrottlingException", Busy, "throttles"),
        (400, "UnrecognizedClientException", DependencyDown, "credentials"),
        (400, "ExpiredTokenException", DependencyDown, "expired"),
        (500, "InternalServiceError", Temporary, "its side"),
    ],
)
async def test_what_a_refusal_means(
    aws: Aws,
    secrets: SecretsManager,
    status: int,
    code: str,
    kind: type[DependencyError],
    word: str,
) -> None:
    aws.refusal = status, code
    error = await failure(secrets)
    assert (type(error), error.code) == (kind, code)
    assert word in error.reason


async def test_what_is_the_secrets_own_fault_is_not_asked_again(
    aws: Aws, secrets: SecretsManager
) -> None:
    aws.refusal = 400, "AccessDeniedException"
    await failure(secrets)
    assert aws.asked == 1


async def test_a_failure_of_the_service_is_tried_again(aws: Aws, secrets: SecretsManager) -> None:
    aws.refusal = 500, "InternalServiceError"
    await failure(secrets)
    assert aws.asked == TRIES


async def test_bytes_are_no_secret_for_a_setting(aws: Aws, secrets: SecretsManager) -> None:
    aws.answer = {"SecretBinary": "czNjcmV0"}
    error = await failure(secrets)
    assert (type(error), error.code) == (Permanent, "binary")


async def test_the_sdk_logs_no_secret(
    secrets: SecretsManager, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert await secrets.get(NAME) == SECRET
    # The test can fail: the SDK logs at this level.
    assert any(record.name.startswith("botocore") for record in caplog.records)
    assert SECRET not in caplog.text


async def test_nobody_at_the_endpoint(endpoint: Callable[[str], None], closed_port: int) -> None:
    endpoint(f"http://127.0.0.1:{closed_port}")
    async with open_secrets("eu-west-1") as secrets:
        error = await failure(secrets)
    assert (type(error), error.reason) == (DependencyDown, "cannot be reached")


@pytest.mark.parametrize("region", [None, "no region!"])
async def test_without_a_region_the_error_says_so(
    region: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(DependencyError) as caught:
        async with open_secrets(region):
            pass
    assert caught.value.dependency == "secretsmanager"


# --- on moto -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_a_secret_by_its_arn(moto: str) -> None:
    async with client("secretsmanager", moto) as aws:
        made = await aws.create_secret(Name="replyd/by-arn", SecretString=SECRET)
        assert await SecretsManager(aws).get(made["ARN"]) == SECRET


async def test_a_secret_of_bytes(moto: str) -> None:
    async with client("secretsmanager", moto) as aws:
        await aws.create_secret(Name="replyd/bytes", SecretBinary=SECRET.encode())
        with pytest.raises(Permanent, match="bytes"):
            await SecretsManager(aws).get("replyd/bytes")


async def test_a_secret_that_was_deleted(moto: str) -> None:
    async with client("secretsmanager", moto) as aws:
        await aws.create_secret(Name="replyd/deleted", SecretString=SECRET)
        await aws.delete_secret(SecretId="replyd/deleted")
        with pytest.raises(Permanent, match="deletion"):
            await SecretsManager(aws).get("replyd/deleted")
