"""What Twilio's answers mean: the one table from statuses and codes to errors.

Codes: https://www.twilio.com/docs/api/errors. Twilio's own sentences are not passed on, they
quote numbers. A 4xx is a proof that the message was not accepted; a 5xx proves nothing.

`python -m replyd.adapters.twilio.failures` writes docs/twilio-errors.md from the table, in a
checkout; a test checks that it is current.
"""

import email.utils
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from replyd.errors import Ambiguous, Busy, DependencyDown, DependencyError, Permanent, Temporary

NAME = "twilio"
UNREACHABLE = "unreachable"  # the code of a failure before anything was written
ERRORS_FILE = Path("docs/twilio-errors.md")

_LINK = "https://www.twilio.com/docs/api/errors"


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of errors. `error`: what a refused send raises. `does`: what replyd does then."""

    name: str
    error: type[DependencyError]
    meaning: str
    does: str


_HANDED_OVER = "People get the conversation, with the reason."
_OFTEN = "after `turn.max_attempts` attempts people get the conversation"
_LONG = "after `turn.give_up_after_seconds` people get the conversation"

RETRY = Kind("retry", Temporary, "It failed for now.", f"Sends again later; {_OFTEN}.")
PAUSE = Kind(
    "pause",
    Busy,
    "The number, or its queue at Twilio, is at its limit.",
    "Sends nothing from this number for as long as `Retry-After` says, else 5 seconds, then sends "
    f"again; other numbers go on; {_LONG}.",
)
RECONCILE = Kind(
    "reconcile",
    Ambiguous,
    "Twilio may have accepted the message.",
    "Looks the message up in Twilio's list, and sends again only what is not there; where that "
    "cannot be told, `turn.on_ambiguous` decides.",
)
WINDOW = Kind("window", Permanent, "WhatsApp's 24 hours are over.", _HANDED_OVER)
CONTENT = Kind("content", Permanent, "The message itself is refused.", _HANDED_OVER)
RECIPIENT = Kind("recipient", Permanent, "The customer cannot be reached.", _HANDED_OVER)
SENDER = Kind("sender", Permanent, "The number cannot send; others can.", _HANDED_OVER)
ACCOUNT = Kind(
    "account",
    DependencyDown,
    "Nobody can send with the account.",
    f"Sends again later, once the account is repaired; {_LONG}.",
)

OUTAGE = Kind("outage", DependencyDown, "Nobody can reach Twilio.", f"Sends again later; {_LONG}.")

KINDS = (RETRY, PAUSE, RECONCILE, WINDOW, CONTENT, RECIPIENT, SENDER, ACCOUNT, OUTAGE)

_CREDENTIALS = "the account SID or auth token is refused: set the account's current auth token"
_SENDER = "the account cannot send from this business number: check the sender in the console"
_CONTENT = "the message's content is refused"
_RECIPIENT = "the recipient cannot be reached on WhatsApp at this address"
_TEMPLATE = "the message template is missing, paused or does not fit its variables"
_PROVIDER = "WhatsApp could not take the message for now"
_FAILED = "Twilio failed: the message may have been accepted"
_TOO_MANY = "too many requests"

# Code to kind, and a reason that an operator can act on.
CODES: Mapping[int, tuple[Kind, str]] = {
    20003: (ACCOUNT, _CREDENTIALS),
    20005: (ACCOUNT, "the account is suspended or closed: see the console"),
    63038: (ACCOUNT, "the account's daily message limit is used up"),
    21606: (SENDER, _SENDER),
    63001: (SENDER, "WhatsApp refuses the sender's credentials: reconnect it in the console"),
    63002: (SENDER, "WhatsApp does not know the sender: check it in the console"),
    30034: (SENDER, "the number is not registered for A2P messages to the US"),
    63007: (SENDER, _SENDER),
    63020: (SENDER, "the business has not accepted Twilio's invitation at Meta"),
    63051: (SENDER, "the WhatsApp business account is blocked or restricted by Meta"),
    20429: (PAUSE, _TOO_MANY),
    21611: (PAUSE, "the sender's queue is full"),
    30001: (PAUSE, "the account's queue is full"),
    63017: (PAUSE, "the sender's rate limit at WhatsApp is reached"),
    63018: (PAUSE, "the sender's rate limit at WhatsApp is reached"),
    63009: (RETRY, _PROVIDER),
    63010: (RETRY, _PROVIDER),
    63012: (RETRY, _PROVIDER),
    63019: (RETRY, "WhatsApp could not fetch the message's media"),
    20500: (RECONCILE, _FAILED),
    20503: (RECONCILE, _FAILED),
    21602: (CONTENT, "the message has no text"),
    21617: (CONTENT, "the message is longer than 1600 characters"),
    21658: (CONTENT, "the message is longer than 1600 characters"),
    21619: (CONTENT, "the message has neither text nor media"),
    21620: (CONTENT, "a media URL of the message is not valid"),
    21609: (CONTENT, "the status callback URL is not valid: check server.public_url"),
    21654: (CONTENT, _TEMPLATE),
    21655: (CONTENT, _TEMPLATE),
    21656: (CONTENT, _TEMPLATE),
    63005: (CONTENT, _CONTENT),
    30007: (CONTENT, "Twilio or a carrier has filtered the message out"),
    63021: (CONTENT, _CONTENT),
    63027: (CONTENT, _TEMPLATE),
    63028: (CONTENT, _TEMPLATE),
    63040: (CONTENT, _TEMPLATE),
    63041: (CONTENT, _TEMPLATE),
    63042: (CONTENT, _TEMPLATE),
    63016: (
        WINDOW,
        "the customer's last message is more than 24 hours old: only a template may be sent",
    ),
    21211: (RECIPIENT, "the recipient's address is not valid"),
    21604: (RECIPIENT, "the recipient is missing"),
    21610: (RECIPIENT, "the recipient has opted out of messages from this sender"),
    21408: (RECIPIENT, "SMS to this country is switched off: see geo permissions in the console"),
    21612: (RECIPIENT, "the recipient cannot be reached by SMS from this number"),
    21614: (RECIPIENT, "the recipient's number takes no messages"),
    21910: (RECIPIENT, "sender and recipient are on different channels"),
    30003: (RECIPIENT, "the recipient's phone is off or out of reach"),
    30004: (RECIPIENT, "the recipient has blocked this sender, or takes no messages"),
    30005: (RECIPIENT, "the recipient's number is not in use"),
    30006: (RECIPIENT, "the recipient's number is a landline, or its carrier out of reach"),
    30008: (RECIPIENT, "the carrier did not deliver it, and does not say why"),
    63003: (RECIPIENT, _RECIPIENT),
    63014: (RECIPIENT, "the recipient has blocked this sender"),
    63015: (RECIPIENT, "the recipient has not joined the WhatsApp sandbox"),
    63024: (RECIPIENT, _RECIPIENT),
    63032: (RECIPIENT, "WhatsApp limits messages to this recipient"),
    63033: (RECIPIENT, "the recipient has blocked this sender"),
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
    kind, reason = CODES.get(code or 0) or _by_status(status, code)
    reason = f"{reason} ({shown})"
    if issubclass(kind.error, Temporary):
        return kind.error(NAME, reason, code=shown, delay=delay)
    return kind.error(NAME, reason, code=shown)


def from_read(status: int, code: int | None, delay: float | None) -> DependencyError:
    """The error for a read that was answered with anything but 200. Nothing can have been done,
    so no answer is ambiguous."""
    error = from_answer(status, code, delay)
    if isinstance(error, Ambiguous):
        return Temporary(NAME, f"HTTP {status} ({error.code})", code=error.code, delay=delay)
    if status == 403 and code not in CODES:
        reason = f"the credentials may not read messages: check the account ({error.code})"
        return Permanent(NAME, reason, code=error.code)
    return error


def _by_status(status: int, code: int | None) -> tuple[Kind, str]:
    if status == 429:
        return PAUSE, _TOO_MANY
    if status == 401:
        return ACCOUNT, _CREDENTIALS
    if status == 403:
        return ACCOUNT, "the credentials may not send messages: check the account"
    if code is None:
        return CONTENT, f"refused with HTTP {status} and no code: check twilio.base_url"
    return CONTENT, f"refused, see {_LINK}/{code}"


def delivery_failure(code: str) -> str:
    """What the `ErrorCode` of a status callback means; empty when there is none."""
    if not _is_code(code):
        return ""
    reason = CODES[int(code)][1] if int(code) in CODES else f"see {_LINK}/{code}"
    return f"{reason} ({code})"


def pauses_sender(code: str) -> bool:
    """Whether the `ErrorCode` of a status callback says that the number sends too much."""
    return _is_code(code) and int(code) in CODES and CODES[int(code)][0] is PAUSE


def _is_code(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", text) is not None


def unreachable(reason: str) -> DependencyDown:
    """A failure to connect: certainly not accepted, and the next conversation would fare no
    better, so that an outage uses up nobody's attempts."""
    return DependencyDown(NAME, reason, code=UNREACHABLE)


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


# --- docs/twilio-errors.md ---------------------------------------------------------------------

_INTRODUCTION = f"""\
# Twilio's errors

Made from the table in `replyd/adapters/twilio/failures.py` by
`python -m replyd.adapters.twilio.failures`. Twilio explains its codes at
<{_LINK}>.

Errors come in two ways: as the answer to a send, or later in a status callback, when Twilio had
accepted the message. Most codes from 63000 come in a callback. Then nothing is sent again,
whatever the class: people get the message that was answered, with the reason `undelivered`, unless
`delivery.record` leaves the state out. A code of the class `pause` also pauses the number.

What follows is about the first message of a reply. When a later one cannot be sent, what was sent
stands, and the record tells how far the reply came: `partly_sent`.

## Classes

"""

_DEFAULTS = (
    ("5xx, 408", RECONCILE, "whatever the code"),
    ("429", PAUSE, _TOO_MANY),
    ("401", ACCOUNT, _CREDENTIALS),
    ("403", ACCOUNT, "the credentials may not send messages: check the account"),
    ("other 4xx", CONTENT, f"refused, see {_LINK}"),
    ("1xx to 3xx", ACCOUNT, "no answer of Twilio's API: check `twilio.base_url`"),
    ("no connection", OUTAGE, "nothing was written; after a short while tried again at once"),
    ("no answer, or a broken one", RECONCILE, "the request was written, or may have been"),
)


def markdown() -> str:
    """The text of docs/twilio-errors.md."""
    return _INTRODUCTION + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from ("| class | meaning | what replyd does with a send |", "|---|---|---|")
    yield from (f"| {kind.name} | {kind.meaning} | {kind.does} |" for kind in KINDS)
    yield from ("", "## Codes", "", "| code | class | reason | what replyd does |")
    yield "|---|---|---|---|"
    for code, (kind, reason) in sorted(CODES.items()):
        yield f"| [{code}]({_LINK}/{code}) | {kind.name} | {reason} | {kind.does} |"
    yield from ("", "## Any other code, by HTTP status", "", "| status | class | reason |")
    yield "|---|---|---|"
    yield from (f"| {status} | {kind.name} | {reason} |" for status, kind, reason in _DEFAULTS)


if __name__ == "__main__":
    ERRORS_FILE.write_text(markdown(), "utf-8")
