"""What the webhook has for a buffer in a process that runs no turns."""

from replyd.domain.messages import ConversationKey


class NoBuffer:
    """Implements `ports.LocalBuffer`. Other processes hold the wake-ups; when the queue does not
    take one, the sender is told (503) and delivers again."""

    def staged(self, key: ConversationKey, seq: int, closes_at: int) -> None:
        """No wake-up is held here, no turn is under way."""

    def wake(self, key: ConversationKey, seq: int, at: int) -> None:
        """Nobody here could look at the conversation."""
