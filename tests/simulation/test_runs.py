"""Runs of the protocol as shipped: no promise breaks, and a seed is a run."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from replyd import cli
from replyd.simulation.trace import render
from replyd.simulation.world import run

# A slice: `replyd simulate --seeds 1000` goes further. That runs find bugs is test_mutants.py's.
SEEDS = range(24)


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_no_promise_breaks(workers: int | None) -> None:
    seeds = SEEDS if workers is None else SEEDS[:8]
    broken = [
        f"seed {seed}: {violation}" for seed in seeds for violation in run(seed, workers).violations
    ]
    assert broken == []


def test_the_runs_are_worth_having() -> None:
    reports = [run(seed) for seed in SEEDS[:10]]
    assert sum(r.turns for r in reports) > 150
    injected = sum((r.injected for r in reports), Counter[str]())
    assert {"kill -9", "store twice", "queue duplicate", "channel ambiguous_accepted"} <= set(
        injected
    )


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = run(3), run(3), run(4)
    assert first.lines == again.lines
    assert first.digest == again.digest != other.digest


def test_another_process_runs_it_alike() -> None:
    """Nothing depends on the order of sets or on addresses in memory."""
    script = "from replyd.simulation.world import run; print(run(5).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert digests == {run(5).digest}


def test_the_timeline_says_who_did_what_and_when() -> None:
    report = run(3, 2)
    shown = list(render(report.lines, {"c-01"}))
    assert any("customer" in line and "writes" in line for line in shown)
    assert any("i1.1" in line for line in shown)
    assert not any("c-02" in line for line in shown)


def test_the_command_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seed", "3", "--seeds", "2", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "2 seeds, 32 conversations" in printed
    assert "no promise was broken" in printed


def test_the_command_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seed", "3", "--workers", "2", "--timeline"]) == 0
    assert run(3, 2).digest in capsys.readouterr().out
