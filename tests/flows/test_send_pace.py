"""How fast messages go out."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from replyd.adapters.memory import LoopClock, MemoryChannel
from replyd.domain.messages import OutboundPart
from replyd.errors import Busy, Permanent
from replyd.flows.pacing import LONGEST_PAUSE_SECONDS
from replyd.flows.send_pace import (
    LONGEST_WAIT_SECONDS,
    PAUSE_SECONDS,
    PacedChannel,
    PacePolicy,
    SendPace,
)
from replyd.ports import SignedRequest

ACCOUNT = "AC" + "0" * 32
ONE, OTHER = "whatsapp:+447700900100", "whatsapp:+447700900101"


def part(customer: object = "c", text: str = "", *, sender: str = ONE) -> OutboundPart:
    return OutboundPart(ACCOUNT, sender, f"whatsapp:{customer}", text or str(customer))


def time() -> float:
    return asyncio.get_running_loop().time()


class Sends:
    """Sends of `seconds` each; what went out when, and what was refused with which delay."""

    def __init__(self, *, seconds: float = 0, **policy: Any) -> None:
        self.pace = SendPace(LoopClock(), PacePolicy(**policy))
        self.seconds = seconds
        self.went: list[tuple[str, Any]] = []
        self.refused: list[tuple[str, Any, Any]] = []

    async def send(self, part: OutboundPart, **limits: float) -> None:
        try:
            async with self.pace.slot(part, **limits):
                self.went.append((part.text, time()))
                await asyncio.sleep(self.seconds)
        except Busy as busy:
            self.refused.append((part.text, time(), busy.delay))

    def start(self, *parts: OutboundPart) -> "list[asyncio.Task[None]]":
        return [asyncio.create_task(self.send(part)) for part in parts]

    async def all(self, *parts: OutboundPart) -> None:
        await asyncio.gather(*self.start(*parts))

    async def refuse(self, delay: float | None, sender: str = ONE) -> None:
        """The vendor refuses a send."""
        with pytest.raises(Busy):
            async with self.pace.slot(part("refused", sender=sender)):
                raise Busy("twilio", "too many requests", delay=delay)

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.went]

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.went]


# --- the rate of a number ----------------------------------------------------------------------


async def test_no_second_sees_more_than_the_rate() -> None:
    sends = Sends()
    await sends.all(*map(part, range(321)))
    assert sends.refused == []
    assert sends.times[-1] == pytest.approx(4)
    for end in sends.times:
        assert sum(end - 0.9999 < at <= end for at in sends.times) <= 80


async def test_the_sandbox_takes_one_in_three_seconds() -> None:
    sends = Sends(per_second=1 / 3)
    await sends.all(part(1), part(2))
    assert sends.times == pytest.approx([0, 3])


async def test_a_burst_goes_out_at_once_and_then_the_rate_holds() -> None:
    sends = Sends(per_second=1, burst=3)
    await sends.all(*map(part, range(6)))
    assert sends.times == pytest.approx([0, 0, 0, 1, 2, 3])


async def test_instances_share_rate_and_burst() -> None:
    every = [Sends(per_second=4, burst=8, instances=4) for _ in range(4)]
    await asyncio.gather(*(sends.all(*map(part, range(5))) for sends in every))
    for sends in every:
        assert sends.times == pytest.approx([0, 0, 1, 2, 3])


async def test_each_number_has_a_rate_of_its_own() -> None:
    sends = Sends(per_second=0.5)
    await sends.all(part("a"), part("b", sender=OTHER), part("c"), part("d", sender=OTHER))
    assert sends.times == pytest.approx([0, 0, 2, 2])


async def test_the_same_number_of_two_accounts_is_two() -> None:
    sends = Sends(per_second=0.5)
    await sends.all(part("a"), OutboundPart("AC" + "1" * 32, ONE, "whatsapp:b", "b"))
    assert sends.times == [0, 0]


async def test_sends_of_one_number_are_not_one_after_the_other() -> None:
    sends = Sends(seconds=10, per_second=10)
    await sends.all(*map(part, range(5)))
    assert sends.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


# --- fairness ----------------------------------------------------------------------------------


async def test_a_conversation_with_much_to_say_delays_another_by_one_message() -> None:
    sends = Sends(per_second=10)
    flood = sends.start(*(part("a", f"a{n}") for n in range(30)))
    await asyncio.sleep(0.55)
    (single,) = sends.start(part("b"))
    await single
    assert sends.texts == ["a0", "a1", "a2", "a3", "a4", "a5", "b"]
    assert sends.times[-1] == pytest.approx(0.6)
    await asyncio.gather(*flood)


async def test_conversations_take_turns_and_each_keeps_its_order() -> None:
    sends = Sends(per_second=10)
    await sends.all(
        *(part("a", f"a{n}") for n in range(4)), *(part("b", f"b{n}") for n in range(2)), part("c")
    )
    assert sends.texts == ["a0", "b0", "c", "a1", "b1", "a2", "a3"]


async def test_a_later_part_waits_until_the_earlier_one_is_sent() -> None:
    sends = Sends(seconds=2)
    await sends.all(part("a", "first"), part("a", "second"), part("b"))
    assert sends.went[-1] == ("second", 2)
    assert sends.went[1][0] == "b"


# --- the wait is bounded -----------------------------------------------------------------------


async def test_nobody_waits_longer_than_a_turn_can_spare() -> None:
    sends = Sends(per_second=1)
    await sends.all(*map(part, range(20)))
    waited = [at for _, at, _ in sends.refused]
    assert len(sends.went) + len(waited) == 20
    assert max(waited) <= LONGEST_WAIT_SECONDS
    assert max(sends.times) <= LONGEST_WAIT_SECONDS
    assert all(delay is not None and delay > 0 for _, _, delay in sends.refused)


async def test_a_wait_that_would_be_too_long_is_refused_at_once_with_the_time() -> None:
    sends = Sends(per_second=0.1)
    await sends.all(part("a"), part("b"))
    assert sends.refused == [("b", 0, pytest.approx(10))]
    await asyncio.sleep(6)
    await sends.send(part("b"))
    assert sends.went[-1] == ("b", pytest.approx(10))


async def test_a_caller_with_little_time_left_waits_no_longer() -> None:
    sends = Sends(per_second=0.5)
    await sends.send(part("a"), seconds=1)
    await sends.send(part("b"), seconds=1.5)
    await sends.send(part("c"), seconds=-20)
    assert sends.texts == ["a"]
    assert [(text, at) for text, at, _ in sends.refused] == [("b", 0), ("c", 0)]
    await asyncio.sleep(2)
    await sends.send(part("d"), seconds=-20)
    assert sends.texts == ["a", "d"]


async def test_who_waited_in_vain_is_told_how_long_the_queue_is() -> None:
    sends = Sends(per_second=0.25)
    await sends.all(*map(part, range(4)))
    # One at once, one after 4 seconds; at 5 the others need a slot at 8 and at 12.
    assert sends.times == pytest.approx([0, 4])
    assert [at for _, at, _ in sends.refused] == [5, 5]
    assert sorted(delay or 0 for *_, delay in sends.refused) == pytest.approx([3, 7])


async def test_a_send_that_takes_long_does_not_block_its_conversation_for_ever() -> None:
    sends = Sends(seconds=20)
    await sends.all(part("a", "first"), part("a", "second"))
    assert sends.refused == [("second", LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)]


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    sends = Sends(per_second=1)
    await sends.send(part("a"))
    (waiting,) = sends.start(part("b"))
    await asyncio.sleep(0.5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await sends.send(part("b"))
    assert sends.went[-1] == ("b", pytest.approx(1))


# --- the vendor throttles ----------------------------------------------------------------------


async def test_a_refusal_pauses_its_number_and_no_other() -> None:
    sends = Sends()
    await sends.refuse(3)
    await sends.all(part("a"), part("b", sender=OTHER))
    assert sends.went == [("b", 0), ("a", 3)]


async def test_a_refusal_that_names_no_time_pauses_for_the_default() -> None:
    sends = Sends()
    await sends.refuse(None)
    await sends.send(part("a"))
    assert sends.times == [PAUSE_SECONDS]


async def test_a_report_of_throttling_pauses_its_number_too() -> None:
    sends = Sends()
    sends.pace.throttled(ACCOUNT, OTHER)
    await sends.all(part("a"), part("b", sender=OTHER))
    assert sends.went == [("a", 0), ("b", PAUSE_SECONDS)]


async def test_those_who_wait_when_a_long_pause_begins_are_told_at_once() -> None:
    sends = Sends(per_second=0.5)
    await sends.send(part("a"))
    waiting = sends.start(part("b"))
    await asyncio.sleep(1)
    sends.pace.throttled(ACCOUNT, ONE)
    await asyncio.gather(*waiting)
    assert sends.refused == [("b", 1, pytest.approx(PAUSE_SECONDS))]


async def test_an_odd_header_does_not_stop_a_number_for_a_day() -> None:
    sends = Sends()
    await sends.refuse(86_400)
    await sends.send(part("a"))
    assert sends.refused == [("a", 0, LONGEST_PAUSE_SECONDS)]


async def test_another_failure_pauses_nothing() -> None:
    sends = Sends()
    with pytest.raises(Permanent):
        async with sends.pace.slot(part("a")):
            raise Permanent("twilio", "refused")
    await sends.send(part("a"))
    assert sends.times == pytest.approx([1 / 80])


async def test_a_refusal_of_the_pace_itself_pauses_nothing() -> None:
    sends = Sends(per_second=0.1)
    await sends.all(part("a"), part("b"))
    await asyncio.sleep(10)
    await sends.send(part("c"))
    assert sends.went[-1] == ("c", 10)


# --- one customer ------------------------------------------------------------------------------


async def test_messages_to_one_customer_keep_their_distance() -> None:
    sends = Sends(conversation_seconds=2)
    await sends.all(part("a", "a1"), part("a", "a2"), part("a", "a3"), part("b"))
    assert [text for text, _ in sends.went] == ["a1", "b", "a2", "a3"]
    times = dict(sends.went)
    assert times["a2"] == pytest.approx(2)
    assert times["a3"] == pytest.approx(4)
    assert times["b"] < 0.1


async def test_a_distance_beyond_the_longest_wait_is_refused_with_the_time() -> None:
    sends = Sends(conversation_seconds=20)
    await sends.send(part("a"))
    await asyncio.sleep(1)
    await sends.all(part("a"), part("a", sender=OTHER))
    ((text, at, delay),) = sends.refused
    assert (text, at) == ("a", 1)
    assert delay == pytest.approx(19)
    assert sends.times == [0, 1]
    await asyncio.sleep(15)
    await sends.send(part("a"))
    assert sends.times[-1] == pytest.approx(20)


async def test_nothing_is_remembered_of_customers_who_were_written_to() -> None:
    sends = Sends(conversation_seconds=5)
    await sends.all(*map(part, range(50)))
    await asyncio.sleep(6)
    (number,) = sends.pace._numbers.values()
    assert number._resting == {}
    assert number._slots._taken == Counter()


# --- as a channel ------------------------------------------------------------------------------


async def test_a_paced_channel_sends_at_its_pace_and_is_the_channel_otherwise() -> None:
    inner = MemoryChannel(seconds=0)
    channel = PacedChannel(inner, SendPace(LoopClock(), PacePolicy(per_second=0.5)))
    sids = await asyncio.gather(*(channel.send(part(n)) for n in range(3)))
    assert time() == pytest.approx(4)
    sent = await channel.sent_since(ACCOUNT, ONE, "whatsapp:0", 0)
    assert [message.sid for message in sent] == [sids[0]]
    await channel.show_typing("SM1", ACCOUNT)
    assert inner.typing == ["SM1"]
    assert channel.knows_account(ACCOUNT)
    assert not channel.knows_account("AC1")
    assert channel.is_authentic(SignedRequest("/", [("AccountSid", ACCOUNT)], "genuine"))
    assert await channel.received_since(ACCOUNT, 0, 1) == await inner.received_since(ACCOUNT, 0, 1)
    assert not channel.is_authentic(SignedRequest("/", [("AccountSid", ACCOUNT)], "forged"))
    params = {"MessageSid": "SM1", "From": "whatsapp:a", "To": ONE}
    assert channel.parse(params).sid == "SM1"


async def test_a_paced_channel_passes_refusals_on_and_waits_after_them() -> None:
    inner = MemoryChannel(seconds=0, failures=[Busy("twilio", "too many requests", delay=4)])
    channel = PacedChannel(inner, SendPace(LoopClock(), PacePolicy()))
    with pytest.raises(Busy) as caught:
        await channel.send(part("a"))
    assert caught.value.delay == 4
    await channel.send(part("a"))
    assert time() == 4
