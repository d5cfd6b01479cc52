"""SMS to a running process: addresses without a prefix, and none of WhatsApp's parameters."""

import asyncio
import base64
from typing import Any

import aiohttp

from replyd.domain import record
from replyd.domain.text import MAX_BODY
from tests.process.conftest import BUSINESS, CUSTOMER, Town

# What Twilio sends with WhatsApp messages alone.
_WHATSAPPS = ("ProfileName", "WaId", "ExternalUserId", "ChannelMetadata", "MessageType")
SERVED = {
    "REPLYD_WINDOW__QUIET_SECONDS": "0.2",
    "REPLYD_SENDING__TYPING": "true",
    "REPLYD_OPT_OUT__STOP_TEXT": "You will get no more answers.",
    "REPLYD_DELIVERY__RECORD": '["delivered"]',
}


async def sms(town: Town, text: str, **params: str) -> None:
    left_out: dict[str, tuple[str, ...]] = dict.fromkeys((*_WHATSAPPS, "ReferralNumMedia"), ())
    extra: dict[str, Any] = {**left_out, "From": CUSTOMER, "To": BUSINESS, **params}
    assert (await town.twilio.receive(CUSTOMER, text, **extra)).status == 200


async def listed(town: Town) -> list[dict[str, Any]]:
    """What Twilio's list has for the customer's number by SMS."""
    account = town.twilio.account_sid
    url = f"{town.twilio.base_url}/2010-04-01/Accounts/{account}/Messages.json"
    credentials = base64.b64encode(f"{account}:{town.twilio.auth_token}".encode()).decode()
    query = {"From": BUSINESS, "To": CUSTOMER}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Basic {credentials}"}) as session,
        session.get(url, params=query) as answer,
    ):
        found: list[dict[str, Any]] = (await answer.json())["messages"]
    return found


async def test_an_sms_is_answered_by_sms_until_twilio_takes_a_stop(town: Town) -> None:
    await town.converse()
    town.openai.replies = lambda _: "**Open** until six. " + "word " * 500
    process = await town.serve(**SERVED)
    await sms(town, "are you open?")
    parts = (await town.settled(3))[record.MESSAGES][1:]
    assert {row["sid"] for row in await listed(town)} == {part["message_id"] for part in parts}
    assert parts[0]["content"].startswith("Open until six. ")
    assert max(len(part["content"]) for part in parts) <= MAX_BODY
    await town.twilio.settle()
    delivered = [e.get("delivery") for e in (await town.item())[record.MESSAGES][1:]]
    assert delivered == ["delivered"] * 2

    await sms(town, "STOP", OptOutType="STOP")
    (body,) = await town.handed_over(1)
    assert (body["handoff_reason"], body["message"]["from"]) == ("opted_out", CUSTOMER)
    await town.settled(4)
    await asyncio.sleep(0.5)
    assert len(town.twilio.sent) == len(parts)
    assert town.twilio.typing == []
    code, out, err = await town.run("conversation", "consent", CUSTOMER)
    assert code == 0, err
    assert "opted out since" in out
    assert "Twilio's own handling" in out
    assert [line for line in process.lines if line["level"] in ("warning", "error")] == []
