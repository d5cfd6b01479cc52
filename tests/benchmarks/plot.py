"""The added latency against the load, as docs/performance.md shows it:
`python -m tests.benchmarks.plot FILE IMAGE` draws it from what `python -m tests.benchmarks --json
FILE` wrote. Needs the extra `bench`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmarks import results
from tests.benchmarks.curves import Point, points
from tests.benchmarks.parties.started import FLOOR, REPLYD, TWO_LAMBDA

# Read on light and on dark pages alike: all stand out from white and from black.
_COLOURS = {REPLYD: "#0a8f6c", TWO_LAMBDA: "#d1662c", FLOOR: "#7d83c9"}
_INK = "#808080"
_LINES = {"p50": (0.5, "-"), "p99": (0.99, "--")}
_MIN_MS, _WIDTH, _HEIGHT = 1.0, 7.2, 4.2
# The same bytes from the same figures: no date, and ids from this instead of at random. Text stays
# text, in the page's own font.
_STYLE = {"svg.hashsalt": "replyd", "svg.fonttype": "none", "font.family": "sans-serif"}


def draw(content: dict[str, Any], image: Path) -> None:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        every: list[Point] = []
        for party, colour in _COLOURS.items():
            for label, (share, line) in _LINES.items():
                found = points(content, party, share)
                # The window and the timers of a loop are not exact to a millisecond.
                shown = [max(point.ms, _MIN_MS) for point in found]
                rates = [point.rate for point in found]
                every += found
                if found:
                    axes.plot(
                        rates, shown, line, color=colour, marker="o", label=f"{party} {label}"
                    )
        if not every:
            raise SystemExit("there are no figures of the latency in this file")
        axes.set_xlabel("messages a second, one core", color=_INK)
        axes.set_ylabel("added latency, ms", color=_INK)
        axes.set_xlim(left=0)
        if _decades(every) > 1:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.tick_params(which="both", colors=_INK)
        axes.grid(color=_INK, alpha=0.25)
        for spine in axes.spines.values():
            spine.set_color(_INK)
        place = "outside upper center"
        figure.legend(loc=place, labelcolor=_INK, frameon=False, ncols=len(_COLOURS))
        figure.savefig(image, format="svg", transparent=True, metadata={"Date": None})


def _decades(found: Sequence[Point]) -> float:
    values = [max(point.ms, _MIN_MS) for point in found]
    return max(values) / min(values) / 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plot", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("image", type=Path)
    options = parser.parse_args()
    draw(results.read(options.file), options.image)


if __name__ == "__main__":
    main()
