"""Requests to DynamoDB and SQS without what botocore does around each: looking for the endpoint,
checking parameters and answers against the service's description, and a dozen events. That takes
two thirds of the CPU time of a request, see docs/performance.md.

Credentials, region, endpoint and the services' names are still the SDK's, and its errors.
"""

import base64
import hashlib
import hmac
import json
import ssl
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import aiohttp
import yarl
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.utils import get_environ_proxies

from replyd import __version__

# What messages and turns need. None of them has times in its answer, which the SDK would convert.
OPERATIONS = frozenset(
    {
        "ChangeMessageVisibilityBatch",
        "DeleteItem",
        "DeleteMessageBatch",
        "GetItem",
        "GetQueueAttributes",
        "PutItem",
        "Query",
        "ReceiveMessage",
        "SendMessage",
        "SendMessageBatch",
        "UpdateItem",
    }
)
# As aiobotocore's: DynamoDB closes idle connections after some 15 to 20 s.
_KEEPALIVE_SECONDS = 12.0


class DirectClient:
    """In the place of an aiobotocore client, whose methods it has: those of `OPERATIONS` are its
    own, with the same arguments, answers and errors, all others are the client's. Binary values
    come as DynamoDB's JSON has them, in base64.

    Opens its own connection pool; `connections`: callers wait without a limit when it is empty.
    Timeouts are in seconds."""

    def __init__(
        self,
        client: Any,
        session: Any,
        *,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
    ) -> None:
        description = client.meta.service_model
        self._client = client
        self._session = session
        self._url = yarl.URL(client.meta.endpoint_url.rstrip("/") + "/", encoded=True)
        self._target = description.metadata["targetPrefix"]
        self._signer = Signer(
            host=self._url.raw_authority,
            path=self._url.raw_path,
            region=client.meta.region_name,
            service=description.signing_name,
            content_type=f"application/x-amz-json-{description.metadata['jsonVersion']}",
        )
        bundle = session.get_config_variable("ca_bundle")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                ssl=_trusting(bundle) if bundle else True,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout, sock_read=read_timeout
            ),
            headers={"User-Agent": f"replyd/{__version__}", "Accept-Encoding": "identity"},
            # Once: aiohttp would ask the environment, and .netrc, in a thread for each request.
            proxy=get_environ_proxies(client.meta.endpoint_url).get(self._url.scheme),
        )

    def __getattr__(self, name: str) -> Any:
        operation = self._client.meta.method_to_api_mapping.get(name)
        if operation not in OPERATIONS:
            return getattr(self._client, name)
        method = partial(self._request, operation)
        setattr(self, name, method)
        return method

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _request(self, operation: str, **parameters: Any) -> Any:
        body = json.dumps(parameters, default=_base64).encode()
        credentials = await self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        # Refreshed when they are about to expire.
        frozen = await credentials.get_frozen_credentials()
        headers = self._signer.headers(
            frozen, f"{self._target}.{operation}", body, datetime.now(UTC)
        )
        try:
            async with self._http.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _as_botocore(error, str(self._url)) from error
        if response.status != 200:
            raise ClientError(_failure(response, text), operation)
        try:
            return json.loads(text)
        except ValueError as error:
            raise HTTPClientError(error=error) from error


class Signer:
    """Signature Version 4 of a POST,
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
    botocore's can sign any request, and takes several times as long."""

    def __init__(
        self, *, host: str, path: str, region: str, service: str, content_type: str
    ) -> None:
        self._host = host
        self._path = path
        self._region = region
        self._service = service
        self._content_type = content_type
        # A key is good for a day, of UTC.
        self._key_of: tuple[str, str] = ("", "")
        self._key = b""

    def headers(self, credentials: Any, target: str, body: bytes, now: datetime) -> dict[str, str]:
        """All headers that the signature covers, and the signature. `credentials`: frozen ones of
        botocore's."""
        time = now.strftime("%Y%m%dT%H%M%SZ")
        day = time[:8]
        # In the order of the alphabet.
        signed = {
            "content-type": self._content_type,
            "host": self._host,
            "x-amz-date": time,
        }
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        signed["x-amz-target"] = target
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}"
        key = self._signing_key(credentials.secret_key, day)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def _signing_key(self, secret: str, day: str) -> bytes:
        if self._key_of != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of, self._key = (secret, day), key
        return self._key


@cache
def _trusting(bundle: str) -> ssl.SSLContext:
    """One for all clients: to read a hundred certificates takes 50 ms of CPU."""
    return ssl.create_default_context(cafile=bundle)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"AWS's JSON has no type for {type(value).__name__}")


def _failure(response: aiohttp.ClientResponse, text: bytes) -> dict[str, Any]:
    """What botocore makes of an error's answer,
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    # SQS's codes of old, "AWS.SimpleQueueService.NonExistentQueue;Sender".
    old = response.headers.get("x-amzn-query-error", "").partition(";")[0]
    kind = str(body.get("__type", "")).rpartition("#")[2].partition(":")[0]
    error = {
        "Code": old or kind or str(response.status),
        "Message": str(body.get("message") or body.get("Message") or response.reason or ""),
    }
    return {**body, "Error": error, "ResponseMetadata": {"HTTPStatusCode": response.status}}


# The first that fits.
_ERRORS = (
    (aiohttp.ClientSSLError, SSLError),
    (aiohttp.ConnectionTimeoutError, ConnectTimeoutError),
    (TimeoutError, ReadTimeoutError),
    (aiohttp.ClientConnectorError, EndpointConnectionError),
    (Exception, ConnectionClosedError),
)


def _as_botocore(error: Exception, url: str) -> BotoCoreError:
    meaning = next(meaning for kind, meaning in _ERRORS if isinstance(error, kind))
    translated: BotoCoreError = meaning(endpoint_url=url, error=error)
    return translated
