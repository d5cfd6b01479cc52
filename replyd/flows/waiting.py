"""A page of the table's conversations: whose customer waits for a person, or all."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Item
from replyd.flows.desk import Desk, iso_or_none

# No index leads to these conversations: a page of the list reads so many items of the table at
# most, each up to 64 KB.
MAX_READ = 1_000
# Whose customer was last left to people.
_LEFT_TO_PEOPLE = frozenset({record.HANDED_TO_HUMAN, record.REPLY_FAILED})
_SPEAKERS = frozenset({"user", "assistant", "human", "agent"})


class BadCursorError(ValueError):
    """The cursor is not one that an earlier page gave."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`cursor`: where the next page begins, empty at the table's end. `read`: items read."""

    conversations: tuple[dict[str, Any], ...]
    cursor: str
    read: int


async def listing(desk: Desk, *, waiting: bool, limit: int, cursor: str = "") -> Listing:
    """Up to `limit` conversations, in no order; fewer, even none, before the table's end when
    MAX_READ items had no more. `waiting`: only those whose customer waits for a person.

    Raises BadCursorError, and as the table does."""
    found: list[dict[str, Any]] = []
    read, key = 0, _decoded(cursor)
    async for page in desk.table.pages(key):
        for key, item in page.items:
            read += 1
            conversation = desk.conversation(item, key)
            # The keys of replyd's own items have a mark that no address has.
            if "#" not in key.partition and (not waiting or waits_for_people(conversation, item)):
                found.append(_row(conversation, item))
            if len(found) == limit or read == MAX_READ:
                return Listing(tuple(found), _encoded(key), read)
    return Listing(tuple(found), "", read)


def waits_for_people(conversation: Conversation, item: Item) -> bool:
    """People have the conversation, or were given the last messages, and the customer has spoken
    last. Nobody may write to one who has opted out."""
    if conversation.opted_out:
        return False
    if conversation.pending:
        return conversation.handoff
    with_people = conversation.handoff or item.get(record.STATUS) in _LEFT_TO_PEOPLE
    return with_people and _last(conversation).get("role") == "user"


def _last(conversation: Conversation) -> Mapping[str, Any]:
    spoken = (e for e in reversed(conversation.messages) if e.get("role") in _SPEAKERS)
    return next(spoken, {})


def _row(conversation: Conversation, item: Item) -> dict[str, Any]:
    last = _last(conversation)
    return {
        "recipient_tel": conversation.customer,
        "conversation_id": conversation.conversation_id,
        "company_tel": conversation.company_tel,
        "conversation_status": item.get(record.STATUS),
        "handoff_to_human": conversation.handoff,
        "opted_out_since": item.get(record.OPTED_OUT),
        "waiting": waits_for_people(conversation, item),
        "pending": len(conversation.pending),
        "last_message_at": iso_or_none(conversation.last_at) or last.get("timestamp"),
        "last_role": "user" if conversation.pending else last.get("role"),
        "updated_at": item.get(record.UPDATED_AT),
    }


def _encoded(key: ConversationKey) -> str:
    plain = json.dumps([key.partition, key.sort]).encode()
    return base64.urlsafe_b64encode(plain).decode().rstrip("=")


def _decoded(cursor: str) -> ConversationKey | None:
    if not cursor:
        return None
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        partition, sort = json.loads(plain)
    except (ValueError, TypeError, RecursionError):
        raise BadCursorError from None
    if not (isinstance(partition, str) and isinstance(sort, str) and partition):
        raise BadCursorError
    return ConversationKey(partition, sort)
