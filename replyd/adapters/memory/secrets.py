"""Secrets in memory."""

import asyncio
from dataclasses import dataclass, field

from replyd.errors import DependencyError, Permanent


@dataclass(slots=True)
class MemorySecrets:
    """Hands out `texts` by name after `seconds`; `failures` are raised first, in order. `asked`:
    the names of all that were looked up."""

    texts: dict[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    failures: list[DependencyError] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def get(self, name: str) -> str:
        self.asked.append(name)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if name not in self.texts:
            raise Permanent("secretsmanager", "does not exist", code="ResourceNotFoundException")
        return self.texts[name]
