"""CATCH-UP: which of the messages in the vendor's list are looked at, and how far it has come.

Times are epoch milliseconds.
"""

from dataclasses import dataclass, replace

from replyd.domain.messages import InboundMessage

# The parameter of a message that was found, with the time when the customer wrote it, epoch ms.
WROTE_AT = "ReplydWroteAt"


@dataclass(frozen=True, slots=True)
class Listed:
    """A message that the vendor took from a customer. `at`: when, by the vendor's clock, in whole
    seconds."""

    message: InboundMessage
    at: int

    @property
    def dated(self) -> InboundMessage:
        """The message with WROTE_AT: it may be staged long after."""
        return replace(self.message, params={**self.message.params, WROTE_AT: str(self.at)})


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the vendor took from customers, oldest first. `until`: of what came before this nothing
    is missing; earlier than asked for where the list was cut off. `unreadable`: entries that
    cannot be taken for messages."""

    messages: tuple[Listed, ...]
    until: int
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class CatchUpPolicy:
    """`max_age_ms`: older messages go to people. `first_ms`: how long before the very first start
    messages are looked for; what another system has answered would be answered again.
    `look_back_ms`: nothing older is looked at.
    `overlap_ms`: how late the vendor may list a message. `settle_ms`: a younger message may still
    be with its webhook."""

    max_age_ms: int = 3_600_000
    first_ms: int = 0
    look_back_ms: int = 86_400_000
    overlap_ms: int = 120_000
    settle_ms: int = 60_000

    def since(self, cursor: int | None, *, started_at: int, now: int) -> int:
        """From when on messages are listed. Without a cursor nothing is known of what was answered
        before this process."""
        begin = started_at - self.first_ms if cursor is None else cursor - self.overlap_ms
        return max(begin, now - self.look_back_ms)

    def until(self, now: int) -> int:
        """Up to when messages are listed."""
        return now - self.settle_ms

    def too_old(self, at: int, now: int) -> bool:
        """Whether a message of that time goes to people."""
        return now - at > self.max_age_ms


def advanced(cursor: int | None, reached: int, *, since: int) -> int | None:
    """The cursor after a round from `since` that has dealt with everything before `reached`. It
    never goes back: what failed within the overlap is listed again anyway."""
    if reached <= since or (cursor is not None and reached <= cursor):
        return cursor
    return reached
