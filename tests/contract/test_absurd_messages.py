"""Signed, yet nothing that Twilio would send: taken whole or refused, from the socket to the table
and the queue. Whoever has the token may be mistaken, and a 503 would be delivered again and again.
"""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from replyd.adapters.sqs import SqsWakeups
from replyd.domain.callback import STATUS_PATH
from replyd.domain.messages import InboundMessage
from replyd.ports import ConversationStore
from tests.contract.conftest import client
from tests.contract.test_store import converse
from tests.http.wire import MESSAGE, REPORT, Fields, changed, serving, signed_post
from tests.support.world import KEY, World

_EVERY = "".join(map(chr, [*range(0x100), 0x2028, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x1FFFE]))
TAKEN: dict[str, Fields] = {
    "every odd character": changed(MESSAGE, Body=_EVERY, ProfileName=_EVERY, ButtonText=_EVERY),
    "the last characters": changed(MESSAGE, Body="\ud7ff\ue000\U0010ffff"),
    "a large text": changed(MESSAGE, Body="x" * 60_000),
    "a large text of four bytes each": changed(MESSAGE, Body="👋" * 5_000),
    "a name of 255 bytes": [*MESSAGE, ("n" * 255, "x")],
    "a name of 60,000 bytes": [*MESSAGE, ("n" * 60_000, "x")],
    "a name of odd characters": [
        *MESSAGE,
        (_EVERY[:40], "x"),
        ("reply_lease.token", "x"),
        ("#0", "x"),
    ],
    "no name": [*MESSAGE, ("", "a value without a name")],
    "no values": [*MESSAGE, *((f"F{n}", "") for n in range(150))],
    "one name 180 times": [*MESSAGE, *(("Again", str(n)) for n in range(180))],
    "180 names": [*MESSAGE, *((f"F{n}" * 20, "x" * 100) for n in range(180))],
    "two texts": [*MESSAGE, ("Body", "another")],
    "two SIDs": [*MESSAGE, ("MessageSid", "SM" + "9" * 32), ("MessageSid", "nonsense")],
    "deep JSON": changed(
        MESSAGE, ChannelMetadata="[" * 10_000, InteractiveData='{"interactive":' * 900
    ),
    "numbers that are none": changed(
        MESSAGE, Latitude="nan", Longitude="1e999", NumSegments="-1", WaId="٣"
    ),
    "files without an address": changed(MESSAGE, NumMedia="3", MediaUrl1="\0", MediaUrl2=" "),
    "a second name of the sender that is none": changed(MESSAGE, ExternalUserId="#" * 9_000),
}
REFUSED: dict[str, Fields] = {
    "a SID of 10 kB": changed(MESSAGE, SmsMessageSid="SM" + "0" * 10_000, MessageSid=None),
    "a SID of other digits": changed(MESSAGE, MessageSid="SM" + "٣" * 32),
    "a SID with a line": changed(MESSAGE, MessageSid="SM" + "0" * 32 + "\n"),
    "a sender of 2 kB": changed(MESSAGE, From="whatsapp:+" + "1" * 2_050),
    "a sender of controls": changed(MESSAGE, From="whatsapp:+4477\0\x1b[2J"),
    "a sender of other digits": changed(MESSAGE, From="whatsapp:+٣٣٣"),
    "a sender that is an item of ours": changed(MESSAGE, From="whatsapp:alias#US.1"),
    "a receiver with a line": changed(MESSAGE, To="whatsapp:+447700900100\n"),
    "a billion files": changed(MESSAGE, NumMedia="1000000000"),
    "fewer than no files": changed(MESSAGE, NumMedia="-1"),
    "files in other digits": changed(MESSAGE, NumMedia="٣"),
    "files in powers": changed(MESSAGE, NumMedia="1e1"),
}
REPORTS: dict[str, tuple[str, Fields, int]] = {
    "an entry of 5,000 digits": ("?p=%2B1&s=c&turn=t&entry=" + "1" * 5_000, REPORT, 204),
    "an entry of other digits": ("?p=%2B1&s=c&turn=t&entry=%D9%A3", REPORT, 204),
    "a large entry": ("?p=%2B1&s=c&turn=t&entry=9999", REPORT, 204),
    "a key of 3 kB": ("?p=" + "1" * 3_000 + "&s=c&turn=t&entry=1", REPORT, 204),
    "a second key of 2 kB": ("?p=1&s=" + "1" * 2_000 + "&turn=t&entry=1", REPORT, 204),
    "odd keys": ("?p=%00&s=%EF%BF%BF&turn=%0A&entry=0", REPORT, 204),
    "an empty key": ("?p=&s=&turn=&entry=0", REPORT, 204),
    "a SID of 10 kB": ("", changed(REPORT, MessageSid="SM" + "0" * 10_000), 400),
    "a SID with a line": ("", changed(REPORT, MessageSid="SM1\nx"), 400),
    "a state with a line": ("", changed(REPORT, MessageStatus="failed\n\x1b[2J"), 400),
    "a code that is none": ("", changed(REPORT, ErrorCode="x" * 10_000), 400),
}


@pytest.fixture(params=["memory", "local"])
def tables(request: pytest.FixtureRequest) -> str:
    """The twin, and the one that is strictest."""
    return "" if request.param == "memory" else str(request.getfixturevalue(request.param))


@pytest.fixture
async def world(store: ConversationStore, ministack: str) -> AsyncIterator[World]:
    async with client("sqs", ministack) as sqs:
        made = World(delivery={"record": ("sent", "delivered", "failed")})
        made.store = store  # type: ignore[assignment] # the real one
        queue = await sqs.create_queue(QueueName=f"a-{uuid.uuid4().hex[:12]}")
        made.queue = SqsWakeups(  # type: ignore[assignment] # the real one
            sqs, sqs, queue["QueueUrl"], wait_seconds=0, visibility_seconds=30
        )
        yield made


async def test_taken_whole(world: World) -> None:
    await converse(world.store)
    worker = world.worker()
    async with serving(accept=worker.accept, track=worker.track) as site:
        for number, (name, fields) in enumerate(TAKEN.items(), start=1):
            sid = f"SM{number:032x}"
            whole = [
                (n, sid if n.endswith("Sid") and v.startswith("SM0") else v) for n, v in fields
            ]
            answer = await site.ask(signed_post(whole))
            assert (name, answer.status) == (name, 200)
            kept = [(n, v) for n, v in whole if 0 < len(n.encode()) < 256]
            assert await _stored(world.store, sid) == _grouped(kept)
        assert site.refusals == []


async def test_refused_with_nothing_written(world: World) -> None:
    await converse(world.store)
    before = await world.store.read(KEY)
    worker = world.worker()
    async with serving(accept=worker.accept, track=worker.track) as site:
        for name, fields in REFUSED.items():
            answer = await site.ask(signed_post(fields))
            assert (name, answer.status) == (name, 400)
        for name, (query, fields, status) in REPORTS.items():
            answer = await site.ask(signed_post(fields, target=STATUS_PATH + query))
            assert (name, answer.status) == (name, status)
        assert {reason for _, _, reason in site.refusals} == {"not_a_message", "not_a_status"}
    assert await world.store.read(KEY) == before
    assert not await world.queue.receive()


async def _stored(store: ConversationStore, sid: str) -> dict[str, Any]:
    item = await store.read(KEY)
    assert item is not None
    (entry,) = (p for p in item["reply_pending"] if p["sid"] == sid)
    if "body_ref" in entry:
        side = await store.get_side(entry["body_ref"])
        assert side is not None
        entry = side
    return dict(InboundMessage.from_dict(entry["message"]).params)


def _grouped(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}
