"""How long the table keeps things: its time to live (`expires_at`, epoch s).

DynamoDB deletes within a few days of that time. Until then an item that has expired is an ordinary
one: a record that gets another message is kept again.
"""

from dataclasses import dataclass

_DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Retention:
    """Days; 0 for ever. `record_days`: counted from the last turn; `archive_days`: from when an
    entry of the history left its record."""

    record_days: int = 0
    archive_days: int = 0

    def record_until(self, now: int) -> int | None:
        """Epoch s, None for ever; `now` in epoch ms, as below."""
        return _until(now, self.record_days)

    def archive_until(self, now: int) -> int | None:
        return _until(now, self.archive_days)

    def alias_until(self, now: int) -> int | None:
        """It is put again once a day, and must not go before its record."""
        return _until(now, self.record_days + 2) if self.record_days else None


FOR_EVER = Retention()


def _until(now: int, days: int) -> int | None:
    return now // 1000 + days * _DAY_SECONDS if days else None
