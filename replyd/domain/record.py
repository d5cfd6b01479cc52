"""The conversation item, read.

The item is shared with other writers: what is missing or odd reads as its harmless meaning, and
nothing here writes. Attribute names are the public interface of the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.usage import Usage, usage_from

RECIPIENT_TEL = "recipient_tel"
CONVERSATION_ID = "conversation_id"
COMPANY_TEL = "company_tel"
THREAD_ID = "thread_id"
HANDOFF = "handoff_to_human"
STATUS = "conversation_status"
MESSAGES = "messages"
CREATED_AT = "created_at"
UPDATED_AT = "updated_at"
# The table's time to live, where `retention` is set.
EXPIRES_AT = "expires_at"

PENDING = "reply_pending"
SEQ = "reply_seq"
LAST_AT = "reply_last_at"
SEEN = "reply_seen"
OPTED_OUT = "reply_opted_out"
CONSENT = "reply_consent"
LEASE = "reply_lease"
OUTBOX = "reply_outbox"
LAST_TURN = "reply_last_turn"
ATTEMPTS = "reply_attempts"
FAILURE = "reply_failure"
USAGE = "reply_usage"
TOOLS = "reply_tools"
TAKEN_OVER = "reply_taken_over"
# Which profile answers, where people or the starter say so; both names are settings.
PROFILE = "ai_profile"
ASSISTANT_ID = "assistant_id"

# In the entry of a customer's message that did not come by WhatsApp.
CHANNEL = "channel"

USER_REPLY_RECEIVED = "user_reply_received"
AI_RESPONSE_SENT = "ai_response_sent"
HANDED_TO_HUMAN = "handed_to_human"
REPLY_FAILED = "reply_failed"
REPLY_WITHHELD = "reply_withheld"

# The roles of what goes to the customer: the AI's and people's.
_OUTBOUND = ("assistant", "human")

Item = Mapping[str, Any]
Entry = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


def iso(ms: int) -> str:
    """Epoch milliseconds as ISO 8601, UTC, milliseconds; the nearest year from 1 to 9999."""
    stamp = _EPOCH + timedelta(milliseconds=max(_FIRST_MS, min(ms, _LAST_MS)))
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(stamp: str) -> int:
    """The inverse of `iso`. Raises ValueError or OverflowError for what is no such time."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def failure(reason: str, detail: str, now: int) -> dict[str, str]:
    """The value of `reply_failure`, for operators."""
    return {"reason": reason, "detail": detail, "at": iso(now)}


@dataclass(frozen=True, slots=True)
class Pending:
    """A message accepted and not yet settled.

    `message` is None when its body lies in a side item named `body_ref`, or cannot be read.
    `confirm`: it is a STOP that was not confirmed to the customer yet."""

    seq: int
    sid: str
    received_at: int
    message: InboundMessage | None
    body_ref: str = ""
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    owner: str
    token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Outbox:
    """The effect of a turn that is about to happen, or may have happened. `raise_flag`: people
    keep the conversation once it has."""

    turn_id: str
    kind: str
    seqs: tuple[int, ...]
    entries: tuple[Entry, ...]
    at: int
    reason: str = ""
    detail: str = ""
    summary: str = ""
    raise_flag: bool = False
    delivery: Mapping[str, Any] | None = None

    @property
    def parts(self) -> list[tuple[int, Entry]]:
        """The messages that go out, with their place among the entries."""
        return [(i, e) for i, e in enumerate(self.entries) if e.get("role") in _OUTBOUND]

    def as_attribute(self) -> dict[str, Any]:
        return {
            "turn_id": self.turn_id,
            "kind": self.kind,
            "seqs": list(self.seqs),
            "entries": list(self.entries),
            "at": self.at,
            "reason": self.reason,
            "detail": self.detail,
            "summary": self.summary,
            "raise_flag": self.raise_flag,
            "delivery": dict(self.delivery or {}),
        }


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the turn protocol needs to know of an item. Times in epoch ms. `failure`: why the last
    attempt did not succeed. `tools`: those with effects that were called for what is pending;
    `consents`: entries of the ledger of STOP and START."""

    key: ConversationKey
    conversation_id: str
    customer: str
    company_tel: str
    thread_id: str
    handoff: bool
    opted_out: bool
    messages: tuple[Entry, ...]
    pending: tuple[Pending, ...]
    seq: int
    last_at: int
    seen: Mapping[str, int]
    lease: Lease | None
    outbox: Outbox | None
    last_turn: str
    attempts: int
    failure: str
    usage: Usage
    tools: Mapping[str, Any]
    profile: str
    assistant_id: str
    consents: int = 0
    status: str = ""

    @property
    def settled(self) -> int:
        """The highest seq that is in a committed turn."""
        return self.seq - len(self.pending)

    @property
    def unfinished(self) -> bool:
        return bool(self.pending) or self.outbox is not None


def flag_is_up(item: Item) -> bool:
    """Whether people have the conversation. Anything but absent, null and false counts as true:
    a value that a person stored must silence the AI however their tool wrote it."""
    value = item.get(HANDOFF)
    # By identity: 0 == False in Python, while the conditions on the flag compare types first.
    return value is not None and value is not False


def is_opted_out(item: Item) -> bool:
    return OPTED_OUT in item


def conversation_from(
    item: Item,
    key: ConversationKey,
    *,
    address_attribute: str = RECIPIENT_TEL,
    profile_attribute: str = PROFILE,
    assistant_attribute: str = ASSISTANT_ID,
) -> Conversation:
    seq = _int(item.get(SEQ))
    raw_pending = _list(item.get(PENDING))
    first = seq - len(raw_pending) + 1
    lease = item.get(LEASE)
    return Conversation(
        key=key,
        conversation_id=_str(item.get(CONVERSATION_ID)) or key.sort or key.partition,
        customer=_str(item.get(address_attribute)),
        company_tel=_str(item.get(COMPANY_TEL)),
        thread_id=_str(item.get(THREAD_ID)),
        handoff=flag_is_up(item),
        opted_out=is_opted_out(item),
        messages=tuple(m for m in _list(item.get(MESSAGES)) if isinstance(m, Mapping)),  # type: ignore[misc]
        pending=tuple(_pending(first + i, entry) for i, entry in enumerate(raw_pending)),
        seq=seq,
        last_at=_int(item.get(LAST_AT)),
        seen={k: _int(v) for k, v in _map(item.get(SEEN)).items()},
        lease=Lease(_str(lease.get("owner")), _str(lease.get("token")), _int(lease["expires_at"]))
        if isinstance(lease, Mapping) and "expires_at" in lease
        else None,
        outbox=_outbox(item.get(OUTBOX)),
        last_turn=_str(item.get(LAST_TURN)),
        attempts=_int(item.get(ATTEMPTS)),
        failure=_str(_map(item.get(FAILURE)).get("detail")),
        usage=usage_from(item.get(USAGE)),
        tools=_map(item.get(TOOLS)),
        profile=_str(item.get(profile_attribute)),
        assistant_id=_str(item.get(assistant_attribute)),
        consents=len(_list(item.get(CONSENT))),
        status=_str(item.get(STATUS)),
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record of a customer, as the lookup projects it. `seen`: it has accepted the SID asked
    for; `staged_before`: it has accepted some message."""

    key: ConversationKey
    conversation_id: str
    company_tel: str
    created_at: str
    thread_id: str
    handoff: bool
    opted_out: bool
    staged_before: bool
    seen: bool


def candidate_from(item: Item, key: ConversationKey, sid: str) -> Candidate:
    return Candidate(
        key=key,
        conversation_id=_str(item.get(CONVERSATION_ID)) or key.sort or key.partition,
        company_tel=_str(item.get(COMPANY_TEL)),
        created_at=_str(item.get(CREATED_AT)),
        thread_id=_str(item.get(THREAD_ID)),
        handoff=flag_is_up(item),
        opted_out=is_opted_out(item),
        staged_before=SEQ in item,
        seen=sid in _map(item.get(SEEN)),
    )


def _pending(seq: int, raw: object) -> Pending:
    entry = _map(raw)
    return Pending(
        seq=seq,
        sid=_str(entry.get("sid")),
        received_at=_int(entry.get("received_at")),
        message=_message(entry.get("message")),
        body_ref=_str(entry.get("body_ref")),
        confirm=entry.get("confirm") is True,
    )


def _message(raw: object) -> InboundMessage | None:
    """One odd entry must not keep the whole conversation from being read, for ever."""
    if not isinstance(raw, Mapping):
        return None
    try:
        return InboundMessage.from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _outbox(raw: object) -> Outbox | None:
    if not isinstance(raw, Mapping):
        return None
    return Outbox(
        turn_id=_str(raw.get("turn_id")),
        kind=_str(raw.get("kind")),
        seqs=tuple(_int(s) for s in _list(raw.get("seqs"))),
        # Callbacks know the entries by their place: an odd one keeps it.
        entries=tuple(dict(_map(e)) for e in _list(raw.get("entries"))),
        at=_int(raw.get("at")),
        reason=_str(raw.get("reason")),
        detail=_str(raw.get("detail")),
        summary=_str(raw.get("summary")),
        raise_flag=raw.get("raise_flag") is True,
        delivery=_map(raw.get("delivery")),
    )


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
