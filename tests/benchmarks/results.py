"""What a run of the bench found, as it is shown meanwhile and written as JSON."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks.arithmetic import Spread
from tests.benchmarks.progress import Progress

_PACKAGES = ("aiohttp", "aiobotocore", "botocore", "boto3", "openai", "twilio")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `low` and `high`: between which its repeats lay; `of`: how many repeats or
    samples it was taken from; `at_most`: its goal, None for none; `repeats`: the number in each."""

    group: str
    name: str
    party: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    of: int = 1
    at_most: float | None = None
    note: str = ""
    repeats: Sequence[float] = ()

    @classmethod
    def spread(
        cls, group: str, name: str, party: str, values: Sequence[float], unit: str, **more: Any
    ) -> "Figure":
        """The median of some repeats."""
        found, of = Spread.of(values), len(values)
        return cls(
            group,
            name,
            party,
            found.median,
            unit,
            found.low,
            found.high,
            of,
            repeats=values,
            **more,
        )


@dataclass(slots=True)
class Results:
    """`figures`: for the tables. `samples`: what they were computed from, by what was measured."""

    console: Console
    quick: bool
    progress: Progress
    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        self.console.print(
            f"[dim]{self.progress.line()}[/dim] {text}", highlight=False, soft_wrap=True
        )

    def add(self, figures: Iterable[Figure]) -> None:
        self.figures += figures

    def keep(self, kind: str, **sample: Any) -> None:
        """`sample`: as JSON has it."""
        self.samples.setdefault(kind, []).append(sample)

    def content(self) -> dict[str, Any]:
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": self.quick,
            "minutes": round(self.progress.elapsed() / 60, 1),
            "machine": machine(),
            "figures": [asdict(figure) for figure in self.figures],
            "samples": self.samples,
        }


def write(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def figures(content: dict[str, Any]) -> list[Figure]:
    return [Figure(**figure) for figure in content["figures"]]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
        "packages": {name: version(name) for name in _PACKAGES},
    }
