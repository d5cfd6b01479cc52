"""The commands for operators as a user runs them, against ministack."""

import asyncio
import json
import re
from typing import Any

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from tests.process.conftest import CUSTOMER, KEY, Town

TEXT = "my card is 4929"
OLDER = ConversationKey(CUSTOMER, "c-0")


async def as_json(town: Town, *arguments: str) -> Any:
    code, out, err = await town.run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


async def test_a_conversation_from_waiting_to_answered(town: Town) -> None:
    await town.converse()
    await town.converse(OLDER, created_at="2026-11-21T10:00:00.000Z")
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="25", REPLYD_WINDOW__MAX_MESSAGES="2")
    await town.twilio.receive(CUSTOMER, TEXT)
    sid = (await town.item())[record.PENDING][0]["sid"]
    (code, out, err), waiting = await asyncio.gather(
        town.run(
            *("conversation", "show", CUSTOMER, "--set", "window.quiet_seconds=25"),
            *("--set", "window.max_messages=2"),
        ),
        as_json(town, "explain", sid, "--customer", CUSTOMER, "--set", "window.quiet_seconds=25"),
    )
    assert code == 0, err
    assert "the window closes in" in out
    assert "then the AI answers 1 message" in out
    assert "c-0" in out
    assert "takes no new messages" in out
    assert TEXT not in out
    assert (waiting["state"], waiting["next"]["state"]) == ("waiting", "window_open")

    await town.twilio.receive(CUSTOMER, "hello?")
    answered = await town.settled(3)
    reply = answered[record.MESSAGES][-1]["message_id"]
    shown, (code, out, err) = await asyncio.gather(
        as_json(town, "conversation", "show", f"whatsapp:{CUSTOMER}", "--bodies"),
        town.run("explain", reply),
    )
    assert [r["takes_new_messages"] for r in shown["records"]] == [True, False]
    assert shown["records"][0]["next"]["text"] == "nothing to do: every message is settled"
    assert [e["text"] for e in shown["records"][0]["history"]["tail"]][:2] == [TEXT, "hello?"]
    assert code == 0, err
    assert "reading the whole table" in err
    assert "items read" in err
    assert f"part of a reply to {sid}, SM" in out
    assert CUSTOMER not in out


async def test_dead_letters_and_the_way_back(town: Town) -> None:
    await town.converse()
    process = await town.serve()
    name = f"{town.replies_url.rpartition('/')[2]}-dlq"
    dead = (await town.sqs.get_queue_url(QueueName=name))["QueueUrl"]
    for body in (TEXT, _wakeup()):
        await town.sqs.send_message(QueueUrl=dead, MessageBody=body)
    code, out, err = await town.run("dlq", "list")
    assert code == 0, err
    assert re.search(rf"replies +{name} +2 ", out)
    code, out, err = await town.run("dlq", "show", "replies")
    assert code == 0, err
    assert "the body is not JSON" in out
    assert "a wake-up that was never settled" in out
    assert TEXT not in out
    assert CUSTOMER not in out

    assert await as_json(town, "dlq", "redrive", "replies") == {"moved": {"replies": 2}}
    # The wake-up came back, found nothing to do, and is gone; the other one nobody can read.
    await town.logged(process, "poison_received", receives=1)
    await town.sqs.send_message(QueueUrl=dead, MessageBody="more")
    purged = await as_json(town, "dlq", "purge", "replies", "--yes")
    assert purged == {"purged": {"replies": 1}}
    counts = await town.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])
    assert counts["Attributes"]["ApproximateNumberOfMessages"] == "0"


def _wakeup() -> str:
    key = {"recipient_tel": KEY.partition, "conversation_id": KEY.sort}
    return json.dumps({"version": 1, "seq": 1, "key": key, "message": {"sid": "SM1"}})
