"""What a check has found, and how it is shown."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from replyd.errors import DependencyError, ReplydError

EXIT_OK, EXIT_DEPENDENCY, EXIT_SETTINGS = 0, 69, 78

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`found` says what is there, `mend` what to do: always when `ok` is false, and as advice when
    it is true. `about_settings`: a failure is one of the settings, not of a dependency."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    about_settings: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a dependency could not be looked at. `code`: the vendor's."""

    reason: str
    code: str = ""


async def outcome(timeout: float, finding: Callable[[], Awaitable[_T]]) -> _T | Failure:
    """What `finding` gives within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await finding()
    except TimeoutError:
        return Failure(f"no answer within {timeout:g} s")
    except DependencyError as error:
        shown = error.reason + (f" ({error.code})" if error.code not in error.reason else "")
        return Failure(shown, error.code)
    except ReplydError as error:
        return Failure(str(error))


def settings_result(problems: Sequence[str] = ()) -> CheckResult:
    """The row for the settings themselves; `problems` are a ConfigError's."""
    if problems:
        return CheckResult(
            "settings", False, "\n".join(problems), "mend each of these", about_settings=True
        )
    return CheckResult("settings", True, "valid", about_settings=True)


def exit_code(results: Sequence[CheckResult]) -> int:
    """78 when a setting is wrong, else 69 when a dependency is, else 0."""
    failed = [result for result in results if not result.ok]
    if any(result.about_settings for result in failed):
        return EXIT_SETTINGS
    return EXIT_DEPENDENCY if failed else EXIT_OK


def as_json(results: Sequence[CheckResult]) -> str:
    """For scripts."""
    rows = [
        {"check": r.name, "state": _state(r), "found": r.found, "mend": r.mend} for r in results
    ]
    return json.dumps({"exit_code": exit_code(results), "checks": rows}, indent=2)


def _state(result: CheckResult) -> str:
    if not result.ok:
        return "failed"
    return "advice" if result.mend else "ok"


_MARKS = {"failed": ("✗", "red"), "advice": ("!", "yellow"), "ok": ("✓", "green")}


def render(results: Sequence[CheckResult]) -> Table:
    table = Table("", "check", "found", "how to mend it", box=None, pad_edge=False)
    for result in results:
        mark = Text(*_MARKS[_state(result)])
        table.add_row(mark, result.name, Text(result.found), Text(result.mend))
    return table
