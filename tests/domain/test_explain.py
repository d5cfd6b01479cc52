"""What operators are told of a conversation's future is what workers will do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from replyd.domain import record as r
from replyd.domain import steps
from replyd.domain.explain import Outlook, count_of, outlook, span, why
from replyd.domain.expressions import Applied
from replyd.domain.turn import TurnPolicy
from tests.domain.situations import NOW, POLICY, WINDOW, Item, claim, reply, situations
from tests.support.world import CUSTOMER

LEASE, SKEW = POLICY.lease_ms, POLICY.skew_ms
APOLOGISING = TurnPolicy(apology=True)


def look(item: Item, now: int, policy: TurnPolicy = POLICY) -> Outlook:
    return outlook(item.conversation(), now=now, policy=policy, window=WINDOW, grace_ms=20_000)


def staged(count: int, **options: bool) -> Item:
    item = Item()
    for number in range(1, count + 1):
        item.stage(number, NOW, **options)
    return item


def claimed(count: int = 2) -> Item:
    item = staged(count)
    assert isinstance(item.apply(claim("t", NOW + 5_000)), Applied)
    return item


def sending(kind: str = "reply", **changes: Any) -> Item:
    """Two messages are claimed and an outbox of them is written, at NOW + 6 s."""
    item = claimed()
    taken = item.conversation().pending
    outbox = reply("turn-1", tuple(p.seq for p in taken), tuple(p.sid for p in taken), kind)
    expires_at = NOW + 6_000 + LEASE
    outbox = replace(outbox, **changes)
    if kind == "handoff":
        step = steps.intend_handoff("t", outbox, expires_at, head="")
    else:
        step = steps.intend_reply("t", outbox, expires_at, head="", seq=None)
    assert isinstance(item.apply(step), Applied)
    return item


def released(failure: str = "", *, drop_outbox: bool = False) -> Item:
    item = claimed()
    note = r.failure("openai", failure, NOW) if failure else None
    step = steps.release("t", give_back_attempt=False, drop_outbox=drop_outbox, failure=note)
    item.apply(step)
    return item


def with_flag(item: Item) -> Item:
    item.apply(steps.set_handoff(True))
    return item


def settled() -> Item:
    item = sending()
    outbox = item.conversation().outbox
    assert outbox is not None
    item.apply(steps.commit("t", outbox, outbox.entries, NOW, status=r.AI_RESPONSE_SENT))
    return item


def without_lease(item: Item) -> Item:
    assert item.attributes is not None
    del item.attributes[r.LEASE]
    return item


def apologising() -> Item:
    return sending("apology", seqs=())


def known(item: Item, *parts: int) -> Item:
    assert item.attributes is not None
    for part in parts:
        item.attributes[r.OUTBOX]["entries"][part]["message_id"] = f"SM{part}"
    return item


Make = Callable[[], Item]
SITUATIONS: list[tuple[str, Make, int, str, str, str]] = [
    ("no message ever", Item, 0, "idle", "", "nothing to do: no message has come yet"),
    ("all settled", settled, 9_000, "idle", "", "nothing to do: every message is settled"),
    (
        "people have it",
        lambda: with_flag(settled()),
        9_000,
        "idle",
        "",
        "people have it: the AI stays silent, and new messages go to the handoff queue",
    ),
    (
        "the customer left",
        lambda: _opted_out(settled()),
        9_000,
        "idle",
        "",
        "nothing to do: the customer has opted out, the AI stays silent until they return",
    ),
    (
        "typing",
        lambda: staged(2),
        2_000,
        "window_open",
        "answer",
        (
            "the window closes in 3 s (5 s without a message, 12 s at most), then the AI "
            "answers 2 messages"
        ),
    ),
    (
        "one message, any worker",
        lambda: staged(1),
        5_001,
        "due",
        "answer",
        "as soon as a worker takes it, the AI answers 1 message",
    ),
    (
        "nobody comes",
        lambda: staged(1),
        95_000,
        "due",
        "answer",
        (
            "as soon as a worker takes it, the AI answers 1 message. It has been due for 90 "
            "s: look whether `replyd serve` runs, and with `replyd dlq list` whether its "
            "wake-up is in the dead-letter queue"
        ),
    ),
    (
        "flagged while waiting",
        lambda: with_flag(staged(2)),
        1_000,
        "due",
        "hand_over",
        "as soon as a worker takes it, people get 2 messages: people have the conversation",
    ),
    (
        "opted out while waiting",
        lambda: staged(1, opt_out=True),
        1_000,
        "due",
        "hand_over",
        "as soon as a worker takes it, people get 1 message: the customer has opted out",
    ),
    (
        "waited too long",
        lambda: staged(1),
        190_000,
        "due",
        "hand_over",
        (
            "as soon as a worker takes it, people get 1 message: no reply within 180 s. It "
            "has been due for 3 min: look whether `replyd serve` runs, and with `replyd dlq "
            "list` whether its wake-up is in the dead-letter queue"
        ),
    ),
    (
        "an attempt failed",
        lambda: released("throttles us"),
        8_000,
        "due",
        "answer",
        (
            "as soon as a worker takes it, the AI answers 2 messages; attempt 1 of 5 did not "
            "succeed, the next one follows within 30 s"
        ),
    ),
    (
        "a worker is at it",
        claimed,
        24_000,
        "held",
        "answer",
        (
            "worker me has it: the AI answers 2 messages. Its lease lasts another 41 s, "
            "longer while it renews; should it have ended, another one goes on in 44 s"
        ),
    ),
    (
        "a worker is at it, then people take it",
        lambda: with_flag(claimed()),
        24_000,
        "held",
        "hand_over",
        (
            "worker me has it: people get 2 messages: people have the conversation. Its lease"
            " lasts another 41 s, longer while it renews; should it have ended, another one "
            "goes on in 44 s"
        ),
    ),
    (
        "a worker is sending",
        sending,
        7_000,
        "held",
        "recover",
        (
            "worker me is sending the reply. Its lease lasts another 59 s, longer while it "
            "renews; should it have ended, in 62 s somebody waits 20 s and looks up how far "
            "the reply came"
        ),
    ),
    (
        "a worker has sent the first of two parts",
        lambda: known(sending(), 2),
        7_000,
        "held",
        "recover",
        (
            "worker me is sending the reply. Its lease lasts another 59 s, longer while it "
            "renews; should it have ended, in 62 s somebody waits 20 s and looks up how far "
            "the reply came (1 of 2 parts are known to be accepted)"
        ),
    ),
    (
        "ended while sending",
        sending,
        LEASE + 7_000,
        "held",
        "recover",
        (
            "an earlier worker ended while sending (me, its lease has run out; clocks may be "
            "2 s apart): in 2 s somebody waits 20 s and looks up how far the reply came"
        ),
    ),
    (
        "ended before sending",
        claimed,
        LEASE + 6_000,
        "held",
        "answer",
        (
            "an earlier worker ended (me, its lease has run out; clocks may be 2 s apart): in"
            " 2 s the AI answers 2 messages"
        ),
    ),
    (
        "ended while sending, long ago",
        sending,
        LEASE + 9_000,
        "due",
        "recover",
        (
            "an earlier worker ended while sending: as soon as a worker takes it, somebody "
            "waits 20 s and looks up how far the reply came; attempt 1 of 5 did not succeed, "
            "the next one follows within 30 s"
        ),
    ),
    (
        "all parts are known",
        lambda: without_lease(known(sending(), 2, 3)),
        9_000,
        "due",
        "recover",
        (
            "an earlier worker ended while sending: as soon as a worker takes it, somebody "
            "writes down the reply, all of which was accepted; attempt 1 of 5 did not "
            "succeed, the next one follows within 30 s"
        ),
    ),
    (
        "giving it to people",
        lambda: sending("handoff", reason="failed", detail="no reply after 5 attempts"),
        7_000,
        "held",
        "hand_over",
        (
            "worker me is giving it to people. Its lease lasts another 59 s, longer while it "
            "renews; should it have ended, in 62 s people get 2 messages: no reply after 5 "
            "attempts"
        ),
    ),
    (
        "telling the customer",
        apologising,
        7_000,
        "held",
        "finish_apology",
        (
            "worker me is telling the customer that no answer will come. Its lease lasts "
            "another 59 s, longer while it renews; should it have ended, in 62 s the apology "
            "counts as sent, and people get what is pending"
        ),
    ),
    (
        "an outbox that makes no sense",
        lambda: sending(entries=()),
        7_000,
        "held",
        "hand_over",
        (
            "worker me is sending the reply. Its lease lasts another 59 s, longer while it "
            "renews; should it have ended, in 62 s people get 2 messages: an earlier worker "
            "ended while sending"
        ),
    ),
]


def _opted_out(item: Item) -> Item:
    item.apply(steps.mark_opt_out(NOW, opted_out=True))
    return item


@pytest.mark.parametrize(
    ("make", "after", "state", "effect", "text"),
    [pytest.param(*rest, id=name) for name, *rest in SITUATIONS],
)
def test_what_happens_next_in_words(
    make: Make, after: int, state: str, effect: str, text: str
) -> None:
    found = look(make(), NOW + after)
    assert (found.state, found.effect, found.text) == (state, effect, text)


def test_when_the_ai_gives_up() -> None:
    found = look(staged(2), NOW + 1_000)
    assert (found.at, found.gives_up_at) == (NOW + 5_000, NOW + POLICY.give_up_ms)
    assert look(with_flag(staged(2)), NOW).gives_up_at == 0


def test_used_up_attempts_count_the_next_one_too() -> None:
    item = released("overloaded")
    assert item.attributes is not None
    item.attributes[r.ATTEMPTS] = POLICY.max_attempts
    found = look(item, NOW + 8_000)
    assert (found.effect, found.reason) == ("hand_over", "failed")
    assert "no reply after 5 attempts, the last one: overloaded" in found.text
    told = look(item, NOW + 8_000, APOLOGISING).text
    assert "the customer is told that no answer will come, and people get 2 messages" in told


def test_a_new_burst_after_the_lease_waits_for_its_window_too() -> None:
    item = claimed()
    item.stage(9, NOW + LEASE + 6_900)
    found = look(item, NOW + LEASE + 6_950)
    # The oldest message has waited for the longest window already.
    assert (found.state, found.at) == ("held", NOW + 5_000 + LEASE + SKEW + 1)


@given(situations())
def test_it_agrees_with_the_claim_itself(situation: tuple[Item, int]) -> None:
    item, now = situation
    found = look(item, now)
    held = isinstance(item.apply(claim("mine", now)), Applied)
    assert held == (found.state == "due")
    assert CUSTOMER not in found.text


@given(situations())
def test_at_the_time_it_names_a_claim_holds(situation: tuple[Item, int]) -> None:
    item, now = situation
    found = look(item, now)
    if found.at:
        assert isinstance(item.apply(claim("mine", max(now, found.at))), Applied)


def test_small_words() -> None:
    assert [count_of(1), count_of(2)] == ["1 message", "2 messages"]
    assert [span(ms) for ms in (-5, 1, 119_000, 120_000, 7_200_000, 172_800_000)] == [
        "0 s", "1 s", "119 s", "2 min", "2 h", "2 d"
    ]  # fmt: skip
    assert why("new_reason") == "new_reason"
    assert why("") == "the reason is not known"


def test_a_persons_answer_that_was_left_keeps_nobody_waiting() -> None:
    item = settled()
    assert item.attributes is not None
    outbox = replace(OUTBOX_OF_A_PERSON, at=NOW)
    item.attributes[r.OUTBOX] = outbox.as_attribute()
    found = look(item, NOW + 10 * LEASE)
    assert found.state == "idle"
    assert "a person's answer" in found.text
    item.stage(9, NOW + 10 * LEASE)
    found = look(item, NOW + 10 * LEASE)
    assert (found.state, found.effect) == ("due", "finish_apology")
    assert "a person's answer counts as sent" in found.text


OUTBOX_OF_A_PERSON = r.Outbox(
    "person-k", "person", (), ({"role": "human", "content": "hello"},), NOW, delivery={}
)
