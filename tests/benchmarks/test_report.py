"""What is printed and drawn is what was measured."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.benchmarks import results
from tests.benchmarks.curves import points
from tests.benchmarks.progress import Progress
from tests.benchmarks.report import markdown
from tests.benchmarks.results import Figure, Results


def _content(figures: list[Figure], samples: list[dict[str, Any]]) -> dict[str, Any]:
    found = Results(Console(file=io.StringIO()), quick=False, progress=Progress({}))
    found.add(figures)
    for sample in samples:
        found.keep("load", **sample)
    return found.content()


def _loads() -> Iterator[dict[str, Any]]:
    """Two loads with three repeats each, of two parties."""
    for party, slowness in (("replyd", 1.0), ("two_lambda", 2.0)):
        for share, rate in ((0.9, 90.0), (0.5, 50.0)):
            for repeat in range(3):
                added = [slowness * rate + repeat + n / 100 for n in range(100)]
                yield {"party": party, "share": share, "rate": rate, "added_ms": added}


def test_a_table_has_a_row_for_each_name_and_a_column_for_each_party() -> None:
    content = _content(
        [
            Figure.spread("CPU", "per turn", "floor", [10.0, 12.0, 11.0], "ms"),
            Figure.spread("CPU", "per turn", "replyd", [15.0, 15.5, 14.0], "ms", note="warm"),
            Figure.spread("CPU", "to floor", "replyd", [1.31, 1.5, 1.3], "×", at_most=1.3),
            Figure("idle", "start", "replyd", 1.2345, "s", at_most=1.5),
            Figure("idle", "a month", "replyd", 1234.5, "$"),
        ],
        [],
    )
    _, cpu, note, idle = markdown(content).removesuffix("\n").split("\n\n")
    assert cpu.splitlines() == [
        "| CPU | floor | replyd | goal |",
        "| --- | --- | --- | --- |",
        "| per turn | 11 ms [10, 12] | 15 ms [14, 15.5] |  |",
        "| to floor |  | 1.31 × [1.3, 1.5] | at most 1.3: **not met** |",
    ]
    assert note == "- per turn: replyd: warm"
    assert idle.splitlines()[2:] == [
        "| start | 1.23 s | at most 1.5: met |",
        "| a month | $1,234 |  |",
    ]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    figure = Figure.spread("CPU", "per turn", "floor", [10.0, 12.0], "ms", at_most=20.0)
    content = _content([figure], list(_loads()))
    results.write(content, tmp_path / "figures.json")
    found = results.read(tmp_path / "figures.json")
    assert found == content
    assert markdown(found) == markdown(content)


def test_a_curve_has_a_point_for_each_load_in_the_middle_of_its_repeats() -> None:
    content = _content([], list(_loads()))
    assert points(content, "replyd", 0.5) == [(50.0, 51.49), (90.0, 91.49)]
    assert points(content, "two_lambda", 0.99) == [(50.0, 101.98), (90.0, 181.98)]
    assert points(content, "floor", 0.5) == []


def test_the_same_figures_are_the_same_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: the extra `bench`")
    from tests.benchmarks.plot import draw  # noqa: PLC0415 - needs what may not be there

    content = _content([], list(_loads()))
    images = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for image in images:
        draw(content, image)
    first, second = (image.read_text() for image in images)
    assert first == second
    assert "messages a second, one core" in first
    assert "two_lambda p99" in first
    assert "<dc:date>" not in first


def test_progress_counts_what_is_left() -> None:
    clock = [100.0]
    progress = Progress({"cpu": 60.0, "idle": 300.0}, lambda: clock[0])
    assert progress.remaining() == 360
    progress.begin("cpu")
    clock[0] += 45
    assert (progress.elapsed(), progress.remaining()) == (45, 315)
    clock[0] += 30
    assert progress.line() == " 1:15,  5 min left"
    progress.begin("idle")
    assert progress.remaining() == 300
