"""Erasing a customer: the steps on the record, what a record knows, and what stays of one.

The lease keeps everybody else from the conversation meanwhile. Only STAGE needs none, so the last
step looks whether a message has come.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from replyd.domain import record as r
from replyd.domain.expressions import All, Compare, Condition, ItemExists, Missing, Not, Set, Step
from replyd.domain.record import Conversation, Item
from replyd.domain.steps import UNFINISHED, holds, is_free

_MESSAGE_SID = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")


def take_to_erase(
    token: str, owner: str, now: int, *, lease_ms: int, skew_ms: int, even_unanswered: bool
) -> Step:
    """CLAIM by who erases. Not while a message waits or something may have been sent, unless it is
    to be erased all the same. The flag stays as it is: raising it would put what is pending onto
    people's queue, out of reach."""
    lease = {"owner": owner, "token": token, "expires_at": now + lease_ms}
    finished = () if even_unanswered else (Not(UNFINISHED),)
    return Step(
        "take_to_erase",
        All((ItemExists(), is_free(now, skew_ms), *finished)),
        (Set((r.LEASE,), lease),),
        returns="item",
    )


def unchanged(token: str, seq: int) -> Condition:
    """The lease is ours, and no message has come since the item was read."""
    same = Compare((r.SEQ,), "=", seq) if seq else Missing((r.SEQ,))
    return All((holds(token), same))


def kept_of(item: Item, address_attribute: str) -> dict[str, Any]:
    """What stays of a record whose customer has said STOP, so that nobody writes to them: whose it
    is, with which number, and since when. In the shape that the lookup and whoever starts
    conversations know."""
    names = (
        *(r.RECIPIENT_TEL, address_attribute, r.CONVERSATION_ID),
        *(r.COMPANY_TEL, r.CREATED_AT, r.OPTED_OUT),
    )
    return {name: item[name] for name in names if name in item}


def is_all_kept(item: Item, address_attribute: str, keys: Iterable[str]) -> bool:
    """Whether there is no more in a record than what stays."""
    return set(item) <= {*kept_of(item, address_attribute), *keys, r.LEASE} and r.OPTED_OUT in item


def sids_in(entries: Iterable[object]) -> Iterator[str]:
    """The SIDs of messages that entries of a history have. The table is shared: what is none is
    left out."""
    for entry in entries:
        sid = entry.get("message_id") if isinstance(entry, Mapping) else None
        if isinstance(sid, str) and _MESSAGE_SID.fullmatch(sid):
            yield sid


def threads_in(entries: Sequence[object]) -> Iterator[str]:
    """The threads after each reply, the newest first: a chain that was given up is known by these
    alone."""
    for entry in reversed(entries):
        thread_id = entry.get("response_id") if isinstance(entry, Mapping) else None
        if isinstance(thread_id, str) and thread_id:
            yield thread_id


def threads_of(conversation: Conversation) -> Iterator[str]:
    """Every thread that a record has, the current one first."""
    if conversation.thread_id:
        yield conversation.thread_id
    if conversation.outbox is not None:
        yield from threads_in(conversation.outbox.entries)
    yield from threads_in(conversation.messages)


def sids_of(conversation: Conversation) -> set[str]:
    """Every SID that a record has."""
    found = set(sids_in(conversation.messages))
    found |= {s for s in conversation.seen if _MESSAGE_SID.fullmatch(s)}
    found |= {p.sid for p in conversation.pending if _MESSAGE_SID.fullmatch(p.sid)}
    if conversation.outbox is not None:
        found |= set(sids_in(conversation.outbox.entries))
        found |= set(sids_in((conversation.outbox.delivery or {}).values()))
    return found
