"""What every wake-up queue does. Real clocks here: the queues keep time themselves."""

import asyncio

from replyd.ports import NOT_TRACED, Received, TraceContext, WakeupQueue


async def receive(queue: WakeupQueue) -> list[Received]:
    """Polls until something has come."""
    async with asyncio.timeout(15):
        while not (found := await queue.receive()):
            pass
    return list(found)


async def receive_and_hold(queue: WakeupQueue, count: int) -> list[Received]:
    """Polls until `count` messages have come. None comes again meanwhile, however slow this is."""
    found: list[Received] = []
    while len(found) < count:
        messages = await receive(queue)
        await queue.hide(messages, 60)
        found += messages
    return found


async def test_a_message_comes_with_its_body_and_count(wakeups: WakeupQueue) -> None:
    await wakeups.send('{"text": "\\u0000 ☺"}', 0)
    (message,) = await receive(wakeups)
    assert message.body == '{"text": "\\u0000 ☺"}'
    assert message.receives == 1


async def test_a_delayed_message_comes_later(wakeups: WakeupQueue) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await wakeups.send("late", 3)
    await wakeups.send("now", 0)
    (first,) = await receive(wakeups)
    await wakeups.delete([first])
    (second,) = await receive(wakeups)
    assert [first.body, second.body] == ["now", "late"]
    # They were sent together, whatever the delay.
    assert abs(second.sent_at - first.sent_at) < 2000
    assert first.sent_at > 1_600_000_000_000
    assert loop.time() - started >= 2.9


async def test_a_deleted_message_does_not_come_again(wakeups: WakeupQueue) -> None:
    for body in ("a", "b", "c"):
        await wakeups.send(body, 0)
    messages = await receive_and_hold(wakeups, 3)
    await wakeups.delete(messages)
    await wakeups.hide(messages, 0)
    assert await wakeups.receive() == []


async def test_what_is_not_deleted_comes_again_and_is_counted(wakeups: WakeupQueue) -> None:
    await wakeups.send("again", 0)
    (first,) = await receive(wakeups)
    (second,) = await receive(wakeups)
    assert second.message_id == first.message_id
    assert second.receives == 2
    assert second.sent_at == first.sent_at


async def test_hidden_messages_stay_away_and_shown_ones_come_at_once(
    wakeups: WakeupQueue,
) -> None:
    await wakeups.send("held", 0)
    (held,) = await receive(wakeups)
    await wakeups.hide([held], 60)
    assert await wakeups.receive() == []
    await wakeups.hide([held], 0)
    (again,) = await wakeups.receive()
    assert again.body == "held"


async def test_a_trace_comes_with_its_message(wakeups: WakeupQueue) -> None:
    trace = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1,other=a:b;c")
    await wakeups.send("traced", 0, trace)
    await wakeups.send("half", 0, TraceContext(trace.traceparent))
    await wakeups.send("untraced", 0)
    found = {message.body: message.trace for message in await receive_and_hold(wakeups, 3)}
    assert found == {
        "traced": trace,
        "half": TraceContext(trace.traceparent, ""),
        "untraced": NOT_TRACED,
    }


async def test_what_many_send_at_once_comes_once_each(wakeups: WakeupQueue) -> None:
    trace = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1")
    traces = {f"body {n} ☺": trace if n % 3 == 0 else NOT_TRACED for n in range(47)}
    await asyncio.gather(*(wakeups.send(body, 0, traces[body]) for body in traces))
    found = await receive_and_hold(wakeups, len(traces))
    assert {m.body: m.trace for m in found} == traces
    assert {m.receives for m in found} == {1}
    # What was sent twice would come.
    assert await wakeups.receive() == []


async def test_what_many_delete_at_once_does_not_come_again(
    concurrent: None, wakeups: WakeupQueue
) -> None:
    await asyncio.gather(*(wakeups.send(f"{n}", 0) for n in range(47)))
    found = await receive_and_hold(wakeups, 47)
    # Any number, by any number.
    await asyncio.gather(
        wakeups.delete(found[:23]), *(wakeups.delete([message]) for message in found[23:])
    )
    for i in range(0, len(found), 10):
        await wakeups.hide(found[i : i + 10], 0)
    # What was not deleted would come.
    assert await wakeups.receive() == []


async def test_of_many_that_are_sent_at_once_each_has_its_delay(wakeups: WakeupQueue) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(wakeups.send(f"{n % 2} {n}", n % 2 * 4) for n in range(14)))
    soon = await receive_and_hold(wakeups, 7)
    assert {m.body[0] for m in soon} == {"0"}
    await wakeups.delete(soon)
    late = await receive_and_hold(wakeups, 7)
    assert {m.body[0] for m in late} == {"1"}
    assert loop.time() - started >= 3.9
    assert len({m.body for m in soon + late}) == 14
