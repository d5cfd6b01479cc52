"""What operators look at conversations with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replyd.domain import explain, record
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Item
from replyd.domain.turn import TurnPolicy
from replyd.domain.window import WindowPolicy
from replyd.ports import ConversationStore, WholeTable


@dataclass(frozen=True, slots=True)
class Desk:
    """`now`: epoch ms. The policies are those of `replyd serve` with the same settings."""

    store: ConversationStore
    table: WholeTable
    now: Callable[[], int]
    window: WindowPolicy
    policy: TurnPolicy
    grace_ms: int
    address_attribute: str = record.RECIPIENT_TEL

    def conversation(self, item: Item, key: ConversationKey) -> Conversation:
        return record.conversation_from(item, key, address_attribute=self.address_attribute)

    def next(self, conversation: Conversation) -> dict[str, Any]:
        """`explain.outlook` as JSON has it."""
        found = explain.outlook(
            conversation,
            now=self.now(),
            policy=self.policy,
            window=self.window,
            grace_ms=self.grace_ms,
        )
        return {
            "state": found.state,
            "effect": found.effect,
            "reason": found.reason,
            "messages": found.messages,
            "at": iso_or_none(found.at),
            "gives_up_at": iso_or_none(found.gives_up_at),
            "text": found.text,
        }


def iso_or_none(ms: int) -> str | None:
    return record.iso(ms) if ms else None
