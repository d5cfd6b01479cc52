"""`replyd forget` as an operator runs it: beside a `replyd serve`, against ministack and the
doubles."""

import json
from typing import Any

from replyd.domain import record
from tests.process.conftest import CUSTOMER, KEY, Town

TEXT = "my card is 4929"
OTHER = "+447700900002"
SHOWN: dict[str, Any] = {"ExternalUserId": "US.ABC123"}


async def test_a_customer_is_erased_everywhere(town: Town) -> None:
    town.twilio.callback_delays = (0, 0)
    other = KEY.__class__(OTHER, "c-2")
    await town.converse()
    await town.converse(other)
    await town.serve(REPLYD_HISTORY__KEEP_MESSAGES="2", REPLYD_WINDOW__QUIET_SECONDS="0.2")
    sid = "MM" + "a" * 32
    photo = town.twilio.add_media("image/png", b"x" * 100, message_sid=sid)
    await town.twilio.receive(CUSTOMER, TEXT, **SHOWN)
    await town.settled(2)
    media = [(photo, "image/png")]
    await town.twilio.receive(CUSTOMER, TEXT * 800, media=media, sid=sid, **SHOWN)
    await town.settled(2)
    await town.twilio.receive(OTHER, "hello")
    await town.settled(2, other)
    await town.twilio.settle()
    assert TEXT in await everything(town)

    code, out, err = await town.run("forget", CUSTOMER)
    assert code == 2, err
    assert "OpenAI    responses" in out
    assert TEXT in await everything(town)

    code, out, err = await town.run("forget", CUSTOMER, "--yes", "--json")
    assert code == 0, out + err
    receipt = json.loads(out)
    counts = {(i["where"], i["what"]): i["erased"] for i in receipt["items"]}
    assert receipt["names"] == [CUSTOMER, "US.ABC123"]
    assert counts["table", "conversations"] == 1
    assert counts["table", "aliases"] == 2
    assert counts["twilio", "messages"] == 4
    assert counts["openai", "responses"] == 2
    left = await everything(town)
    for word in (CUSTOMER, "US.ABC123", TEXT):
        assert word not in left
    assert not town.twilio.media._files
    # The other customer is as before.
    assert len((await town.item(other))[record.MESSAGES]) == 2
    assert len(town.twilio.conversation(OTHER)) == 2
    assert len(town.openai.responses._responses) == 1


async def everything(town: Town) -> str:
    """What the table, Twilio and OpenAI hold, as text."""
    table = await town.dynamodb.scan(TableName=town.settings["conversations"]["table"])
    openai = list(town.openai.responses._responses.values())
    twilio = (town.twilio._resources, town.twilio._received, town.twilio.transcript)
    return f"{table['Items']} {openai} {twilio}"
