"""The simulation finds bugs: each mutant of the protocol breaks a promise within some seeds."""

import itertools
import sys
from collections.abc import Callable, Iterator

import pytest

from replyd.simulation.world import World, run
from tests.simulation.mutants import MUTANTS, Mutant

SEEDS = 300


def _seeds(mutant: Mutant) -> Iterator[int]:
    """The first ones, or the first ones with the weather it takes."""
    fitting = (seed for seed in itertools.count() if mutant.where(World.weather_of(seed)))
    return itertools.islice(fitting, SEEDS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name.replace(" ", "-"))
def test_is_caught(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    for number, seed in enumerate(_seeds(mutant), start=1):
        if violations := run(seed, alter=mutant.alter, settings=mutant.settings).violations:
            record_property("seeds", number)
            found = f"{mutant.name}: caught within {number} seeds, {violations[0]}\n"
            sys.stdout.write(found)
            return
    pytest.fail(f"{SEEDS} seeds did not catch: {mutant.name}")
