"""What nobody took while no daemon ran: found, answered once, or given to people."""

import signal

from replyd.domain import record
from tests.process.conftest import CUSTOMER, KEY, Town

# Nothing listens there: the webhook is lost.
NOBODY = "http://127.0.0.1:9"
QUICK = {
    "REPLYD_WINDOW__QUIET_SECONDS": "0.2",
    "REPLYD_CATCHUP__SETTLE_SECONDS": "0",
    "REPLYD_CATCHUP__START_SECONDS": "0.2",
    "REPLYD_CATCHUP__FIRST_LOOK_BACK_SECONDS": "3600",
}


async def missed(town: Town, text: str, seconds_ago: float = 0) -> str:
    """A customer writes while no daemon runs."""
    town.twilio.deliver_to = NOBODY
    delivery = await town.twilio.receive(CUSTOMER, text)
    assert not delivery.ok
    town.twilio.date_back(delivery.sid, seconds_ago)
    return delivery.sid


async def test_a_message_that_came_while_nobody_listened_is_answered_once(town: Town) -> None:
    await town.converse()
    sid = await missed(town, "are you open on sunday?", seconds_ago=120)
    process = await town.serve(**QUICK)
    line = await town.logged(process, "caught_up", staged=1)
    assert (line["level"], line["listed"], line["failed"]) == ("info", 1, 0)
    item = await town.settled(2)
    assert [m["role"] for m in item[record.MESSAGES]] == ["user", "assistant"]
    assert item[record.MESSAGES][0]["message_id"] == sid
    # Twilio delivers it after all.
    assert (await town.twilio.redeliver(sid)).ok
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert len(town.twilio.sent) == 1
    assert len(town.openai.requests) == 1
    status = [line for line in process.lines if line["event"] == "dependency_failed"]
    assert status == []


async def test_the_next_process_goes_on_from_there_and_repeats_nothing(town: Town) -> None:
    await town.converse()
    await missed(town, "first", seconds_ago=90)
    interval = {
        "REPLYD_CATCHUP__INTERVAL_SECONDS": "1",
        # The killed process's last receive may take what the next one sends.
        "REPLYD_QUEUES__VISIBILITY_SECONDS": "3",
    }
    first = await town.serve(**QUICK, **interval)
    await town.settled(2)
    first.process.kill()
    await first.ended()
    await missed(town, "second")
    second = await town.serve(**QUICK, **interval)
    line = await town.logged(second, "caught_up", staged=1)
    assert line["known"] == 1
    item = await town.settled(4)
    texts = [m["content"] for m in item[record.MESSAGES] if m["role"] == "user"]
    assert texts == ["first", "second"]
    assert len(town.twilio.sent) == 2


async def test_a_message_of_hours_ago_goes_to_people(town: Town) -> None:
    await town.converse()
    name = f"catchup#{town.twilio.account_sid}"
    await town.store.put_side(name, {"seen_until": 1}, None)
    await missed(town, "hours ago", seconds_ago=3 * 3600)
    process = await town.serve(**QUICK)
    (body,) = await town.handed_over(1)
    assert (body["handoff_reason"], body["message"]["body"]) == ("too_old", "hours ago")
    assert body["message"]["params"]["ReplydCatchUp"] == "true"
    await town.settled(1, KEY)
    await town.logged(process, "caught_up", too_old=1)
    assert town.twilio.sent == []
    assert town.openai.requests == []


async def test_readiness_does_not_depend_on_the_list(town: Town) -> None:
    await town.converse()
    process = await town.serve(**QUICK)
    town.twilio.fail_list_next(50, status=403, code=20403)
    await town.logged(process, "dependency_failed", operation="catch_up")
    assert (await process.get("/readyz"))[0] == 200
    _, metrics = await process.get("/metrics")
    assert 'dependency="twilio",operation="catch_up"' in metrics
