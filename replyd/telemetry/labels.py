"""The values that metrics' labels take: what is not among them counts as `other`."""

from typing import Final

from replyd.domain import turn
from replyd.domain.callback import STATUS_PATH

OTHER: Final = "other"

DROPS: Final = frozenset({"unknown_sender", "already_settled"})
ENDPOINTS: Final = frozenset({"/webhooks/twilio/whatsapp", STATUS_PATH})
STATUSES: Final = frozenset({"400", "403", "404", "405", "408", "413", "503"})
REFUSALS: Final = frozenset({
    "no_signature", "unknown_account", "bad_signature",
    "not_a_message", "not_a_status", "too_many_fields", "too_large", "broken_body",
    "body_too_slow", "bad_http", "no_route", "overloaded", "not_durable", "too_slow", "bug",
})  # fmt: skip
OUTCOMES: Final = frozenset({
    "replied", "handed_over", "withheld", "partly_sent", "retry", "lease_lost", "nothing_to_do",
    "bug",
})  # fmt: skip
# "model" is an answer that cannot be used, whoever gave it.
DEPENDENCIES: Final = frozenset({"dynamodb", "sqs", "openai", "twilio", "tools", "model"})
REASONS: Final = DEPENDENCIES | {
    turn.REQUESTED, turn.OPTED_OUT, turn.FAILED, turn.AMBIGUOUS, turn.TOO_OLD, turn.BY_AI,
    turn.OVER_LIMIT, turn.LOOP, turn.FLAGGED, turn.WINDOW_CLOSED, "drain",
}  # fmt: skip
OPERATIONS: Final = frozenset({
    "receive", "adopt", "claim", "renew", "turn", "model", "arm", "send", "list", "apology",
    "person", "commit", "delete", "hide", "roll_over", "report", "alias", "tool", "arm_tool",
    "note_tool", "typing", "content", "catch_up", "state", "depth",
})  # fmt: skip
TOOL_OUTCOMES: Final = frozenset({"done", "refused", "failed", "unknown", "repeated"})
PERSON_ACTIONS: Final = frozenset({"reply", "handoff", "release"})
PERSON_OUTCOMES: Final = frozenset({
    "done", "accepted", "partly_sent", "unknown", "not_delivered", "again", "failed",
    "no_conversation", "busy", "opted_out", "no_business_number", "unknown_account", "key_used",
    "not_sent", "try_again", "window_closed",
})  # fmt: skip
QUEUES: Final = frozenset({"replies", "replies_dlq", "handoff", "handoff_dlq"})
FILES: Final = frozenset({"audio", "image", "document", "contact"})
FILE_OUTCOMES: Final = frozenset({"read", "failed", "late"})
INTERRUPTIONS: Final = frozenset({"newer_messages", "silenced", "lease_lost"})
RECONCILED: Final = frozenset(
    {"accepted", "resumed", "sent_again", "sent_again_unsure", "handed_over"}
)
DELIVERIES: Final = frozenset(
    {"accepted", "queued", "sending", "sent", "delivered", "read", "undelivered", "failed"}
)
