"""Breadth first over all states within bounds: safety in each, and a way from each to rest."""

import gc
import time
from array import array
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from tests.model import safety
from tests.model.bounds import Bounds
from tests.model.state import State
from tests.model.world import World


@dataclass
class Report:
    """`complete`: nothing was cut off. `trace`: the shortest way to a violation, if there is
    one."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    settled: int = 0
    seconds: float = 0.0
    complete: bool = True
    violation: str = ""
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = (
            f"{self.states:,} states, {self.transitions:,} transitions, {self.settled:,} settled"
        )
        lines = [f"{counts}, {self.seconds:.1f} s{'' if self.complete else ', NOT COMPLETE'}"]
        if self.violation:
            lines += [f"VIOLATION: {self.violation}", *self.trace]
        return "\n".join(lines)


class Explorer:
    def __init__(self, bounds: Bounds) -> None:
        self._world = World(bounds)
        self._report = Report(bounds)
        self._numbers: dict[State, int] = {}
        self._waiting: deque[State] = deque()
        self._parents = array("q")
        # Transitions that are no faults, for the way to rest.
        self._from, self._to = array("l"), array("l")
        self._settled: list[int] = []

    def run(self) -> Report:
        began, report = time.monotonic(), self._report
        self._reach(self._world.canonical(self._world.first()), -1)
        limit = report.bounds.max_states
        while self._waiting and not report.violation:
            if limit and len(self._numbers) >= limit:
                report.complete = False
                break
            self._expand(self._waiting.popleft())
        report.states = len(self._numbers)
        report.settled = len(self._settled)
        if report.complete and not report.violation:
            self._find_the_stuck()
        report.seconds = time.monotonic() - began
        return report

    def _reach(self, state: State, parent: int) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._numbers)
            self._parents.append(parent)
            self._waiting.append(state)
            if self._world.settled(state):
                self._settled.append(number)
        return number

    def _expand(self, state: State) -> None:
        here, report = self._numbers[state], self._report
        try:
            safety.looked_after(state)
            safety.recorded(state.item, state.accepted)
            for _, fault, after in self._world.moves(state):
                there = self._reach(self._world.canonical(after), here)
                report.transitions += 1
                if not fault:
                    self._from.append(here)
                    self._to.append(there)
        except safety.Violation as violation:
            report.violation = str(violation)
            report.trace = self._way_to(here)

    def _find_the_stuck(self) -> None:
        """A state from which no fault-free way leads to rest."""
        count = len(self._numbers)
        starts = array("l", bytes(array("l").itemsize * (count + 1)))
        for there in self._to:
            starts[there + 1] += 1
        for number in range(count):
            starts[number + 1] += starts[number]
        before, place = array("l", self._from), array("l", starts)
        for here, there in zip(self._from, self._to, strict=True):
            before[place[there]] = here
            place[there] += 1
        reached, todo = bytearray(count), list(self._settled)
        for number in todo:
            reached[number] = 1
        while todo:
            there = todo.pop()
            for here in before[starts[there] : starts[there + 1]]:
                if not reached[here]:
                    reached[here] = 1
                    todo.append(here)
        if (stuck := reached.find(0)) >= 0:
            self._report.violation = "P5: nothing settles the conversation any more"
            self._report.trace = self._way_to(stuck)

    def _way_to(self, number: int) -> list[str]:
        """The labels are found again on the way: to keep them all would cost more."""
        way: list[int] = []
        while number >= 0:
            way.append(number)
            number = self._parents[number]
        wanted = set(way)
        states = {n: state for state, n in self._numbers.items() if n in wanted}
        state, lines = self._world.first(), list[str]()
        for here, there in pairwise(reversed(way)):
            # Workers keep their numbers while the state itself, not its canonical form, leads on.
            found = self._move(state, states[there])
            label, state = found or self._move(states[here], states[there]) or ("?", states[there])
            lines.append(f"{len(lines) + 1:3}. {label}{'' if found else ' (workers renumbered)'}")
        shown = zip(state._fields, state, strict=True)
        return lines + [f"     {name}: {value}" for name, value in shown if value]

    def _move(self, state: State, wanted: State) -> tuple[str, State] | None:
        with suppress(safety.Violation):
            for label, _, after in self._world.moves(state):
                if self._world.canonical(after) == wanted:
                    return label, after
        return None


def explore(bounds: Bounds) -> Report:
    # Nothing here is in a cycle; to look for one among a million states only takes time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return Explorer(bounds).run()
    finally:
        if collecting:
            gc.enable()
