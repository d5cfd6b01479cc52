"""`replyd explain`: what became of a message, by its SID."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from replyd.domain import address, record
from replyd.domain.history import archive_name
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Conversation, Entry
from replyd.flows.desk import Desk
from replyd.operate.fate import Fate, fate

_ARCHIVE = archive_name("")
# The partition keys of replyd's own items that hold no history.
_SIDE = ("inbound#", "notice#")
_UNDER_WAY = ("waiting", "replying", "handing_over", "sending")

# Called for each page of a scan: items read, and read capacity units used.
Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Found:
    """`conversation` is almost empty where only the archive knows the message."""

    fate: Fate
    conversation: Conversation


async def explain(
    desk: Desk, sid: str, *, customer: str = "", progress: Progress = lambda _items, _units: None
) -> dict[str, Any] | None:
    """As `--json` prints it; None when nobody knows the SID. Without `customer` the whole table is
    read, as no index leads from a SID to its record. Raises as store and table do."""
    found = (
        await _of_customer(desk, sid, customer) if customer else await _scan(desk, sid, progress)
    )
    if found is None:
        return None
    known, conversation = found.fate, found.conversation
    return {
        **asdict(known),
        "conversation_id": conversation.conversation_id,
        "customer": customer or address.masked(conversation.customer),
        "next": desk.next(conversation) if known.state in _UNDER_WAY else None,
    }


async def _of_customer(desk: Desk, sid: str, customer: str) -> Found | None:
    candidates = await desk.store.lookup(customer, sid)
    for candidate in sorted(candidates, key=lambda c: not c.seen):
        if (found := await _in_record(desk, sid, candidate.key)) is not None:
            return found
    return None


async def _in_record(desk: Desk, sid: str, key: ConversationKey) -> Found | None:
    item = await desk.store.read(key)
    if item is None:
        return None
    conversation = desk.conversation(item, key)
    failure = item.get(record.FAILURE)
    failure = failure if isinstance(failure, dict) else None
    known = fate(sid, conversation, failure=failure)
    if known is None or known.state == "settled" or _continued(conversation, known.turn_id):
        archived = await _archived(desk, conversation.conversation_id)
        known = fate(sid, conversation, archived, failure)
    return Found(known, conversation) if known is not None else None


def _continued(conversation: Conversation, turn_id: str) -> bool:
    """Whether the archive may hold the beginning of the turn."""
    return bool(
        turn_id and conversation.messages and conversation.messages[0].get("turn_id") == turn_id
    )


async def _archived(desk: Desk, conversation_id: str) -> list[Entry]:
    items = [
        pair
        async for page in desk.table.parts(archive_name(conversation_id))
        for pair in page.items
    ]
    # Their keys carry the time.
    items.sort(key=lambda pair: (pair[0].partition, pair[0].sort))
    return [entry for _, item in items for entry in _entries(item)]


def _entries(item: dict[str, Any]) -> list[Entry]:
    return [dict(e) for e in item.get(record.MESSAGES) or () if isinstance(e, dict)]


async def _scan(desk: Desk, sid: str, progress: Progress) -> Found | None:
    """Ends at the first record that knows the SID. What only the archive knows needs the record of
    its conversation too, where that has not gone by yet: a turn can lie in both."""
    archived_in = ""
    async for page in desk.table.pages():
        progress(len(page.items), page.units)
        for key, item in page.items:
            if key.partition.startswith(_ARCHIVE):
                if any(e.get("message_id") == sid for e in _entries(item)):
                    archived_in = _conversation_id(key)
            elif not key.partition.startswith(_SIDE):
                conversation = desk.conversation(item, key)
                known = fate(sid, conversation) is not None
                if (known or conversation.conversation_id == archived_in) and (
                    found := await _in_record(desk, sid, key)
                ):
                    return found
    return await _in_archive(desk, sid, archived_in) if archived_in else None


async def _in_archive(desk: Desk, sid: str, conversation_id: str) -> Found | None:
    bare = {record.CONVERSATION_ID: conversation_id}
    conversation = desk.conversation(bare, ConversationKey(""))
    known = fate(sid, conversation, await _archived(desk, conversation_id))
    if known is not None and known.direction == "inbound" and not known.replies:
        text = "settled; its turn may go on in the record, which --customer finds"
        known = replace(known, state="settled", text=text)
    return Found(known, conversation) if known is not None else None


def _conversation_id(key: ConversationKey) -> str:
    """In a table without a sort key, the name is followed by `#<time>#<SID>`."""
    name = key.partition if key.sort else key.partition.rsplit("#", 2)[0]
    return name.removeprefix(_ARCHIVE)
