"""Twilio on loopback, for `replyd demo` and tests: the Messages API, WhatsApp webhooks and status
callbacks as https://www.twilio.com/docs/messaging publishes them, and faults on demand."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from multidict import MultiDict

from replyd.demo import twilio_content
from replyd.demo import twilio_wire as wire
from replyd.demo.loopback import Fault
from replyd.demo.twilio_api import PREFIX, TwilioApi
from replyd.demo.twilio_webhooks import Delivery, WebhookSender

_RANK = {"queued": 0, "accepted": 0, "sent": 1, "delivered": 2, "read": 3, "undelivered": 3}


@dataclass(slots=True)
class Exchanged:
    """One line of the transcript, addresses without the channel prefix. `state` is Twilio's for
    an outbound message; for an inbound one `sending`, then `delivered` or `failed`."""

    sid: str
    direction: str
    customer: str
    business: str
    text: str
    at_ms: int
    state: str


class TwilioDouble(TwilioApi):
    """One account, its customers' phones and its webhooks.

    `transcript`: both directions in order; `sent`: what was accepted for customers; `callbacks`:
    each status callback's state and outcome. `retries`: of a webhook that failed; `timeout`: its
    seconds, Twilio's 15 by default. All public attributes may be changed while it runs."""

    def __init__(
        self,
        *,
        account_sid: str = "",
        auth_token: str = "",
        business: str = "+447700900100",
        webhook_url: str = "",
        deliver_to: str = "",
        callback_delays: tuple[float, float] = (0.05, 0.15),
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`account_sid`, `auth_token`: fresh ones when empty. `business`: the account's sender.

        `webhook_url`: the URL that an inbound message is signed for; `deliver_to`: the origin
        whose socket gets it, and the callbacks, empty for the URL's own. `callback_delays`:
        seconds to `sent`, and from there to `delivered`."""
        super().__init__(account_sid, auth_token, business)
        self.business = business
        self.webhook_url = webhook_url
        self.deliver_to = deliver_to
        self.retries = 1
        self.timeout = 15.0
        self.callback_delays = callback_delays
        self.on_change = on_change
        self.transcript: list[Exchanged] = []
        self.sent: list[Exchanged] = []
        self.callbacks: list[tuple[str, Delivery]] = []
        self._lines: dict[str, Exchanged] = {}
        self._callback_urls: dict[str, str] = {}
        self._undeliverable: deque[tuple[int, str]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._webhooks = WebhookSender()

    # --- running ---

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        await self._webhooks.start()

    async def stop(self) -> None:
        """Cancels the callbacks that are still to come."""
        await super().stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._webhooks.stop()

    async def settle(self) -> None:
        """Wait until every callback that is due has been posted."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    # --- faults ---

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 503,
        code: int = 20503,
        accept: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` sends get an error; with `accept` although the message was accepted."""
        fault = Fault(status, str(code), accept=accept, headers=headers or {})
        self._faults.extend([fault] * n)

    def drop_next(self, n: int = 1, *, accept: bool = True) -> None:
        """The next `n` sends lose their connection, by default after having been accepted."""
        self._faults.extend([Fault(accept=accept)] * n)

    def fail_list_next(
        self,
        n: int = 1,
        *,
        status: int = 503,
        code: int = 20503,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `n` reads of the list get an error."""
        self._list_faults.extend([Fault(status, str(code), headers=headers or {})] * n)

    def clear_faults(self) -> None:
        super().clear_faults()
        self._list_faults.clear()
        self.media.clear_faults()

    def fail_delivery_next(self, n: int = 1, *, code: int = 63016, message: str = "") -> None:
        """The next `n` accepted messages end as `undelivered` with `code`."""
        self._undeliverable.extend([(code, message or "Failed to send")] * n)

    # --- customers ---

    async def receive(
        self,
        sender: str = "+447700900001",
        body: str = "hi",
        *,
        to: str | None = None,
        profile_name: str = "Lee",
        sid: str = "",
        media: Sequence[tuple[str, str]] = (),
        **extra: str | Sequence[str],
    ) -> Delivery:
        """A customer writes: post the webhook and return what became of it.

        `sender`: a number or a business-scoped id, with or without prefix. `media`: pairs of URL
        and content type. `extra`: more parameters, or other values for the usual ones; several
        values repeat the name, none leave it out. `sid`: a new message by default."""
        message_sid = sid or wire.sid("MM" if media else "SM")
        params = wire.inbound_params(
            message_sid,
            self.account_sid,
            sender=_prefixed(sender),
            recipient=_prefixed(to or self.business),
            body=body,
            profile_name=profile_name,
            media=media,
        )
        for name, value in extra.items():
            params.popall(name, None)
            for one in [value] if isinstance(value, str) else value:
                params.add(name, one)
        self._received[message_sid] = params
        self._resources[message_sid] = wire.message_resource(
            message_sid,
            self.account_sid,
            direction="inbound",
            sender=params["From"],
            recipient=params["To"],
            body=body,
            status="received",
            created=datetime.now(UTC),
            num_media=len(media),
        )
        self._record(message_sid, "in", params["From"], params["To"], body, "sending")
        return await self.redeliver(message_sid)

    async def redeliver(self, sid: str) -> Delivery:
        """Post the webhook of a received message again, every parameter the same."""
        delivery = await self._post(self.webhook_url, self._received[sid])
        line = self._lines[sid]
        if line.state != "delivered":
            line.state = "delivered" if delivery.ok else "failed"
            self._changed()
        return delivery

    async def mark_read(self, customer: str) -> int:
        """The customer reads everything that was sent so far. Returns how many messages."""
        bare = customer.removeprefix(PREFIX)
        unread = [m for m in self.sent if m.customer == bare and _RANK[m.state] < _RANK["read"]]
        for message in unread:
            await self._report(message.sid, "read")
        return len(unread)

    def conversation(self, customer: str) -> list[Exchanged]:
        """What was exchanged with one customer, in order."""
        bare = customer.removeprefix(PREFIX)
        return [line for line in self.transcript if line.customer == bare]

    def _accept(self, form: Mapping[str, str]) -> dict[str, Any]:
        service = form.get("MessagingServiceSid")
        sender = form.get("From") or None
        resource = wire.message_resource(
            wire.sid("SM"),
            self.account_sid,
            direction="outbound-api",
            sender=sender,
            recipient=form["To"],
            body=twilio_content.body_of(form, self.templates),
            created=datetime.now(UTC),
            status="accepted" if service else "queued",
            service=service,
        )
        answer = dict(resource)
        sid = str(resource["sid"])
        resource["from"] = sender or _prefixed(self.business)
        self._resources[sid] = resource
        self._callback_urls[sid] = form.get("StatusCallback", "")
        line = self._record(
            sid, "out", form["To"], resource["from"], resource["body"], resource["status"]
        )
        self.sent.append(line)
        self._changed()
        failure = self._undeliverable.popleft() if self._undeliverable else None
        if failure is None and self._is_out_of_session(form):
            failure = 63016, wire.MESSAGES[63016]
        task = asyncio.create_task(self._deliver(sid, failure))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    def _is_out_of_session(self, form: Mapping[str, str]) -> bool:
        prefix, _, bare = form["To"].rpartition(":")
        return bool(prefix) and "ContentSid" not in form and bare in self.out_of_session

    # --- states ---

    async def _deliver(self, sid: str, failure: tuple[int, str] | None) -> None:
        to_sent, to_end = self.callback_delays
        await asyncio.sleep(to_sent)
        await self._report(sid, "sent")
        await asyncio.sleep(to_end)
        if failure is None:
            await self._report(sid, "delivered")
            return
        if (resource := self._resources.get(sid)) is not None:
            resource["error_code"], resource["error_message"] = failure
        await self._report(sid, "undelivered")

    async def _report(self, sid: str, state: str) -> None:
        """Move on, never back, and call the status callback where the send named one."""
        if sid not in self._resources:
            return
        resource, line = self._resources[sid], self._lines[sid]
        if _RANK[state] <= _RANK[line.state]:
            return
        now = wire.rfc2822(datetime.now(UTC))
        line.state = resource["status"] = state
        resource["date_updated"] = now
        resource["date_sent"] = resource["date_sent"] or now
        self._changed()
        if url := self._callback_urls.get(sid):
            delivery = await self._post(url, wire.callback_params(resource, state))
            self.callbacks.append((state, delivery))

    async def _post(self, url: str, params: MultiDict[str]) -> Delivery:
        return await self._webhooks.post(
            url,
            params,
            token=self.auth_token,
            deliver_to=self.deliver_to,
            retries=self.retries,
            timeout=self.timeout,
        )

    def _record(
        self, sid: str, direction: str, customer: str, business: str, text: str, state: str
    ) -> Exchanged:
        if sid not in self._lines:
            at_ms = int(datetime.now(UTC).timestamp() * 1000)
            line = Exchanged(
                sid,
                direction,
                customer.removeprefix(PREFIX),
                business.removeprefix(PREFIX),
                text,
                at_ms,
                state,
            )
            self._lines[sid] = line
            self.transcript.append(line)
            self._changed()
        return self._lines[sid]

    def _drop(self, sid: str) -> None:
        super()._drop(sid)
        self._callback_urls.pop(sid, None)
        line = self._lines.pop(sid)
        self.transcript.remove(line)
        if line in self.sent:
            self.sent.remove(line)
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


def _prefixed(address: str) -> str:
    return address if address.startswith(PREFIX) else PREFIX + address
