"""The secrets port on AWS Secrets Manager."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from replyd.adapters import aws
from replyd.errors import Permanent

NAME = "secretsmanager"

# What is not the service's failure but the secret's:
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
_REASONS: Mapping[str, str] = {
    "ResourceNotFoundException": "does not exist in this account and region, or has no value yet: "
    "check its name and aws.region",
    "AccessDeniedException": "may not be read: allow secretsmanager:GetSecretValue on it, and "
    "kms:Decrypt on its key if that is one of your own",
    "DecryptionFailure": "cannot be decrypted: check the KMS key that it is encrypted with",
    "InvalidRequestException": "cannot be read in its state: it may be scheduled for deletion",
    "InvalidParameterException": "has a name that AWS refuses: check it",
    "ValidationException": "has a name that AWS refuses: check it",
}

# The SDK writes the bodies of answers into its DEBUG log, and these are secrets.
logging.getLogger("botocore.parsers").setLevel(logging.INFO)


class SecretsManager:
    """Secrets of one account and region, in their current version."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, name: str) -> str:
        """The text of a secret: of at most 64 KiB, AWS's limit."""
        answer = await aws.call(NAME, partial(self._get, name))
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise Permanent(NAME, "holds bytes: store it as text", code="binary")
        return text

    async def _get(self, name: str) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = await self._client.get_secret_value(SecretId=name)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code not in _REASONS:
                raise
        else:
            return answer
        raise Permanent(NAME, _REASONS[code], code=code)


@asynccontextmanager
async def open_secrets(region: str | None = None) -> AsyncIterator[SecretsManager]:
    """`region`: None leaves it to AWS's configuration. Raises DependencyDown without one."""
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                aws.create_client("secretsmanager", region=region)
            )
        except BotoCoreError as error:
            failure = aws.translated(error, NAME)
        else:
            yield SecretsManager(client)
            return
    raise failure
