"""What Twilio's answers mean: the one table from statuses and codes to errors.

Codes: https://www.twilio.com/docs/api/errors. Twilio's own sentences are not passed on, they
quote numbers. A 4xx is a proof that the message was not accepted; a 5xx proves nothing.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary

NAME = "twilio"
UNREACHABLE = "unreachable"  # the code of a failure before anything was written

_CREDENTIALS = "the account SID or auth token is refused: set the account's current auth token"
_SENDER = "the account cannot send from this business number: check the sender in the console"
_CONTENT = "the message's content is refused"
_RECIPIENT = "the recipient cannot be reached on WhatsApp at this address"
_TEMPLATE = "the message template is missing, paused or does not fit its variables"
_PROVIDER = "WhatsApp could not take the message for now"

_REASONS: Mapping[int, tuple[type[DependencyError], str]] = {
    # The account: nobody can send with it.
    20003: (DependencyDown, _CREDENTIALS),
    20005: (DependencyDown, "the account is suspended or closed: see the console"),
    63038: (DependencyDown, "the account's daily message limit is used up"),
    # The sender: other numbers of the account still work.
    21606: (Permanent, _SENDER),
    63001: (Permanent, "WhatsApp refuses the sender's credentials: reconnect it in the console"),
    63002: (Permanent, "WhatsApp does not know the sender: check it in the console"),
    63007: (Permanent, _SENDER),
    63020: (Permanent, "the business has not accepted Twilio's invitation at Meta"),
    63051: (Permanent, "the WhatsApp business account is blocked or restricted by Meta"),
    # Later.
    20429: (Busy, "too many requests"),
    21611: (Busy, "the sender's queue is full"),
    30001: (Busy, "the account's queue is full"),
    63017: (Busy, "the sender's rate limit at WhatsApp is reached"),
    63018: (Busy, "the sender's rate limit at WhatsApp is reached"),
    63009: (Temporary, _PROVIDER),
    63010: (Temporary, _PROVIDER),
    63012: (Temporary, _PROVIDER),
    # The message.
    21602: (Permanent, "the message has no text"),
    21617: (Permanent, "the message is longer than 1600 characters"),
    21658: (Permanent, "the message is longer than 1600 characters"),
    21619: (Permanent, "the message has neither text nor media"),
    21620: (Permanent, "a media URL of the message is not valid"),
    21609: (Permanent, "the status callback URL is not valid: check server.public_url"),
    21654: (Permanent, _TEMPLATE),
    21655: (Permanent, _TEMPLATE),
    21656: (Permanent, _TEMPLATE),
    63005: (Permanent, _CONTENT),
    63021: (Permanent, _CONTENT),
    63027: (Permanent, _TEMPLATE),
    63028: (Permanent, _TEMPLATE),
    63040: (Permanent, _TEMPLATE),
    63041: (Permanent, _TEMPLATE),
    63042: (Permanent, _TEMPLATE),
    63016: (
        Permanent,
        "the customer's last message is more than 24 hours old: only a template may be sent",
    ),
    # The recipient.
    21211: (Permanent, "the recipient's address is not valid"),
    21604: (Permanent, "the recipient is missing"),
    21610: (Permanent, "the recipient has opted out of messages from this sender"),
    21614: (Permanent, _RECIPIENT),
    21910: (Permanent, "sender and recipient are on different channels"),
    63003: (Permanent, _RECIPIENT),
    63014: (Permanent, "the recipient has blocked this sender"),
    63015: (Permanent, "the recipient has not joined the WhatsApp sandbox"),
    63024: (Permanent, _RECIPIENT),
    63032: (Permanent, "WhatsApp limits messages to this recipient"),
    63033: (Permanent, "the recipient has blocked this sender"),
}

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")


def from_answer(status: int, code: int | None, delay: float | None) -> DependencyError:
    """The error for an answer other than 2xx. `code` is Twilio's, `delay` from `Retry-After`."""
    shown = str(code) if code is not None else f"http_{status}"
    if status >= 500 or status == 408:
        return Ambiguous(
            NAME, f"HTTP {status} ({shown}): it may have accepted the message", code=shown
        )
    if status < 400:
        return DependencyDown(
            NAME, f"HTTP {status} where the API should be: check twilio.base_url", code=shown
        )
    kind, reason = _REASONS.get(code or 0, (None, ""))
    if kind is None:
        kind, reason = _by_status(status, code)
    reason = f"{reason} ({shown})"
    if issubclass(kind, Temporary):
        return kind(NAME, reason, code=shown, delay=delay)
    return kind(NAME, reason, code=shown)


def from_read(status: int, code: int | None, delay: float | None) -> DependencyError:
    """The error for a read that was answered with anything but 200. Nothing can have been done,
    so no answer is ambiguous."""
    error = from_answer(status, code, delay)
    if isinstance(error, Ambiguous):
        return Temporary(NAME, f"HTTP {status} ({error.code})", code=error.code, delay=delay)
    if status == 403 and code not in _REASONS:
        reason = f"the credentials may not read messages: check the account ({error.code})"
        return Permanent(NAME, reason, code=error.code)
    return error


def _by_status(status: int, code: int | None) -> tuple[type[DependencyError], str]:
    if status == 429:
        return Busy, "too many requests"
    if status == 401:
        return DependencyDown, _CREDENTIALS
    if status == 403:
        return DependencyDown, "the credentials may not send messages: check the account"
    if code is None:
        return Permanent, f"refused with HTTP {status} and no code: check twilio.base_url"
    return Permanent, f"refused, see https://www.twilio.com/docs/api/errors/{code}"


def delivery_failure(code: str) -> str:
    """What the `ErrorCode` of a status callback means; empty when there is none."""
    if re.fullmatch(r"[0-9]{1,6}", code) is None:
        return ""
    _, reason = _REASONS.get(
        int(code), (None, f"see https://www.twilio.com/docs/api/errors/{code}")
    )
    return f"{reason} ({code})"


def unreachable(reason: str) -> Temporary:
    """A failure before anything was written: certainly not accepted."""
    return Temporary(NAME, reason, code=UNREACHABLE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After`, in seconds or as a date, or None when it says nothing.

    A date is read against the answer's own `Date` where there is one, so that a clock that is
    off does not count."""
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return float(max(0, math.ceil((until - now).total_seconds())))


def _date(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
