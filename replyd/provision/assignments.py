"""Which assistants and profiles the conversations name that the settings do not know."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replyd.domain.address import masked
from replyd.errors import DependencyError
from replyd.ports import WholeTable
from replyd.provision.results import CheckResult
from replyd.settings import Ai

# A scan is paid by what it reads.
MOST_ITEMS = 10_000
MOST_SHOWN = 10

ASSISTANTS, PROFILES = "assistant ids in the table", "profiles in the table"

_MAP = "add each to ai.assistants.map; until then the default profile answers"
_LONGEST = 64
_NUMBER = re.compile(r"(?:whatsapp:)?\+?[0-9][0-9 ()-]{6,}")


def knows_assistants(ai: Ai) -> bool:
    """Whether the settings speak of assistants, so that conversations may name some."""
    profiles = [ai.profile(name) for name in ("", *ai.names())]
    return bool(ai.assistants.map) or any(p.backend == "assistants" for p in profiles)


async def about_assignments(ai: Ai, table: WholeTable, timeout: float) -> list[CheckResult]:
    """Reads the table for at most `timeout` seconds. Advice only: the default profile answers all
    of these conversations, and whoever serves need not be allowed to scan."""
    seen, failure = _Seen(ai), None
    try:
        async with asyncio.timeout(timeout):
            complete = await seen.all_of(table)
    except TimeoutError:
        complete = False
    except DependencyError as error:
        failure = error.reason
    if failure is not None:
        mend = "run it where dynamodb:Scan is allowed, as operators may; serving does not need it"
        return [
            CheckResult(name, True, f"not read: {failure}", mend) for name in (ASSISTANTS, PROFILES)
        ]
    of = f"of {seen.items:,} items" if complete else f"of the first {seen.items:,} items"
    attribute = f'the attribute "{ai.profile_attribute}" of these records'
    return [
        _row(ASSISTANTS, seen.assistants, of, _MAP),
        _row(PROFILES, seen.profiles, of, f"add [ai.profiles.<name>], or mend {attribute}"),
    ]


@dataclass(slots=True)
class _Seen:
    """Numbers of conversations, by what each one names in vain."""

    ai: Ai
    items: int = 0
    assistants: Counter[str] = field(default_factory=Counter)
    profiles: Counter[str] = field(default_factory=Counter)

    async def all_of(self, table: WholeTable) -> bool:
        """Whether that was the whole table."""
        async for page in table.pages():
            room = MOST_ITEMS - self.items
            for _, item in page.items[:room]:
                self._see(item)
            if len(page.items) > room:
                return False
        return True

    def _see(self, item: Mapping[str, Any]) -> None:
        self.items += 1
        profile = _text(item.get(self.ai.profile_attribute))
        if profile in self.ai.profiles:
            return  # It goes before the assistant.
        if profile:
            self.profiles[profile] += 1
        assistant = _text(item.get(self.ai.assistants.attribute))
        by_default = self.ai.assistant_id if self.ai.backend == "assistants" else ""
        if assistant not in ("", by_default) and assistant not in self.ai.assistants.map:
            self.assistants[assistant] += 1


def _row(name: str, unknown: Counter[str], of: str, mend: str) -> CheckResult:
    if not unknown:
        return CheckResult(name, True, f"none unknown, {of}")
    shown = [
        f"{_shown(value)}: {_conversations(n)}" for value, n in unknown.most_common(MOST_SHOWN)
    ]
    if more := len(unknown) - len(shown):
        shown.append(f"and {more} more")
    found = "unknown, " + "\n".join([f"{of}:", *shown])
    return CheckResult(name, True, found, mend)


def _conversations(number: int) -> str:
    return f"{number:,} conversation{'' if number == 1 else 's'}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: str) -> str:
    """Whoever writes the records may have put anything there."""
    if _NUMBER.fullmatch(value):
        return masked(value)
    plain = value if value.isprintable() else ascii(value)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"
