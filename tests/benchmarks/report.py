"""The tables of docs/performance.md: `python -m tests.benchmarks.report FILE` prints them from what
`python -m tests.benchmarks --json FILE` wrote."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.results import Figure


def markdown(content: dict[str, Any]) -> str:
    """All of them, each with its notes below."""
    figures = results.figures(content)
    groups = list(dict.fromkeys(figure.group for figure in figures))
    tables = [_table(group, [f for f in figures if f.group == group]) for group in groups]
    return "\n\n".join([_machine(content), *tables]) + "\n"


def _machine(content: dict[str, Any]) -> str:
    machine = content["machine"]
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    quick = "`--quick`, " if content["quick"] else ""
    return (
        f"{machine['cores']} cores, load average {machine['load_average']} at the end, Linux "
        f"{machine['kernel']}, Python {machine['python']}, {packages}; {quick}"
        f"{content['minutes']:.0f} minutes. Medians, in brackets the lowest and the highest repeat."
    )


def _table(group: str, figures: Sequence[Figure]) -> str:
    """A row for each name and a column for each party, and one for the goals if there are any."""
    parties = list(dict.fromkeys(figure.party for figure in figures))
    names = list(dict.fromkeys(figure.name for figure in figures))
    goals = any(figure.at_most is not None for figure in figures)
    header = [group, *parties, *(["goal"] if goals else [])]
    rows = [header, ["---"] * len(header)]
    for name in names:
        mine = {figure.party: figure for figure in figures if figure.name == name}
        row = [name, *(_cell(mine[p]) if p in mine else "" for p in parties)]
        rows.append([*row, *([_goals(mine.values())] if goals else [])])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    notes = _notes(figures)
    return "\n".join([*lines, "", *notes] if notes else lines)


def _notes(figures: Sequence[Figure]) -> list[str]:
    """A note that several rows have is said once."""
    about: dict[str, dict[str, None]] = {}
    for figure in figures:
        if figure.note:
            about.setdefault(f"{figure.party}: {figure.note}", {})[figure.name] = None
    return [f"- {'; '.join(names)}: {note}" for note, names in about.items()]


def _cell(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.unit == "$":
        return f"${shown(figure.value)}"
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return shown(figure.value) + unit
    return f"{shown(figure.value)}{unit} [{shown(figure.low)}, {shown(figure.high)}]"


def _goals(figures: Iterable[Figure]) -> str:
    return "; ".join(
        f"at most {shown(f.at_most)}: {'met' if f.value <= f.at_most else '**not met**'}"
        for f in figures
        if f.at_most is not None
    )


def shown(value: float) -> str:
    """With three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("file", type=Path)
    sys.stdout.write(markdown(results.read(parser.parse_args().file)))


if __name__ == "__main__":
    main()
