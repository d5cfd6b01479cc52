"""The part of Twilio's REST API that a messaging daemon uses, for one account."""

import asyncio
import base64
import binascii
import hmac
import math
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from multidict import MultiDict

from replyd.demo import twilio_content
from replyd.demo import twilio_wire as wire
from replyd.demo.loopback import Fault, LoopbackServer, drop
from replyd.demo.twilio_media import MediaStore
from replyd.demo.twilio_senders import Senders
from replyd.domain.pacing import Bucket

PREFIX = "whatsapp:"
# Only then can a message be deleted: Twilio has refused it for one that was `sent`, too.
_COMPLETE = frozenset(("received", "delivered", "read", "undelivered", "failed"))
_DAYS = ("DateSent", "DateSent>", "DateSent<")


class TwilioApi(LoopbackServer):
    """Accounts, Messages, typing indicators. Every public attribute may be changed while it runs.

    `senders`: the account's numbers; `opted_out`: recipients that are refused with 21610;
    `delay`: seconds before the answer to a send that was accepted; `media`: files of messages,
    and the content network that has them, an origin of its own; `numbers`: the settings of the
    senders, which are to begin with that a message goes to `webhook_url`, and of other numbers.

    `per_second`: messages that one sender may send a second, None for any number, and `burst` at
    once; more are refused with 429, code 20429. `typing`: the SID of the message that each
    indicator was asked for; `typing_faults`: statuses of the next ones, instead.

    `templates`: bodies of content templates by SID, variables as `{{1}}`; `out_of_session`: bare
    addresses whose last message is too old for free text, which then ends as `undelivered`."""

    def __init__(self, account_sid: str, auth_token: str, business: str) -> None:
        super().__init__()
        self.account_sid = account_sid or wire.sid("AC")
        self.auth_token = auth_token or secrets.token_hex(16)
        self.account_status = "active"
        self.senders = {business}
        self.opted_out: set[str] = set()
        self.delay = 0.0
        self.media = MediaStore()
        self.numbers = Senders()
        self.webhook_url = ""
        self.per_second: float | None = None
        self.burst = 1
        self.typing: list[str] = []
        self.templates: dict[str, str] = {}
        self.out_of_session: set[str] = set()
        self.typing_faults: deque[int] = deque()
        self._sending: dict[str, Bucket] = {}
        self._created = datetime.now(UTC)
        self._resources: dict[str, dict[str, Any]] = {}
        self._received: dict[str, MultiDict[str]] = {}
        self._list_faults: deque[Fault] = deque()

    def routes(self) -> Iterable[web.RouteDef]:
        accounts = f"/{wire.API_VERSION}/Accounts"
        return [
            web.get(accounts + "/{account}.json", self._get_account),
            web.post(accounts + "/{account}/Messages.json", self._create_message),
            web.get(accounts + "/{account}/Messages.json", self._list_messages),
            web.get(accounts + "/{account}/Messages/{sid}.json", self._get_message),
            web.delete(accounts + "/{account}/Messages/{sid}.json", self._delete_message),
            web.get(accounts + "/{account}/Messages/{sid}/Media.json", self._list_media),
            web.get(accounts + "/{account}/Messages/{sid}/Media/{media}", self._get_media),
            web.post("/v2/Indicators/Typing.json", self._show_typing),
            *self.numbers.routes(self._authenticated),
        ]

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        await self.media.cdn.start()
        for sender in self.senders:
            if not self.numbers.has_whatsapp(sender):
                self.numbers.add_whatsapp(sender, self.webhook_url)

    async def stop(self) -> None:
        await super().stop()
        await self.media.cdn.stop()

    def add_media(self, content_type: str, data: bytes, *, message_sid: str = "") -> str:
        """The URL of a file that a customer is about to send, for the `media` of `receive`.
        `message_sid`: of its message, whose `sid` it must be; a fresh one by default."""
        message_sid = message_sid or wire.sid("MM")
        return self.base_url + self.media.add(self.account_sid, message_sid, content_type, data)

    def _accept(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Take a message on that nothing is wrong with; the resource to answer with."""
        raise NotImplementedError

    async def _get_account(self, request: web.Request) -> web.Response:
        """GET /Accounts/{Sid}: https://www.twilio.com/docs/iam/api/account-resource"""
        if not self._authenticated(request):
            return _unauthorized()
        return web.json_response(
            wire.account_resource(self.account_sid, self._created, self.account_status)
        )

    async def _create_message(self, request: web.Request) -> web.Response:
        """POST /Messages, create a Message:
        https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""
        if not self._authenticated(request):
            return _unauthorized()
        form = dict(parse_qsl(await request.text(), keep_blank_values=True))
        fault = self._next_fault()
        if fault is None or fault.accept:
            if code := self._refusal(form):
                return wire.error(400, code)
            if wait := self._too_fast(form.get("From", "")):
                return wire.error(429, 20429, headers={"Retry-After": str(math.ceil(wait))})
            resource = self._accept(form)
            # After the work, so that a client that gives up meets an accepted message.
            if self.delay:
                await asyncio.sleep(self.delay)
            if fault is None:
                return web.json_response(resource, status=201)
        if fault.status == 0:
            return drop(request)
        return wire.error(fault.status, int(fault.code), headers=fault.headers)

    async def _show_typing(self, request: web.Request) -> web.Response:
        """POST /v2/Indicators/Typing.json, which Twilio has on messaging.twilio.com:
        https://www.twilio.com/docs/whatsapp/api/typing-indicators-resource"""
        if not self._authenticated(request):
            return _unauthorized()
        form = dict(parse_qsl(await request.text(), keep_blank_values=True))
        if self.typing_faults:
            status = self.typing_faults.popleft()
            return wire.error(status, {429: 20429, 503: 20503}.get(status, 20001))
        resource = self._resources.get(form.get("messageId", ""))
        if form.get("channel") != "whatsapp":
            return wire.error(400, 20001)
        if resource is None or resource["direction"] != "inbound":
            return wire.error(404, 20404)
        self.typing.append(form["messageId"])
        return web.json_response({"success": True})

    def _refused_read(self) -> web.Response:
        fault = self._list_faults.popleft()
        return wire.error(fault.status, int(fault.code), headers=fault.headers)

    async def _get_message(self, request: web.Request) -> web.Response:
        """GET /Messages/{Sid}, fetch a Message:
        https://www.twilio.com/docs/messaging/api/message-resource#fetch-a-message-resource"""
        if not self._authenticated(request):
            return _unauthorized()
        if self._list_faults:
            return self._refused_read()
        resource = self._resources.get(request.match_info["sid"])
        return wire.error(404, 20404) if resource is None else web.json_response(resource)

    async def _delete_message(self, request: web.Request) -> web.Response:
        """DELETE /Messages/{Sid}, with its files, refused until Twilio is done with it:
        https://www.twilio.com/docs/messaging/api/message-resource#delete-a-message-resource"""
        if not self._authenticated(request):
            return _unauthorized()
        if self._list_faults:
            return self._refused_read()
        sid = request.match_info["sid"]
        resource = self._resources.get(sid)
        if resource is None:
            return wire.error(404, 20404)
        if resource["status"] not in _COMPLETE:
            return wire.error(409, 20009)
        self._drop(sid)
        return web.Response(status=204)

    def _drop(self, sid: str) -> None:
        """Forget a message that was deleted."""
        del self._resources[sid]
        self._received.pop(sid, None)
        self.media.drop(sid)

    async def _get_media(self, request: web.Request) -> web.Response:
        """GET /Messages/{Sid}/Media/{Sid}, fetch a Media resource:
        https://www.twilio.com/docs/messaging/api/media-resource#fetch-a-media-resource"""
        return self.media.answer(request) if self._authenticated(request) else _unauthorized()

    async def _list_media(self, request: web.Request) -> web.Response:
        """GET /Messages/{Sid}/Media, what has come with a message:
        https://www.twilio.com/docs/messaging/api/media-resource#read-multiple-media-resources"""
        if not self._authenticated(request):
            return _unauthorized()
        message_sid = request.match_info["sid"]
        if message_sid not in self._resources:
            return wire.error(404, 20404)
        path = f"{request.path.removesuffix('.json')}/"
        created = wire.rfc2822(self._created)
        body = {
            "media_list": [
                {
                    "account_sid": self.account_sid,
                    "content_type": content_type,
                    "date_created": created,
                    "date_updated": created,
                    "parent_sid": message_sid,
                    "sid": sid,
                    "uri": f"{path}{sid}.json",
                }
                for sid, content_type in self._files_of(message_sid)
            ],
            "page": 0,
            "next_page_uri": None,
            "uri": request.path,
        }
        return web.json_response(body)

    def _files_of(self, message_sid: str) -> Iterator[tuple[str, str]]:
        """SID and content type of each file that a customer's message has."""
        params = self._received.get(message_sid, MultiDict[str]())
        for n in range(int(params.get("NumMedia", "0"))):
            url, content_type = params.get(f"MediaUrl{n}", ""), params[f"MediaContentType{n}"]
            if url:
                yield url.rpartition("/")[2], content_type

    def date_back(self, sid: str, seconds: float) -> None:
        """Let a message have come, or have been sent, so much earlier."""
        resource = self._resources[sid]
        for name in ("date_created", "date_sent", "date_updated"):
            if resource[name] is not None:
                then = parsedate_to_datetime(resource[name]) - timedelta(seconds=seconds)
                resource[name] = wire.rfc2822(then)

    async def _list_messages(self, request: web.Request) -> web.Response:
        """GET /Messages, newest first, filters To, From, DateSent (days), PageSize up to 1000:
        https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources

        Pages hang together by `PageToken`, so that what comes meanwhile moves nothing."""
        if not self._authenticated(request):
            return _unauthorized()
        if self._list_faults:
            return self._refused_read()
        query = request.query
        found = [r for r in reversed(self._resources.values()) if _selected(r, query)]
        try:
            size = min(max(int(query.get("PageSize", "50")), 1), 1000)
            page = max(int(query.get("Page", "0")), 0)
            start = _start(found, query.get("PageToken", ""), size)
        except ValueError:
            return wire.error(400, 20001)
        shown = found[start : start + size]

        def uri(number: int, token: str = "") -> str:
            asked = {n: v for n, v in query.items() if n != "PageToken"}
            asked |= {"PageSize": str(size), "Page": str(number)}
            return f"{request.path}?{urlencode(asked | ({'PageToken': token} if token else {}))}"

        before = uri(max(page - 1, 0), f"PB{shown[0]['sid']}") if start and shown else None
        more = len(found) > start + size
        body = {
            "messages": shown,
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(len(shown) - 1, 0),
            "uri": uri(page, query.get("PageToken", "")),
            "first_page_uri": uri(0),
            "previous_page_uri": before,
            "next_page_uri": uri(page + 1, f"PA{shown[-1]['sid']}") if more else None,
        }
        return web.json_response(body)

    def _authenticated(self, request: web.Request) -> bool:
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = f"{self.account_sid}:{self.auth_token}".encode()
        return (
            scheme.lower() == "basic"
            and hmac.compare_digest(given, wanted)
            and request.match_info.get("account", self.account_sid) == self.account_sid
        )

    def _too_fast(self, sender: str) -> float:
        """Seconds until the sender may send, or 0 for now, which counts."""
        if self.per_second is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        bucket = self._sending.get(sender) or Bucket(self.burst, self.per_second, self.burst)
        if not (wait := bucket.wait(1, now)):
            self._sending[sender] = bucket.take(1, now)
        return wait

    def _refusal(self, form: Mapping[str, str]) -> int:
        """The code that Twilio refuses the form with, or 0."""
        sender, recipient = form.get("From", ""), form.get("To", "")
        service = form.get("MessagingServiceSid", "")
        bare = recipient.removeprefix(PREFIX)
        content = any(form.get(name) for name in ("Body", "MediaUrl", "ContentSid"))
        checks = (
            (not recipient, 21604),
            (not sender and not service, 21603),
            (not content, 21602),
            (len(form.get("Body", "")) > wire.MAX_BODY, 21617),
            (not wire.is_number(bare) and not wire.is_business_scoped(bare), 21211),
            (bool(sender) and _channel(sender) != _channel(recipient), 21910),
            (bool(sender) and sender.removeprefix(PREFIX) not in self.senders, 63007),
            (bare in self.opted_out, 21610),
        )
        wrong_content = twilio_content.refusal(form, self.templates)
        return next((code for wrong, code in checks if wrong), wrong_content)


def _unauthorized() -> web.Response:
    return wire.error(401, 20003, headers={"WWW-Authenticate": 'Basic realm="Twilio API"'})


def _channel(address: str) -> str:
    return address.partition(":")[0] if ":" in address else "sms"


def _start(found: Sequence[Mapping[str, Any]], token: str, size: int) -> int:
    """Where the page begins: after (`PA<sid>`) or before (`PB<sid>`) a message.

    Raises ValueError for a token that names none."""
    if not token:
        return 0
    place = [resource["sid"] for resource in found].index(token[2:])
    return place + 1 if token.startswith("PA") else max(place - size, 0)


def _selected(resource: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether a list with these filters has it. What is not sent yet was sent on no day."""
    if any(query.get(k) not in (None, resource[f]) for k, f in (("To", "to"), ("From", "from"))):
        return False
    days = {name: query[name][:10] for name in _DAYS if name in query}
    if not days:
        return True
    if resource["date_sent"] is None:
        return False
    day = parsedate_to_datetime(resource["date_sent"]).date().isoformat()
    return (
        days.get("DateSent", day) == day
        and days.get("DateSent>", day) <= day
        and days.get("DateSent<", day) >= day
    )
