"""Secrets that settings refer to, looked up before anything starts."""

import asyncio
from collections.abc import Collection

from replyd.adapters.secretsmanager import NAME, SecretsManager, open_secrets
from replyd.errors import DependencyDown, DependencyError
from replyd.settings.references import Found

LOOKUP_SECONDS = 10.0


def look_up(names: Collection[str], region: str) -> Found:
    """The texts of secrets in AWS Secrets Manager, or why they cannot be had; all at once, within
    10 s. For `settings.load`, before there is an event loop. `region`: empty leaves it to AWS's
    configuration."""
    return asyncio.run(_look_up(names, region))


async def _look_up(names: Collection[str], region: str) -> Found:
    failure: DependencyError
    try:
        async with asyncio.timeout(LOOKUP_SECONDS), open_secrets(region or None) as secrets:
            found = await asyncio.gather(*(_text(secrets, name) for name in names))
    except TimeoutError:
        failure = DependencyDown(NAME, f"no answer within {LOOKUP_SECONDS:g} s")
    except DependencyError as error:
        failure = DependencyDown(NAME, error.reason, code=error.code)
    else:
        return dict(zip(names, found, strict=True))
    return dict.fromkeys(names, failure)


async def _text(secrets: SecretsManager, name: str) -> str | DependencyError:
    try:
        return await secrets.get(name)
    except DependencyError as error:
        return error
