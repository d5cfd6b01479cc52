"""Figures, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.arithmetic import Spread

_PACKAGES = ("aiohttp", "aiobotocore", "botocore", "boto3", "openai", "twilio")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `low` and `high`: between which its repeats lay; `of`: how many
    repeats or samples it was taken from; `goal`: in words, empty for none."""

    group: str
    name: str
    party: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    of: int = 1
    goal: str = ""
    note: str = ""

    @classmethod
    def spread(
        cls, group: str, name: str, party: str, values: list[float], unit: str, **more: Any
    ) -> "Figure":
        found = Spread.of(values)
        return cls(
            group, name, party, found.median, unit, found.low, found.high, len(values), **more
        )


@dataclass(slots=True)
class Report:
    """All figures of a run."""

    console: Console
    quick: bool
    figures: list[Figure] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.console.print(
            f"[dim]{datetime.now(UTC):%H:%M:%S}[/dim] {text}", highlight=False, soft_wrap=True
        )

    def add(self, figures: Iterable[Figure]) -> None:
        self.figures += figures

    def table(self) -> Table:
        table = Table("figure", "party", "value", "from", "to", "of", "goal, notes", box=None)
        group = ""
        for figure in self.figures:
            if figure.group != group:
                group = figure.group
                table.add_section()
                table.add_row(f"[bold]{group}[/bold]")
            table.add_row(
                figure.name,
                figure.party,
                f"{_short(figure.value)} {figure.unit}",
                _short(figure.low),
                _short(figure.high),
                str(figure.of),
                "; ".join(filter(None, (figure.goal, figure.note))),
            )
        return table

    def write(self, path: Path) -> None:
        content = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": self.quick,
            "machine": machine(),
            "figures": [asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
