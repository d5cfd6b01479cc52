"""Ids by the order in which a state shows them, so that states that differ in ids alone are one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

_ID = re.compile(r"\b[tnd]\d+\b")


@cache
def ids_in(value: Any) -> tuple[str, ...]:
    """Of turns (n), tokens (t) and drafts (d), in order, each once."""
    text = value if isinstance(value, str) else repr(value)
    return tuple(dict.fromkeys(_ID.findall(text)))


def smallest_unused(letter: str, used: Iterable[str]) -> str:
    used, number = frozenset(used), 0
    while f"{letter}{number}" in used:
        number += 1
    return f"{letter}{number}"


def in_order(ids: Iterable[str]) -> dict[str, str]:
    """What to call these ids instead; empty when they are well named."""
    counts = {"t": 0, "n": 0, "d": 0}
    names: dict[str, str] = {}
    for old in ids:
        if old not in names:
            letter = old[0]
            names[old] = f"{letter}{counts[letter]}"
            counts[letter] += 1
    return {} if all(old == new for old, new in names.items()) else names


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same value with other ids, at any depth."""
    if isinstance(value, str):
        return _ID.sub(lambda found: names.get(found[0], found[0]), value)
    if isinstance(value, tuple):
        again = [renamed(v, names) for v in value]
        return type(value)(*again) if hasattr(value, "_fields") else tuple(again)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: renamed(getattr(value, f.name), names) for f in fields(value)}
        return replace(value, **changed)
    return value
