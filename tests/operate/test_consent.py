"""`replyd conversation consent` on what real workers left in memory."""

import asyncio
import json
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.operate.consent import consent
from tests.operate.conftest import desk
from tests.operate.test_commands import Office
from tests.support.world import BUSINESS, CUSTOMER, World, message

OLDER = ConversationKey(CUSTOMER, "c-0")
ENTRY = {"at": "2026-11-22T10:00:00.000Z", "sid": "SM1", "change": "stop", "by": "word"}


async def test_each_change_is_there_with_how_it_came() -> None:
    world = World()
    world.converse()
    world.converse(OLDER, created_at="2026-11-21T10:00:00.000Z")
    async with world.running() as worker:
        await worker.accept(message(1, "stop"))
        await asyncio.sleep(10)
        assert [r["opted_out_since"] for r in await consent(desk(world), CUSTOMER)] == [
            world.item()[record.OPTED_OUT],
            world.item(OLDER)[record.OPTED_OUT],
        ]
        params = {"OptOutType": "START", "MessageSid": message(2).sid}
        await worker.accept(message(2, "yes", params=params))
        await asyncio.sleep(10)
    newest, older = await consent(desk(world), CUSTOMER)
    assert (newest["conversation_id"], older["conversation_id"]) == ("c-1", "c-0")
    assert newest["opted_out_since"] is None
    assert newest["company_tel"] == BUSINESS
    assert [(e["sid"], e["change"], e["by"]) for e in newest["ledger"]] == [
        (message(1).sid, "stop", "word"),
        (message(2).sid, "start", "twilio"),
    ]
    # Where the message was not: what holds, without an entry.
    assert (older["opted_out_since"], older["ledger"]) == (None, [])


@pytest.mark.parametrize("odd", [None, "yes", 7, {"at": 1}, [], ["x", 7, None]])
async def test_what_is_no_ledger_is_an_empty_one(odd: Any) -> None:
    world = World()
    world.converse(reply_consent=odd)
    (found,) = await consent(desk(world), CUSTOMER)
    assert found["ledger"] == []


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    evil = {**ENTRY, "change": "start", "by": "twilio", "sid": "\x1b[2J"}
    office.world.converse(reply_opted_out=ENTRY["at"], reply_consent=[ENTRY, evil])
    office.world.converse(OLDER, created_at="2026-11-21T10:00:00.000Z")
    assert office.run("conversation", "consent", CUSTOMER) == 0
    first, head, stop, start, second, none = capsys.readouterr().out.splitlines()
    assert first == f"c-1 with {BUSINESS}: opted out since {ENTRY['at']}"
    assert head.split() == ["at", "change", "by", "SID"]
    assert stop.split() == [ENTRY["at"], "STOP", "the", "customer's", "word", "SM1"]
    assert "START" in start
    assert "Twilio's own handling" in start
    assert "\x1b" not in start
    assert second == f"c-0 with {BUSINESS}: the AI may write"
    assert none.strip() == "no STOP or START in this record"


def test_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    office.world.converse(reply_consent=[ENTRY])
    assert office.run("conversation", "consent", f"whatsapp:{CUSTOMER}", "--json") == 0
    one = {"conversation_id": "c-1", "company_tel": BUSINESS, "opted_out_since": None}
    assert json.loads(capsys.readouterr().out) == {
        "customer": CUSTOMER,
        "records": [one | {"ledger": [ENTRY]}],
    }


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_nobody_of_that_number(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert Office().run("conversation", "consent", CUSTOMER, *flags) == 1
    shown = capsys.readouterr()
    assert "no record" in shown.err
    if flags:
        assert json.loads(shown.out)["records"] == []
