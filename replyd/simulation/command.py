"""`replyd simulate`: many seeds, a closing summary, and a timeline of one."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from replyd.simulation.trace import render
from replyd.simulation.world import Report, run

OK = 0
BROKEN = 70

_SHOWN_VIOLATIONS = 3
_CHUNK = 8


@dataclass(slots=True)
class Summary:
    """What all seeds came to."""

    seeds: int = 0
    conversations: int = 0
    messages: int = 0
    turns: int = 0
    in_two_records: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    broken: int = 0

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.conversations += report.conversations
        self.messages += report.messages
        self.turns += report.turns
        self.in_two_records += report.in_two_records
        self.injected.update(report.injected)
        self.broken += bool(report.violations)

    def lines(self, seconds: float, jobs: int) -> Iterator[str]:
        rate = self.conversations / max(seconds, 1e-9)
        yield (
            f"{self.seeds} seeds, {self.conversations} conversations, {self.messages} messages, "
            f"{self.turns} turns in {seconds:.1f} s ({rate:.0f} conversations/s on {jobs} "
            f"{'core' if jobs == 1 else 'cores'})"
        )
        yield f"{self.injected.total()} faults injected:"
        for kind, count in sorted(self.injected.items()):
            yield f"  {count:>9}  {kind}"
        yield (
            f"{self.in_two_records} messages met the known gap: delivered twice while their "
            "customer got a second record, and taken by both"
        )
        if self.broken:
            yield f"{self.broken} seeds broke a promise"
        else:
            yield "no promise was broken"


def simulate(*, seed: int, seeds: int, workers: int | None, jobs: int | None) -> int:
    """Run `seeds` seeds from `seed` on; returns the exit code. `workers`: instances in each run,
    or None for 2 to 4 as the seed says; `jobs`: processes, or None for one per core."""
    jobs = min(jobs or os.cpu_count() or 1, seeds)
    summary, started = Summary(), time.monotonic()
    for report in _reports(range(seed, seed + seeds), workers, jobs):
        summary.add(report)
        if report.violations:
            _clear()
            print("\n".join(_complaint(report, workers)), flush=True)
        if summary.seeds % 10 == 0:
            _progress(summary, seeds, time.monotonic() - started)
    _clear()
    print("\n".join(summary.lines(time.monotonic() - started, jobs)))
    return BROKEN if summary.broken else OK


def timeline(*, seed: int, workers: int | None) -> int:
    """Run one seed and print all that happened; of a broken one, what concerns the
    conversations with violations."""
    report = run(seed, workers)
    # A record that the engine adds is named after the first one.
    names = {v.conversation.removesuffix("b") for v in report.violations}
    every = not names or "" in names or "?" in names
    shown: set[str] = set() if every else names | {f"{n}b" for n in names}
    print("\n".join(render(report.lines, shown)))
    print(f"\nseed {seed}, {report.workers} workers, trace {report.digest}")
    for violation in report.violations:
        print(violation)
    if not report.violations:
        print("no promise was broken")
    return BROKEN if report.violations else OK


def _reports(seeds: range, workers: int | None, jobs: int) -> Iterator[Report]:
    one = partial(_run, workers=workers)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, seeds, chunksize=_CHUNK)


def _run(seed: int, workers: int | None) -> Report:
    # The trace is large, and another run of the seed brings it back.
    return replace(run(seed, workers), lines=())


def _complaint(report: Report, workers: int | None) -> Iterator[str]:
    yield f"seed {report.seed}, {report.workers} workers:"
    for violation in report.violations[:_SHOWN_VIOLATIONS]:
        yield f"  {violation}"
    if (more := len(report.violations) - _SHOWN_VIOLATIONS) > 0:
        yield f"  and {more} more"
    fixed = f" --workers {workers}" if workers else ""
    yield f"  replay it: replyd simulate --seed {report.seed}{fixed} --timeline"


def _progress(summary: Summary, seeds: int, seconds: float) -> None:
    if sys.stderr.isatty():
        rate = summary.conversations / max(seconds, 1e-9)
        text = (
            f"\r{summary.seeds}/{seeds} seeds, {rate:.0f} conversations/s, {summary.broken} broken "
        )
        print(text, end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
