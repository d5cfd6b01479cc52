"""The status callback of a part: its URL says which part of which turn of which conversation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from replyd.domain import record
from replyd.domain.messages import ConversationKey, Params, first_value

STATUS_PATH = "/webhooks/twilio/status"

# The states of a message on its way in: no delivery report has them.
_INBOUND_STATES = ("received", "receiving")
# Wider than what Twilio sends, and fit for a record and a log.
_SID = re.compile(r"[A-Za-z0-9]{1,64}")
_STATE = re.compile(r"[a-z_-]{1,32}")
_CODE = re.compile(r"[0-9]{0,6}")
_ENTRY = re.compile(r"[0-9]{1,4}")
# What DynamoDB takes in a key: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_PARTITION_BYTES, _SORT_BYTES = 2048, 1024


def status_callback(public_url: str, key: ConversationKey, turn_id: str, entry: int) -> str:
    query = {"p": key.partition, "s": key.sort, "turn": turn_id, "entry": entry}
    return f"{public_url}{STATUS_PATH}?{urlencode(query)}"


@dataclass(frozen=True, slots=True)
class Part:
    """What a callback is about: the message `sid`, which is entry `entry` of a turn."""

    key: ConversationKey
    turn_id: str
    entry: int
    sid: str


def is_report(params: Params) -> bool:
    """Whether these parameters are a status callback, with nothing in it that Twilio never
    sends."""
    sid = first_value(params, "MessageSid") or first_value(params, "SmsSid")
    state = first_value(params, "MessageStatus") or first_value(params, "SmsStatus")
    return (
        state not in _INBOUND_STATES
        and _STATE.fullmatch(state) is not None
        and _SID.fullmatch(sid) is not None
        and _CODE.fullmatch(first_value(params, "ErrorCode")) is not None
    )


def part_of(sid: str, query: Params) -> Part | None:
    """None when the query is not one of `status_callback`."""
    key = ConversationKey(first_value(query, "p"), first_value(query, "s"))
    entry = first_value(query, "entry")
    fits = 0 < _bytes(key.partition) <= _PARTITION_BYTES and _bytes(key.sort) <= _SORT_BYTES
    if not fits or _ENTRY.fullmatch(entry) is None:
        return None
    return Part(key, first_value(query, "turn"), int(entry), sid)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Found:
    """The entry of a part, with what callbacks have told. `index`: its place in the history; None
    while its turn is in the outbox."""

    entry: Mapping[str, Any]
    index: int | None = None


def find(item: record.Item, part: Part) -> Found | None:
    """Where the record has this part: in the outbox, once a callback has told of it there; in the
    history by its SID, else, when an answer with the SID was lost, by its place in the turn."""
    outbox = record.conversation_from(item, part.key).outbox
    if outbox is not None and outbox.turn_id == part.turn_id:
        report = (outbox.delivery or {}).get(str(part.entry))
        if isinstance(report, Mapping) and report.get("message_id") == part.sid:
            entries = dict(enumerate(outbox.entries))
            return Found({**entries.get(part.entry, {}), **report})
    history = item.get(record.MESSAGES) or []
    entries_of = [(i, e) for i, e in enumerate(history) if isinstance(e, Mapping)]
    for index, entry in reversed(entries_of):
        if entry.get("message_id") == part.sid:
            return Found(entry, index)
    turn = [(i, e) for i, e in entries_of if part.turn_id and e.get("turn_id") == part.turn_id]
    if part.entry < len(turn) and not turn[part.entry][1].get("message_id"):
        index, entry = turn[part.entry]
        return Found(entry, index)
    return None
