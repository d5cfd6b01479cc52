"""What Twilio has accepted from one sender to one recipient.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources. Whether
a reply is sent once more rests on this list: what cannot be read is an error, never an empty list,
and a message that is only half readable stays in it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from replyd.adapters.twilio import failures
from replyd.domain.messages import SentMessage
from replyd.errors import Permanent, Temporary

# Twilio allows 1000. With 500 the largest page stays small enough to be read at once, and most
# conversations are one page, so that it does not matter where it sorts what has no `date_sent`.
PAGE_SIZE = 500
MAX_PAGES = 20

Page = Mapping[str, Any]


def messages_path(account_sid: str) -> str:
    return f"/2010-04-01/Accounts/{account_sid}/Messages.json"


async def read_since(
    get: Callable[[str], Awaitable[Page]],
    account_sid: str,
    sender: str,
    recipient: str,
    since: int,
) -> Sequence[SentMessage]:
    """Oldest first. `get` reads one page by path and query; `since`: epoch ms.

    Not filtered by `DateSent`, which a queued message may lack. Raises Temporary for a page that
    is no list, Permanent when MAX_PAGES do not reach back to `since`: they would not next time."""
    since -= since % 1000
    path = messages_path(account_sid)
    query = urlencode({"To": recipient, "From": sender, "PageSize": PAGE_SIZE})
    target = f"{path}?{query}"
    found: list[SentMessage] = []
    for _ in range(MAX_PAGES):
        page = await get(target)
        rows = _rows(page)
        found += [_sent(row, since) for row in rows if _may_be_ours(row)]
        following = page.get("next_page_uri")
        if following is None or (rows and all(_at(row, since) < since for row in rows)):
            return _oldest_first(found)
        # Credentials go along: never to another host or another resource.
        if not isinstance(following, str) or not following.startswith(f"{path}?"):
            raise _unreadable("its next page is no page of the list")
        target = following
    raise Permanent(
        failures.NAME,
        f"the list of messages goes on after {MAX_PAGES} pages of {PAGE_SIZE}",
        code="list_too_long",
    )


def _rows(page: Page) -> list[Page]:
    rows = page.get("messages")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise _unreadable("it is no list of messages")
    return rows


def _may_be_ours(row: Page) -> bool:
    """Outbound, or of a direction that cannot be read."""
    direction = row.get("direction")
    return not isinstance(direction, str) or direction.startswith("outbound")


def _sent(row: Page, since: int) -> SentMessage:
    return SentMessage(_text(row, "sid"), _text(row, "body"), _at(row, since))


def _at(row: Page, since: int) -> int:
    """When Twilio created it, epoch ms. A date that cannot be read counts as `since`."""
    try:
        created = parsedate_to_datetime(row["date_created"])
        return int(created.timestamp()) * 1000
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return since


def _text(row: Page, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _oldest_first(newest_first: Sequence[SentMessage]) -> list[SentMessage]:
    """Each SID once: a message that comes between two pages moves others to the next one."""
    once = {message.sid or str(place): message for place, message in enumerate(newest_first)}
    # The order within a second is the list's.
    found = list(reversed(once.values()))
    found.sort(key=lambda message: message.at)
    return found


def _unreadable(what: str) -> Temporary:
    return Temporary(
        failures.NAME,
        f"the answer cannot be read, {what}: check twilio.base_url",
        code="unreadable",
    )
