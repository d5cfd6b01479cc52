"""What Twilio has accepted from one sender to one recipient, and what it took from customers.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources. Whether
a reply is sent once more rests on this list: what cannot be read is an error, never an empty list,
and a message that is only half readable stays in it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from replyd.adapters.twilio import failures, inbound
from replyd.domain.catch_up import Inbox, Listed
from replyd.domain.messages import SentMessage
from replyd.errors import Permanent, Temporary
from replyd.ports import KeptMessage, KeptMessages

# Twilio allows 1000. With 500 the largest page stays small enough to be read at once, and most
# conversations are one page, so that it does not matter where it sorts what has no `date_sent`.
PAGE_SIZE = 500
MAX_PAGES = 20
# Messages of one list whose files are looked up, each with a request of its own.
MAX_WITH_FILES = 40
LIST_REQUESTS = MAX_PAGES + MAX_WITH_FILES

_SID = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")

Page = Mapping[str, Any]
Get = Callable[[str], Awaitable[Page]]


def messages_path(account_sid: str) -> str:
    return f"/2010-04-01/Accounts/{account_sid}/Messages.json"


async def read_since(
    get: Get,
    account_sid: str,
    sender: str,
    recipient: str,
    since: int,
) -> Sequence[SentMessage]:
    """Oldest first. `get` reads one page by path and query; `since`: epoch ms.

    Not filtered by `DateSent`, which a queued message may lack. Raises Temporary for a page that
    is no list, Permanent when MAX_PAGES do not reach back to `since`: they would not next time."""
    since -= since % 1000
    query = {"To": recipient, "From": sender, "PageSize": PAGE_SIZE}
    rows, whole = await _read_rows(get, messages_path(account_sid), query, since)
    if whole:
        return _oldest_first([_sent(row, since) for row in rows if _may_be_ours(row)])
    raise Permanent(
        failures.NAME,
        f"the list of messages goes on after {MAX_PAGES} pages of {PAGE_SIZE}",
        code="list_too_long",
    )


async def received_since(
    get: Get, account_sid: str, since: int, until: int, *, api_url: str
) -> Inbox:
    """Oldest first, from `since` up to `until`, epoch ms. `get` reads one page, or the list of a
    message's files, by path and query; `api_url`: where the files' URLs begin.

    Twilio's list has the newest messages first. When MAX_PAGES do not reach back to `since`, or
    more than MAX_WITH_FILES messages have files, the inbox ends before what is missing."""
    since -= since % 1000
    # By day, which is as fine as this filter gets; inbound messages have the date from the start.
    day = datetime.fromtimestamp(since / 1000, UTC).date().isoformat()
    query = {"DateSent>": day, "PageSize": PAGE_SIZE}
    rows, whole = await _read_rows(get, messages_path(account_sid), query, since)
    # The order within a second is the list's, the other way round.
    rows.reverse()
    wanted = [r for r in rows if r.get("direction") == "inbound" and since <= _at(r, since) < until]
    wanted.sort(key=lambda row: _at(row, since))
    once = {_text(row, "sid"): row for row in wanted}
    found: list[Listed] = []
    reached, with_files, unreadable = until if whole else since, 0, 0
    for row in once.values():
        at = _at(row, since)
        files: Sequence[Page] = ()
        if _text(row, "num_media") not in ("", "0"):
            if with_files == MAX_WITH_FILES:
                return Inbox(tuple(found), min(reached, at), unreadable)
            with_files += 1
            files = await _files(get, account_sid, _text(row, "sid"))
        try:
            message = inbound.parse(_params(row, account_sid, files, api_url))
        except ValueError:
            unreadable += 1
            continue
        found.append(Listed(message, at))
    return Inbox(tuple(found), reached, unreadable)


async def exchanged_with(get: Get, account_sid: str, customer: str) -> KeptMessages:
    """From and to `customer`, an address with its prefix. `get` reads one page by path and query.

    What the list shows is about to be erased: a message counts only when its own fields say that
    it is one from or to a customer of this address. So a business number has none."""
    path, found, whole = messages_path(account_sid), dict[str, KeptMessage](), True
    for side, direction in (("From", "inbound"), ("To", "outbound")):
        rows, all_read = await _read_rows(get, path, {side: customer, "PageSize": PAGE_SIZE}, 0)
        whole = whole and all_read
        for row in rows:
            sid = _text(row, "sid")
            is_theirs = _text(row, side.lower()) == customer
            if is_theirs and _text(row, "direction").startswith(direction) and is_sid(sid):
                count = _text(row, "num_media")
                files = int(count) if count.isdecimal() else inbound.MAX_MEDIA
                found[sid] = KeptMessage(account_sid, sid, side == "From", files)
    return KeptMessages(tuple(found.values()), whole)


def is_sid(text: str) -> bool:
    return _SID.fullmatch(text) is not None


async def _read_rows(
    get: Get, path: str, query: Mapping[str, Any], since: int
) -> tuple[list[Page], bool]:
    """The list until a page has only older messages, the newest first, and whether that came
    within MAX_PAGES."""
    target = f"{path}?{urlencode(query)}"
    found: list[Page] = []
    for _ in range(MAX_PAGES):
        page = await get(target)
        rows = _rows(page)
        found += rows
        following = page.get("next_page_uri")
        if following is None or (rows and all(_at(row, since) < since for row in rows)):
            return found, True
        # Credentials go along: never to another host or another resource.
        if not isinstance(following, str) or not following.startswith(f"{path}?"):
            raise _unreadable("its next page is no page of the list")
        target = following
    return found, False


async def _files(get: Get, account_sid: str, sid: str) -> Sequence[Page]:
    """https://www.twilio.com/docs/messaging/api/media-resource#read-multiple-media-resources

    None where Twilio has them no longer: that must not cost the customer the message."""
    if _SID.fullmatch(sid) is None:
        return ()
    path = messages_path(account_sid).removesuffix(".json")
    try:
        answer = await get(f"{path}/{sid}/Media.json?PageSize={inbound.MAX_MEDIA}")
    except Permanent:
        return ()
    files = answer.get("media_list")
    if not isinstance(files, list):
        raise _unreadable("it is no list of files")
    return [file for file in files if isinstance(file, Mapping)]


def _params(row: Page, account_sid: str, files: Sequence[Page], api_url: str) -> dict[str, str]:
    """As the webhook has them, as far as the list tells: no profile name, buttons, location or
    `OptOutType`. `ReplydCatchUp` says where they come from."""
    sid = _text(row, "sid")
    params = {
        "MessageSid": sid,
        "AccountSid": account_sid,
        "From": _text(row, "from"),
        "To": _text(row, "to"),
        "Body": _text(row, "body"),
        "NumMedia": _text(row, "num_media") or "0",
        "SmsStatus": "received",
        "ReplydCatchUp": "true",
    }
    if service := _text(row, "messaging_service_sid"):
        params["MessagingServiceSid"] = service
    for n, file in enumerate(files):
        path = messages_path(account_sid).removesuffix(".json")
        params[f"MediaUrl{n}"] = f"{api_url}{path}/{sid}/Media/{_text(file, 'sid')}"
        params[f"MediaContentType{n}"] = _text(file, "content_type")
    return params


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
