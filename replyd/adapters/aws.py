"""What the AWS adapters share: clients, the one layer of retries, and the translation of errors.

The SDK's own retries are off. What is sent through `call` is safe to repeat: a conditional update
whose first answer was lost is told from a refusal by what it reads back, a wake-up that is sent
twice costs time and nothing else.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Any, TypeAlias, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
)
from botocore.loaders import create_loader
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from replyd.adapters.aws_direct import DirectClient
from replyd.errors import Busy, DependencyDown, Permanent, ReplydError, Temporary

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 4.0
# Three tries of at most 7 s do not fit the webhook's 10 s; its own deadline ends them.
TRIES = 3

# What clients can share.
Session: TypeAlias = AioSession

_T = TypeVar("_T")

_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_SETUP = {
    "AWS.SimpleQueueService.NonExistentQueue": "the queue does not exist",
    "QueueDoesNotExist": "the queue does not exist",
    "ResourceNotFoundException": "the table or index does not exist",
    "AccessDenied": "the credentials may not do this",
    "AccessDeniedException": "the credentials may not do this",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "IncompleteSignature": "the credentials are not valid",
    "InvalidAccessKeyId": "the credentials are not valid",
    "InvalidClientTokenId": "the credentials are not valid",
    "InvalidSignatureException": "the credentials are not valid",
    "SignatureDoesNotMatch": "the credentials are not valid",
    "UnrecognizedClientException": "the credentials are not valid",
}


def create_session() -> Session:
    """For clients in one event loop. Those that share it look up credentials once, and refresh them
    once; each further client takes 15 ms less to make."""
    session = get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@asynccontextmanager
async def create_client(
    service: str,
    *,
    region: str | None = None,
    read_timeout: float = READ_TIMEOUT_SECONDS,
    connections: int = 50,
    direct: bool = False,
    session: Session | None = None,
) -> AsyncIterator[Any]:
    """A client of its own connection pool; endpoint and credentials by the SDK's usual chain.

    `connections`: callers wait without a limit when the pool is empty. `direct`: what messages and
    turns need goes past the SDK, see `aws_direct`. `session`: one of `create_session`, where
    several clients share it."""
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        # `total_max_attempts` counts the first try, `max_attempts` does not.
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    session = create_session() if session is None else session
    async with session.create_client(service, region_name=region, config=config) as client:
        if not direct:
            yield client
            return
        own = DirectClient(
            client,
            session,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=read_timeout,
            connections=connections,
        )
        async with aclosing(own):
            yield own


@cache
def _loader(data_path: str | None) -> Any:
    """Of the services' descriptions, megabytes of JSON, which each session would read anew."""
    return create_loader(data_path)


def translated(error: Exception, dependency: str) -> ReplydError:
    """What an SDK error means to us. Messages of AWS can quote values: only codes are kept."""
    if isinstance(error, ClientError):
        return _from_client_error(error, dependency)
    name = type(error).__name__
    if isinstance(error, NoCredentialsError | NoRegionError):
        return DependencyDown(dependency, "no AWS credentials or region are configured", code=name)
    if isinstance(error, ConnectTimeoutError | EndpointConnectionError):
        return DependencyDown(dependency, "cannot be reached", code=name)
    if isinstance(error, ReadTimeoutError):
        return Temporary(dependency, "did not answer in time", code=name)
    if isinstance(error, HTTPClientError):
        return Temporary(dependency, "the connection broke", code=name)
    return Permanent(dependency, "the SDK refused the call", code=name)


def _from_client_error(error: ClientError, dependency: str) -> ReplydError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED:
        return Busy(dependency, "throttles us", code=code)
    if code in _SETUP:
        return DependencyDown(dependency, _SETUP[code], code=code)
    if status >= 500:
        return Temporary(dependency, "failed on its side", code=code)
    return Permanent(dependency, "refused the request as invalid", code=code)


async def call(dependency: str, request: Callable[[], Awaitable[_T]]) -> _T:
    """Send a request that is safe to repeat; raises Temporary, Busy, DependencyDown, Permanent.

    ClientErrors that are answers and not failures are for `request` itself to catch."""

    async def translating() -> _T:
        try:
            return await request()
        except (BotoCoreError, ClientError) as error:
            raise translated(error, dependency) from error

    try:
        return await translating()
    except Temporary as error:
        failures = [error]

    async def next_try() -> _T:
        if failures:
            raise failures.pop()
        return await translating()

    # Made only now: it costs more than a request that succeeds does without it.
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(Temporary),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.05, max=0.5),
        reraise=True,
    )
    return await retrying(next_try)
