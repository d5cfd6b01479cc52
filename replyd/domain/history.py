"""How long the history in a record may grow, and what goes to the archive."""

import json
from collections.abc import Sequence

from replyd.domain.record import Entry

# A write is charged by the whole item, and an item over 400 KB refuses every message.
MAX_BYTES = 48 * 1024
# Expressions end at 4 KB: one roll-over compares and removes no more entries than this.
MAX_MOVED = 100


def overflow(history: Sequence[Entry], keep: int) -> int:
    """How many of the oldest entries are to be archived: none while there are fewer than one and
    a half times `keep`, so that a roll-over is rare, and the texts are short."""
    sizes = [len(json.dumps(entry, default=str)) for entry in history]
    if len(history) < keep + max(1, keep // 2) and sum(sizes) <= MAX_BYTES:
        return 0
    surplus = max(0, len(history) - keep)
    left = sum(sizes[surplus:])
    # Down to half of the limit; the newest entry always stays.
    while left > MAX_BYTES // 2 and surplus < len(history) - 1:
        left -= sizes[surplus]
        surplus += 1
    return min(surplus, MAX_MOVED)


def archive_name(conversation_id: str) -> str:
    return f"archive#{conversation_id}"


def archive_part(head: Sequence[Entry]) -> str:
    """The same for the same entries, so that a repeated roll-over overwrites itself."""
    first = head[0]
    return f"{first.get('timestamp') or '0'}#{first.get('message_id') or 'none'}"
