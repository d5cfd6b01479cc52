"""What is said of settings that do not agree."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Disagreement:
    """`keys` are the settings involved, the one to look at first ahead."""

    keys: tuple[str, ...]
    sentence: str
