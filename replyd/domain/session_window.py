"""WhatsApp's 24-hour window: free text reaches a customer only that long after their last message.

Times are epoch milliseconds. SMS has no such window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from replyd.domain.catch_up import WROTE_AT
from replyd.domain.content_template import ContentTemplate
from replyd.domain.messages import InboundMessage
from replyd.domain.record import Conversation, Entry

# https://www.twilio.com/docs/whatsapp/key-concepts
OPEN_MS = 24 * 60 * 60 * 1000
# Time to ask the model and to send; clocks differ too.
MARGIN_MS = 5 * 60 * 1000
# Twilio's error code for free text outside of the window.
CLOSED_CODE = "63016"


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What goes out outside of the window. `outside`: what becomes of the AI's answers; people's
    go out as the template wherever there is one."""

    outside: Literal["handoff", "template"] = "handoff"
    template: ContentTemplate | None = None


NO_TEMPLATE = SessionPolicy()


def is_closed(
    conversation: Conversation, *, now: int, newest: InboundMessage | None = None
) -> bool:
    """Whether free text would be refused, or may be within MARGIN_MS. Known from the arrival of the
    customer's newest message, or from a refusal since; where neither tells, it counts as open.
    `newest`: that message, which CATCH-UP may have found late."""
    wrote_at = newest.param(WROTE_AT) if newest is not None else ""
    last = int(wrote_at) if wrote_at.isdecimal() else conversation.last_at
    if last and now - last > OPEN_MS - MARGIN_MS:
        return True
    return not conversation.pending and _was_refused(conversation.messages)


def _was_refused(messages: Sequence[Entry]) -> bool:
    """Since the customer's last message."""
    for entry in reversed(messages):
        if entry.get("role") == "user":
            return False
        if entry.get("delivery_error") == CLOSED_CODE:
            return True
    return False
