"""The rows of docs/dependencies.md, as it has them and as they were observed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.outages.world import Observed
from tests.support.fault_proxy import DEPENDENCIES, MODES, Dependency, Mode

PAGE = Path(__file__).parents[2] / "docs" / "dependencies.md"
HEAD = (
    "dependency",
    "for a minute",
    "webhook",
    "/readyz",
    "turns",
    "the customer gets",
    "recovery",
)
# What the page speaks of: finer for webhooks, where the page promises the most.
_WEBHOOK_SECONDS = (1, 10)
_SECONDS = (5, 10, 20, 40, 60, 90)
_IN_TIME_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Row:
    dependency: Dependency
    mode: Mode
    said: tuple[str, ...]


def rows(page: str) -> list[Row]:
    """Of the one table that has this head. Raises ValueError for a page without it."""
    lines = [
        tuple(cell.strip() for cell in line.strip().split("|")[1:-1]) for line in page.splitlines()
    ]
    found = []
    for cells in lines[lines.index(HEAD) + 2 :]:
        if not cells:
            break
        (dependency,) = (d for d in DEPENDENCIES if d == cells[0])
        (mode,) = (m for m in MODES if m == cells[1])
        found.append(Row(dependency, mode, cells[2:]))
    return found


def observed(seen: Observed) -> tuple[str, ...]:
    """What the page has to say of it."""
    recovery = max(seen.ready_after, seen.answered_after)
    in_time = seen.longest_wait <= _IN_TIME_SECONDS
    people = f", {seen.at_people} at people" if seen.at_people else ""
    return (
        _webhook(seen),
        ", ".join(_ready(seen)) or "ready",
        "go on" if seen.replies else "wait",
        ("its answer in time" if in_time else "its answer late") + people,
        _within(recovery),
    )


def _webhook(seen: Observed) -> str:
    statuses = {status for status, _ in seen.webhooks}
    if statuses == {200}:
        return "200"
    refused = [seconds for status, seconds in seen.webhooks if status != 200]
    names = "/".join(map(str, sorted(statuses - {200})))
    others = ", or 200" if 200 in statuses else ""
    return f"{names} {_within(max(refused), _WEBHOOK_SECONDS)}{others}"


def _ready(seen: Observed) -> Iterator[str]:
    for name, seconds in seen.ready.items():
        yield f"503 `{name}` {_within(seconds)}"


def _within(seconds: float, steps: tuple[int, ...] = _SECONDS) -> str:
    return f"within {next(step for step in steps if seconds <= step + 0.1)} s"
