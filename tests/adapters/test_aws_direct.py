"""Requests that go past the SDK are those that the SDK would make, and fail as its own do."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from replyd.adapters.aws_direct import DirectClient, Signer

CREDENTIALS = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
OF_A_ROLE = CREDENTIALS._replace(token="a/session+token==")


def signed_by_botocore(
    credentials: ReadOnlyCredentials, url: str, headers: dict[str, str], body: bytes, now: datetime
) -> str:
    class AtThatTime(SigV4Auth):  # type: ignore[misc]  # botocore has no types
        def add_auth(self, request: Any) -> None:
            request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
            request.headers["X-Amz-Date"] = request.context["timestamp"]
            if credentials.token:
                request.headers["X-Amz-Security-Token"] = credentials.token
            canonical = self.canonical_request(request)
            signature = self.signature(self.string_to_sign(request, canonical), request)
            self._inject_signature_to_request(request, signature)

    request = AWSRequest("POST", url, headers=headers, data=body)
    AtThatTime(credentials, "dynamodb", "eu-west-1").add_auth(request)
    authorization: str = request.headers["Authorization"]
    return authorization


@settings(derandomize=True, max_examples=50)
@given(
    body=st.binary(max_size=200),
    when=st.datetimes(timezones=st.just(UTC)),
    credentials=st.sampled_from([CREDENTIALS, OF_A_ROLE]),
    path=st.sampled_from(["/", "/behind/a/gateway/"]),
)
def test_the_signature_is_botocores(
    body: bytes, when: datetime, credentials: ReadOnlyCredentials, path: str
) -> None:
    target, kind = "DynamoDB_20120810.UpdateItem", "application/x-amz-json-1.0"
    signer = Signer(
        host="aws.example:8443",
        path=path,
        region="eu-west-1",
        service="dynamodb",
        content_type=kind,
    )
    # The second one has its key at hand.
    for _ in range(2):
        headers = signer.headers(credentials, target, body, when)
        assert headers["authorization"] == signed_by_botocore(
            credentials,
            f"https://aws.example:8443{path}",
            {"X-Amz-Target": target, "Content-Type": kind},
            body,
            when,
        )


def test_a_key_is_good_for_its_day_and_its_secret() -> None:
    def signed(signer: Signer, secret: str, day: int) -> str:
        credentials = CREDENTIALS._replace(secret_key=secret)
        return signer.headers(credentials, "t", b"", datetime(2026, 1, day, tzinfo=UTC))[
            "authorization"
        ]

    def fresh() -> Signer:
        return Signer(host="h", path="/", region="r", service="s", content_type="c")

    used = fresh()
    for secret, day in (("one", 1), ("one", 2), ("two", 2), ("one", 1)):
        assert signed(used, secret, day) == signed(fresh(), secret, day)


class Answers:
    """A server that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"{}", dict[str, str]()
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers), await request.read()))
        if self.status == 0:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=self.status or 500, body=self.body, headers=self.headers)


@pytest.fixture
async def answers() -> AsyncIterator[tuple[Answers, str]]:
    app, served = web.Application(), Answers()
    app.router.add_route("*", "/{path:.*}", served.answer)
    async with TestServer(app) as server:
        yield served, str(server.make_url("/"))


class Opened:
    """A direct client and the SDK's, of the same service at the same address."""

    def __init__(self, url: str, service: str = "dynamodb", read_timeout: float = 5) -> None:
        self._url, self._service, self._timeout = url, service, read_timeout
        self._session = get_session()
        self._session.set_credentials("local", "local")

    async def __aenter__(self) -> tuple[Any, Any]:
        self._made = self._session.create_client(
            self._service,
            region_name="us-east-1",
            endpoint_url=self._url,
            config=AioConfig(retries={"total_max_attempts": 1}),
        )
        sdk = await self._made.__aenter__()
        self._direct = aclosing(
            DirectClient(
                sdk, self._session, connect_timeout=1, read_timeout=self._timeout, connections=2
            )
        )
        return await self._direct.__aenter__(), sdk

    async def __aexit__(self, *reason: Any) -> None:
        await self._direct.__aexit__(*reason)
        await self._made.__aexit__(*reason)


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "ä"}}, "ConsistentRead": True}),
    ("dynamodb", "put_item", {"TableName": "t", "Item": {"k": {"S": "x"}, "b": {"B": b"\0\xff"}}}),
    ("dynamodb", "delete_item", {"TableName": "t", "Key": {"k": {"N": "1"}}}),
    ("sqs", "send_message", {"QueueUrl": "http://q/1/q", "MessageBody": "é", "DelaySeconds": 3}),
    ("sqs", "receive_message", {"QueueUrl": "http://q/1/q", "WaitTimeSeconds": 0}),
]


@pytest.mark.parametrize(("service", "method", "arguments"), CALLS, ids=[c[1] for c in CALLS])
async def test_a_request_is_the_one_that_the_sdk_makes(
    answers: tuple[Answers, str], service: str, method: str, arguments: dict[str, Any]
) -> None:
    served, url = answers
    async with Opened(url, service) as (direct, sdk):
        assert await getattr(direct, method)(**arguments) == {}
        await getattr(sdk, method)(**arguments)
    (path, headers, body), (sdk_path, sdk_headers, sdk_body) = served.asked
    assert path == sdk_path
    assert json.loads(body) == json.loads(sdk_body)
    for name in ("Host", "X-Amz-Target", "Content-Type"):
        assert {n.lower(): v for n, v in headers.items()}[name.lower()] == sdk_headers[name]


async def test_what_is_not_its_own_is_the_sdks(answers: tuple[Answers, str]) -> None:
    served, url = answers
    served.body = b'{"Table": {"CreationDateTime": 1}}'
    async with Opened(url) as (direct, _):
        described = await direct.describe_table(TableName="t")
        assert isinstance(described["Table"]["CreationDateTime"], datetime)
        with pytest.raises(AttributeError):
            _ = direct.no_such_method


ERRORS: list[tuple[str, int, bytes, dict[str, str], str]] = [
    ("dynamodb", 400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException"}', {}, ""),
    (
        "dynamodb",
        400,
        b'{"__type":"x#ConditionalCheckFailedException","message":"no","Item":{"k":{"S":"x"}}}',
        {},
        "",
    ),
    (
        "sqs",
        400,
        b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no"}',
        {"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"},
        "",
    ),
    ("dynamodb", 500, b'{"__type":"x#InternalServerError"}', {}, ""),
    ("dynamodb", 503, b"", {}, ""),
    ("dynamodb", 502, b"<html>Bad gateway</html>", {}, "502"),
    ("dynamodb", 400, b"[1]", {}, "400"),
]


@pytest.mark.parametrize(("service", "status", "body", "headers", "code"), ERRORS)
async def test_an_error_is_the_sdks(
    answers: tuple[Answers, str],
    service: str,
    status: int,
    body: bytes,
    headers: dict[str, str],
    code: str,
) -> None:
    served, url = answers
    served.status, served.body, served.headers = status, body, headers
    method, arguments = (
        ("get_item", {"TableName": "t", "Key": {"k": {"S": "x"}}})
        if service == "dynamodb"
        else ("send_message", {"QueueUrl": "http://q/1/q", "MessageBody": "x"})
    )
    async with Opened(url, service) as (direct, sdk):
        with pytest.raises(ClientError) as raised:
            await getattr(direct, method)(**arguments)
        mine = raised.value.response
        if not code:
            with pytest.raises(ClientError) as raised:
                await getattr(sdk, method)(**arguments)
            theirs = raised.value.response
            assert mine["Error"]["Code"] == theirs["Error"]["Code"]
            assert mine.get("Item") == theirs.get("Item")
            code = theirs["Error"]["Code"]
    assert mine["Error"]["Code"] == code
    assert mine["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_connections_that_fail(answers: tuple[Answers, str]) -> None:
    served, url = answers
    key = {"TableName": "t", "Key": {"k": {"S": "x"}}}
    async with Opened(url) as (direct, _):
        served.status = 0
        with pytest.raises(ConnectionClosedError):
            await direct.get_item(**key)
        served.status, served.body = 200, b"<html>a captive portal</html>"
        with pytest.raises(HTTPClientError):
            await direct.get_item(**key)
    async with Opened("http://127.0.0.1:1") as (direct, _):
        with pytest.raises(EndpointConnectionError):
            await direct.get_item(**key)


async def test_a_server_that_does_not_answer_in_time() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "9"})
        await response.prepare(request)
        await response.write(b"{")
        await request.read()
        return response

    app = web.Application()
    app.router.add_route("*", "/", silent)
    async with (
        TestServer(app) as server,
        Opened(str(server.make_url("/")), read_timeout=0.05) as (
            direct,
            _,
        ),
    ):
        with pytest.raises((ReadTimeoutError, ConnectionClosedError)):
            await direct.get_item(TableName="t", Key={"k": {"S": "x"}})


async def test_without_credentials_nothing_is_sent(
    answers: tuple[Answers, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, url = answers
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    opened = Opened(url)
    opened._session = get_session()
    async with opened as (direct, _):
        with pytest.raises(NoCredentialsError):
            await direct.get_item(TableName="t", Key={"k": {"S": "x"}})
    assert served.asked == []


async def test_a_proxy_of_the_environment_is_used(
    answers: tuple[Answers, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, url = answers
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with Opened("http://dynamodb.example") as (direct, _):
        await direct.get_item(TableName="t", Key={"k": {"S": "x"}})
    assert served.asked[0][1]["Host"] == "dynamodb.example"
