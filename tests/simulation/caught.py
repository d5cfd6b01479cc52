"""The seed that showed each mutant last: tried first, so that the suite need not search.

A seed means another run once the simulation draws otherwise. Then the test searches again, and
passes, slower. `python -m tests.simulation.caught` searches them all and prints this table anew."""

import itertools
import sys
from collections.abc import Iterator

from replyd.simulation.world import World, run
from tests.simulation.mutants import MUTANTS, Mutant

# How many seeds a mutant gets to break a promise.
MOST = 200

BY: dict[str, int] = {
    "claim without its lease": 0,
    "claim without its unfinished": 0,
    "renew without its token": 22,
    "intend_reply without its token": 217,
    "intend_reply without its flag": 4,
    "intend_reply without its opt-out": 20,
    "intend_handoff without its head": 98,
    "arm without its flag": 18,
    "arm without its opt-out": 52,
    "commit without its delivery": 0,
    "commit_apology without its turn": 0,
    "take without its lease": 0,
    "arm_tool without its flag": 302,
    "arm_tool without its opt-out": 38,
    "arm_tool without its token": 686,
    "commit without token and turn": 19,
    "no fresh token": 3,
    "stage a SID again": 0,
    "commit settles all": 0,
    "a person leaves the flag": 2,
    "release drops the outbox": 10,
    "release forgets tools": 16,
    "wake-up deleted on receipt": 17,
    "acknowledged before the wake-up": 15,
    "ambiguous send repeated": 1,
    "the list shows nothing": 10,
    "cursor that jumps over failures": 39,
    "no catch-up": 0,
    "no grace": 10,
}


def seeds(mutant: Mutant) -> Iterator[int]:
    """The one that is known, then the first ones with the weather it takes."""
    if mutant.name in BY:
        yield BY[mutant.name]
    yield from searched(mutant)


def searched(mutant: Mutant) -> Iterator[int]:
    fitting = (seed for seed in itertools.count() if mutant.where(World.weather_of(seed)))
    return itertools.islice(fitting, MOST)


def _first(mutant: Mutant) -> int | None:
    return next(
        (
            s
            for s in searched(mutant)
            if run(s, alter=mutant.alter, settings=mutant.settings).violations
        ),
        None,
    )


if __name__ == "__main__":
    sys.stdout.write("BY = {\n")
    for mutant in MUTANTS:
        sys.stdout.write(f'    "{mutant.name}": {_first(mutant)},\n')
        sys.stdout.flush()
    sys.stdout.write("}\n")
