"""The conversations that people have, as the page shows them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replyd.domain import record, turn

Json = Mapping[str, Any]


def waiting_list(found: Iterable[Json], desk: Sequence[Json]) -> list[dict[str, Any]]:
    """`found`: as `OperatorClient.with_people` has them, `desk`: what came by the handoff queue,
    newest first. The customer who wrote last comes first."""
    return sorted((_line(one, desk) for one in found), key=lambda line: -line["at"])


def _line(found: Json, desk: Sequence[Json]) -> dict[str, Any]:
    text, at = _newest(found)
    taken_over = found["taken_over"] or {}
    given = {} if taken_over else _given(found["conversation_id"], desk)
    return {
        "conversation_id": found["conversation_id"],
        "address": found["recipient_tel"],
        "answered": found["last_role"] == "human",
        "taken_by": taken_over.get("author", ""),
        "reason": given.get("reason", ""),
        "summary": given.get("summary", ""),
        "text": text,
        "at": at,
    }


def _newest(found: Json) -> tuple[str, int]:
    """What the customer wrote last, and when; empty when they have not written."""
    said = [(e["text"], e["timestamp"]) for e in found["history"]["tail"] if e["role"] == "user"]
    said += [(p["text"], p["received_at"]) for p in found["pending"]]
    text, at = said[-1] if said else ("", found["updated_at"])
    return text or "", record.epoch_ms(at)


def _given(conversation_id: str, desk: Sequence[Json]) -> Json:
    """Why people got the conversation: messages that came once they had it do not tell."""
    own = [d for d in desk if d["conversation_id"] == conversation_id]
    telling = (d for d in own if d["reason"] != turn.REQUESTED)
    return next(telling, own[0] if own else {})
