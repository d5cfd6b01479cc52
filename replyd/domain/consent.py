"""STOP and START: what the record keeps of them, and their confirmation.

`reply_opted_out` says whether the AI may write; `reply_consent` is the ledger of how that came.
"""

from collections.abc import Mapping
from typing import Literal

from replyd.domain import record as r
from replyd.domain.expressions import All, Compare, Condition, Exists, Missing, Not, Step
from replyd.domain.messages import InboundMessage
from replyd.domain.steps import holds, intend, is_about, pending_from

# Entries of the ledger that a record keeps, the newest; one has about 100 bytes.
KEPT = 100

Change = Literal["stop", "start"]


def entry(message: InboundMessage, change: Change, now: int) -> dict[str, str]:
    """One line of the ledger. `by`: Twilio's own handling, which answers the customer, or one of
    our words."""
    by = "twilio" if message.param("OptOutType") else "word"
    return {"at": r.iso(now), "sid": message.sid, "change": change, "by": by}


def is_to_confirm(entry: Mapping[str, str]) -> bool:
    """Whether nobody else has told the customer that it was understood."""
    return entry["change"] == "stop" and entry["by"] == "word"


def surplus(ledger: int) -> int:
    """How many of the oldest of so many entries a COMMIT may drop."""
    return max(0, ledger - KEPT)


def intend_notice(
    token: str,
    outbox: r.Outbox,
    expires_at: int,
    *,
    head: str,
    over: r.Outbox | None = None,
) -> Step:
    """Write the confirmation of STOP down before it is sent: the only text that may go out to
    somebody who has opted out, and to nobody else. The arguments are those of `intend_reply`."""
    replaced: Condition = Missing((r.OUTBOX,)) if over is None else is_about(over.turn_id)
    afresh = Not(Compare((r.LAST_TURN,), "=", outbox.turn_id))
    terms = (holds(token), *pending_from(head), Exists((r.OPTED_OUT,)), replaced, afresh)
    return intend("intend_notice", All(terms), outbox, expires_at)
