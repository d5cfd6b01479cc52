"""Twilio's numbers on loopback: WhatsApp senders, numbers for SMS, and Messaging Services.

https://www.twilio.com/docs/whatsapp/api/senders,
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/messaging/api/service-resource. What Twilio has on two hosts is on one
here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from replyd.demo import twilio_wire as wire

_ACCOUNT_NUMBERS = f"/{wire.API_VERSION}/Accounts/{{account}}/IncomingPhoneNumbers"
_SENDER_METHODS = (None, "POST", "PUT")
_WEBHOOK = (
    *("callback_url", "callback_method", "fallback_url", "fallback_method"),
    *("status_callback_url", "status_callback_method"),
)
_SMS = {
    "SmsUrl": "sms_url",
    "SmsMethod": "sms_method",
    "SmsFallbackUrl": "sms_fallback_url",
    "SmsFallbackMethod": "sms_fallback_method",
}


class Senders:
    """The account's numbers as Twilio shows and changes them.

    `whatsapp`, `phones`, `services`: the resources by SID, which may be changed at any time;
    `members`: the addresses in each service; `forbidden`: lists that the credentials may not
    read or change, among `senders`, `phones` and `services`; `updates`: SIDs, as changed."""

    def __init__(self) -> None:
        self.whatsapp: dict[str, dict[str, Any]] = {}
        self.phones: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.members: dict[str, list[str]] = {}
        self.forbidden: set[str] = set()
        self.updates: list[str] = []

    def add_whatsapp(self, number: str, url: str = "", **webhook: str) -> dict[str, Any]:
        """A sender that is online; `webhook`: more of its settings."""
        sid = wire.sid("XE")
        given = {"callback_url": url or None, "callback_method": "POST" if url else None} | webhook
        self.whatsapp[sid] = {
            "sid": sid,
            "status": "ONLINE",
            "sender_id": f"whatsapp:{number}",
            "friendly_name": None,
            "configuration": {"waba_id": "1234567890"},
            "webhook": dict.fromkeys(_WEBHOOK) | given,
            "profile": {"name": "replyd demo"},
            "properties": {"quality_rating": "HIGH", "messaging_limit": "10K Customers/24hr"},
            "offline_reasons": None,
            "compliance": None,
            "url": f"https://messaging.twilio.com/v2/Channels/Senders/{sid}",
        }
        return self.whatsapp[sid]

    def has_whatsapp(self, number: str) -> bool:
        return any(s["sender_id"] == f"whatsapp:{number}" for s in self.whatsapp.values())

    def add_phone(
        self, number: str, url: str = "", *, sms: bool = True, **settings: str
    ) -> dict[str, Any]:
        """A number that takes calls, and SMS with `sms`; `settings`: more of its resource."""
        sid = wire.sid("PN")
        self.phones[sid] = {
            "sid": sid,
            "phone_number": number,
            "friendly_name": number,
            "capabilities": {"voice": True, "sms": sms, "mms": False, "fax": False},
            "sms_application_sid": "",
            "sms_url": url,
            "sms_method": "POST",
            "sms_fallback_url": "",
            "sms_fallback_method": "POST",
            "status": "in-use",
            **settings,
        }
        return self.phones[sid]

    def add_service(
        self, members: Sequence[str], url: str = "", *, defers: bool = False
    ) -> dict[str, Any]:
        """`members`: addresses, `whatsapp:+44…` or `+44…`; `defers`: to their own webhooks."""
        sid = wire.sid("MG")
        self.members[sid] = list(members)
        self.services[sid] = {
            "sid": sid,
            "friendly_name": "Replies",
            "inbound_request_url": url or None,
            "inbound_method": "POST",
            "fallback_url": None,
            "fallback_method": "POST",
            "use_inbound_webhook_on_number": defers,
        }
        return self.services[sid]

    def routes(self, authenticated: Callable[[web.Request], bool]) -> Iterable[web.RouteDef]:
        def guarded(what: str, handler: Callable[[web.Request], Any]) -> Any:
            async def answer(request: web.Request) -> web.Response:
                if not authenticated(request):
                    return wire.error(401, 20003)
                if what in self.forbidden:
                    return wire.error(403, 70051, "Authorization failed")
                response: web.Response = await handler(request)
                return response

            return answer

        senders, service = "/v2/Channels/Senders", "/v1/Services/{sid}"
        return [
            web.get(senders, guarded("senders", self._list_senders)),
            web.post(senders + "/{sid}", guarded("senders", self._update_sender)),
            web.get(_ACCOUNT_NUMBERS + ".json", guarded("phones", self._list_phones)),
            web.post(_ACCOUNT_NUMBERS + "/{sid}.json", guarded("phones", self._update_phone)),
            web.get("/v1/Services", guarded("services", self._list_services)),
            web.get(service + "/ChannelSenders", guarded("services", self._list_members)),
            web.get(service + "/PhoneNumbers", guarded("services", self._list_members)),
        ]

    async def _list_senders(self, request: web.Request) -> web.Response:
        if request.query.get("Channel") != "whatsapp":
            return wire.error(400, 20001)
        return _page(request, "senders", list(self.whatsapp.values()))

    async def _update_sender(self, request: web.Request) -> web.Response:
        """Answers 202. Twilio does not say whether a `webhook` that leaves fields out keeps them:
        here it does not."""
        sender = self.whatsapp.get(request.match_info["sid"])
        if sender is None:
            return wire.error(404, 20404)
        if request.content_type != "application/json":
            return wire.error(415, 20001)
        webhook = (await request.json()).get("webhook", {})
        methods = [webhook.get(f"{kind}_method") for kind in ("callback", "fallback")]
        if not set(webhook) <= set(_WEBHOOK) or any(m not in _SENDER_METHODS for m in methods):
            return wire.error(400, 20001)
        sender["webhook"] = dict.fromkeys(_WEBHOOK) | webhook
        self.updates.append(sender["sid"])
        return web.json_response(sender, status=202)

    async def _list_phones(self, request: web.Request) -> web.Response:
        shown, page, size, more = _cut(request, list(self.phones.values()))
        following = f"{request.path}?PageSize={size}&Page={page + 1}"
        body = {
            "incoming_phone_numbers": shown,
            "page": page,
            "page_size": size,
            "uri": request.path_qs,
            "next_page_uri": following if more else None,
        }
        return web.json_response(body)

    async def _update_phone(self, request: web.Request) -> web.Response:
        phone = self.phones.get(request.match_info["sid"])
        if phone is None:
            return wire.error(404, 20404)
        form = dict(parse_qsl(await request.text(), keep_blank_values=True))
        if form.get("SmsMethod", "POST") not in ("GET", "POST"):
            return wire.error(400, 20001)
        phone.update({_SMS[name]: value for name, value in form.items() if name in _SMS})
        self.updates.append(phone["sid"])
        return web.json_response(phone)

    async def _list_services(self, request: web.Request) -> web.Response:
        return _page(request, "services", list(self.services.values()))

    async def _list_members(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if sid not in self.members:
            return wire.error(404, 20404)
        if request.path.endswith("/PhoneNumbers"):
            mine = [p for p in self.phones.values() if p["phone_number"] in self.members[sid]]
            rows = [{"sid": p["sid"], "phone_number": p["phone_number"]} for p in mine]
            return _page(request, "phone_numbers", rows)
        senders = [s for s in self.whatsapp.values() if s["sender_id"] in self.members[sid]]
        found = [{"sid": s["sid"], "sender": s["sender_id"]} for s in senders]
        return _page(request, "senders", found)


def _page(request: web.Request, key: str, rows: Sequence[Any]) -> web.Response:
    shown, page, size, more = _cut(request, rows)
    url = f"{request.url.origin()}{request.path}"
    query = {name: value for name, value in request.query.items() if name != "Page"}
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    meta = {
        "page": page,
        "page_size": size,
        "first_page_url": f"{url}?{asked}&Page=0",
        "previous_page_url": f"{url}?{asked}&Page={page - 1}" if page else None,
        "url": f"{url}?{asked}&Page={page}",
        "next_page_url": f"{url}?{asked}&Page={page + 1}" if more else None,
        "key": key,
    }
    return web.json_response({key: shown, "meta": meta})


def _cut(request: web.Request, rows: Sequence[Any]) -> tuple[Sequence[Any], int, int, bool]:
    """The rows of the page, its number and size, and whether more come."""
    size = min(max(int(request.query.get("PageSize", "50")), 1), 1000)
    page = max(int(request.query.get("Page", "0")), 0)
    start = page * size
    return rows[start : start + size], page, size, len(rows) > start + size
