"""Secrets that lie elsewhere."""

from typing import Protocol


class Secrets(Protocol):
    async def get(self, name: str) -> str:
        """The text of a secret, by its name or ARN. Raises Temporary, Busy or DependencyDown when
        it cannot be read for now, Permanent, with a reason that follows the secret's name, for one
        that is missing, that we may not read or that is no text. Nothing is changed."""
        ...
