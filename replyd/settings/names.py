"""Where a setting is, and its name in messages, sources and TOML: its keys joined by dots."""

import json
import re

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dotted(*path: str) -> str:
    """As TOML writes it: a key with other characters than a bare one's is quoted."""
    return ".".join(
        key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in path
    )


def within(one: str, other: str) -> bool:
    """Whether it is the other setting, or inside it."""
    return f"{one}.".startswith(f"{other}.")
