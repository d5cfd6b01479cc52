"""What the demo page shows and does: the customers' phones, and the people's desk."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from replyd.demo import samples, twilio_wire
from replyd.demo.journeys import Journeys
from replyd.demo.operator_client import Refused
from replyd.demo.playground import BUSINESS_NAME, PEOPLE, Person, Playground
from replyd.demo.twilio_double import Exchanged
from replyd.demo.waiting import waiting_list
from replyd.domain import prompt, record
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.person_steps import HUMAN
from replyd.errors import DependencyError

_LOOK_SECONDS = 0.4
_READ_AFTER_MS = 1_500
_KEPT = 100

# What a phone would send with these buttons.
_EXTRAS: dict[str, dict[str, Any]] = {
    "location": {
        "MessageType": "location",
        "Latitude": "51.5136",
        "Longitude": "-0.0890",
        "Label": "Leadenhall Market",
        "Address": "Gracechurch St, London",
    },
    "image": {"MessageType": "image"},
    "voice": {"MessageType": "audio"},
}
_FILES = {
    "image": ("image/png", samples.picture()),
    "voice": ("audio/ogg", samples.voice_note()),
}
# By Twilio's MessageType, what the page calls a message and shows where it has no text.
_SHOWN = {
    "location": ("location", "Leadenhall Market, Gracechurch St, London"),
    "image": ("image", "Photo"),
    "audio": ("voice", "Voice note"),
}


class Backend:
    """Implements `page_server.DemoBackend`. It stands where customers and people stand: it uses
    Twilio's double, the table, the handoff queue and the operator API, and watches production
    telemetry."""

    def __init__(self, place: Playground, journeys: Journeys) -> None:
        self._place = place
        self._journeys = journeys
        self.on_change: Callable[[], None] = lambda: None
        self._people = {person.address: person for person in PEOPLE}
        self._records: dict[str, dict[str, Any]] = {}
        self._desk: list[dict[str, Any]] = []
        self._with_people: list[dict[str, Any]] = []
        self._listed = False
        # Of two looks at once the slower one may have seen less.
        self._looking = asyncio.Lock()
        self._types: dict[str, str] = {}

    # --- what the page asks for ----------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        window = self._place.settings.window
        return {
            "now": round(time.time() * 1000),
            "window": {
                "quiet_ms": round(window.quiet_seconds * 1000),
                "max_wait_ms": round(window.max_wait_seconds * 1000),
                "max_messages": window.max_messages,
            },
            "model": self._place.model,
            "customers": [self._phone(person) for person in PEOPLE],
            "journeys": self._journeys_with_texts(),
            "waiting": waiting_list(self._with_people, self._desk),
            "handoff_queue": self._desk,
            "totals": self._journeys.totals(),
        }

    async def customer_says(self, address: str, text: str, kind: str) -> None:
        person = self._people[address]
        extra, file = _EXTRAS.get(kind, {}), _FILES.get(kind)
        sid = twilio_wire.sid("MM" if file else "SM")
        self._types[sid] = extra.get("MessageType", "")
        twilio = self._place.twilio
        media = []
        if file is not None:
            content_type, data = file
            media.append((twilio.add_media(content_type, data, message_sid=sid), content_type))
        await twilio.receive(address, text, profile_name=person.name, sid=sid, media=media, **extra)
        self.on_change()

    async def set_handoff(self, conversation_id: str, up: bool) -> None:
        key = _key(conversation_id)
        change = self._place.operators.hand_off if up else self._place.operators.release
        await change(key.partition, key.sort)
        await self._look()

    async def person_says(self, conversation_id: str, text: str, key: str) -> dict[str, Any]:
        to = _key(conversation_id)
        answer = await self._place.operators.reply(to.partition, to.sort, text, key=key)
        await self._look()
        return answer

    # --- what it watches -----------------------------------------------------------------------

    async def run(self) -> None:
        """Watches records and the handoff queue until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_records())
            group.create_task(self._work_the_desk())

    async def _watch_records(self) -> None:
        while True:
            await self._look()
            await self._read_messages()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        async with self._looking:
            # What cannot be seen now is seen at the next look.
            with suppress(DependencyError, Refused):
                for person in PEOPLE:
                    item = await self._place.store.read(person.key) or {}
                    if item != self._records.get(person.address):
                        self._records[person.address] = item
                        self._listed = False
                        self.on_change()
                if not self._listed:
                    self._with_people = await self._place.operators.with_people()
                    self._listed = True
                    self.on_change()

    async def _read_messages(self) -> None:
        """Customers look at their phone a moment after a message has come."""
        horizon = time.time() * 1000 - _READ_AFTER_MS
        ready = {
            line.customer
            for line in self._place.twilio.sent
            if line.state == "delivered" and line.at_ms < horizon
        }
        for customer in ready:
            await self._place.twilio.mark_read(customer)

    async def _work_the_desk(self) -> None:
        """What people's tools do: take messages from the handoff queue and show them, once."""
        seen: set[tuple[str, str, str]] = set()
        while True:
            try:
                messages = await self._place.handoffs.receive()
                for body in (json.loads(m.body) for m in messages):
                    detail = body.get("handoff_detail", "")
                    key = (body["message"]["sid"], body["handoff_reason"], detail)
                    if key not in seen:
                        seen.add(key)
                        self._desk.insert(0, _on_the_desk(body))
                del self._desk[_KEPT:]
                if messages:
                    self.on_change()
                    await self._place.handoffs.delete(messages)
            except DependencyError:
                await asyncio.sleep(1)

    # --- the state -----------------------------------------------------------------------------

    def _phone(self, person: Person) -> dict[str, Any]:
        item = self._records.get(person.address, {})
        opening = {
            "sid": f"opening-{person.key.sort}",
            "direction": "out",
            "text": person.opening,
            "at": self._place.opened_at,
            "state": "read",
        }
        lines = self._place.twilio.conversation(person.address)[-_KEPT:]
        authors = {
            entry.get("message_id"): entry.get("author", "")
            for entry in item.get(record.MESSAGES, ())
            if entry.get("role") == HUMAN
        }
        return {
            "address": person.address,
            "name": person.name,
            "business": BUSINESS_NAME,
            "conversation_id": person.key.sort,
            "handoff": record.flag_is_up(item),
            "opted_out": record.is_opted_out(item),
            "status": item.get(record.STATUS, ""),
            "messages": [
                opening,
                *({**self._bubble(line), "person": authors.get(line.sid, "")} for line in lines),
            ],
        }

    def _journeys_with_texts(self) -> list[dict[str, Any]]:
        lines = {line.sid: line for line in self._place.twilio.transcript}
        recorded = self._recorded()
        journeys = self._journeys.snapshot()
        for journey in journeys:
            for message in journey["messages"]:
                if (line := lines.get(message["sid"])) is not None:
                    message.update(self._content(line))
                    read = recorded.get(message["sid"], "")
                    message["read"] = read.removeprefix(line.text).strip()
        return journeys

    def _recorded(self) -> dict[str, str]:
        """By SID, how customers' messages stand in the records: what the model has read."""
        return {
            entry["message_id"]: entry["content"]
            for item in self._records.values()
            for entry in item.get(record.MESSAGES, ())
            if "message_id" in entry and entry.get("role") == "user"
        }

    def _bubble(self, line: Exchanged) -> dict[str, Any]:
        return {
            "sid": line.sid,
            "direction": line.direction,
            "at": line.at_ms,
            "state": line.state,
            **self._content(line),
        }

    def _content(self, line: Exchanged) -> dict[str, str]:
        return _content(line.text, self._types.get(line.sid, ""))


def _key(conversation_id: str) -> ConversationKey:
    for person in PEOPLE:
        if person.key.sort == conversation_id:
            return person.key
    raise LookupError(conversation_id)


def _content(text: str, message_type: str) -> dict[str, str]:
    kind, name = _SHOWN.get(message_type, ("text", ""))
    return {"kind": kind, "text": text or name}


def _on_the_desk(body: dict[str, Any]) -> dict[str, Any]:
    message = InboundMessage.from_dict(body["message"])
    content = _content(message.body, message.param("MessageType"))
    return {
        "at": record.epoch_ms(body["received_at"]),
        "conversation_id": body["conversation"]["conversation_id"],
        "from": message.customer,
        "name": message.profile_name,
        "kind": content["kind"],
        "body": content["text"] or prompt.readable(message),
        "reason": body.get("handoff_reason", ""),
        "summary": body.get("handoff_summary", ""),
    }
