"""The canned assistant, and what its customers send."""

import json

import pytest

from replyd.demo import bakery, samples, shop
from replyd.demo.shop import order_status
from replyd.domain import prompt
from replyd.domain.tools import HAND_OVER, hand_over_arguments
from replyd.ports import File

OFFERED = ("order_status", HAND_OVER.name)
NOON = 12 * 3_600_000


@pytest.mark.parametrize(
    "texts",
    [("Hi!", "Are you open on Sunday?"), ("thanks", "cheers"), ("asdf", "jkl")],
)
def test_when_the_messages_of_a_burst_came_is_not_what_they_say(texts: tuple[str, ...]) -> None:
    burst = prompt.burst([(NOON, text) for text in texts])
    assert burst.startswith("[12:00:00] ")
    assert bakery.reply(burst) == bakery.reply("\n".join(texts))


def test_an_order_by_its_number_is_looked_up_and_nothing_else_is() -> None:
    burst = prompt.burst([(NOON, "Hi"), (NOON, "Where is my order no. 1042?")])
    assert bakery.calls(burst, OFFERED) == [("order_status", {"number": "1042"})]
    assert bakery.calls(burst, ()) == []
    for text in ("Can I still add to my order?", "[12:00:00] I order now", "call me at 1042"):
        assert bakery.calls(text, OFFERED) == []


async def test_what_the_tool_says_is_told_beside_what_else_was_asked() -> None:
    text = prompt.burst([(NOON, "Where is my order 1042?"), (NOON, "Are you open on Sunday?")])
    told = [json.dumps(await order_status("1042"))]
    answer = bakery.reply(text, told)
    assert "Your order 1042, two sourdough loaves, is baked" in answer
    assert "On Sundays we are open" in answer
    assert "12 Mill Lane" not in answer
    assert "no order 9999" in bakery.reply("order 9999?", [json.dumps(await order_status("9999"))])
    assert "right now" in bakery.reply("order 1042?", ["It failed: it took too long."])


def test_a_tool_of_ones_own_is_called_by_name_where_it_is_offered() -> None:
    text = prompt.burst([(NOON, 'stock {"item": "rye"}'), (NOON, 'stock {"item": }')])
    assert bakery.calls(text, ("stock",)) == [("stock", {"item": "rye"}), ("stock", {})]
    assert bakery.calls(text, OFFERED) == []
    assert bakery.reply(text, ["3", "It failed."]) == "The tool says: 3\nThe tool says: It failed."


def test_the_tool_is_described_as_it_is() -> None:
    assert shop.ORDER_STATUS["python"] == f"{order_status.__module__}:{order_status.__name__}"


def test_who_wants_a_person_gets_one_and_a_farewell() -> None:
    text = "I want to talk to a person about order 1042"
    ((name, arguments),) = bakery.calls(text, OFFERED)
    assert name == HAND_OVER.name
    reason, summary = hand_over_arguments(json.dumps(arguments))
    assert reason == "The customer asks for a person."
    assert text in summary
    assert bakery.aside(text) == bakery.FAREWELL
    assert bakery.aside("Where is my order 1042?") == ""


def test_a_picture_is_seen_by_its_contents() -> None:
    text = "like this\n[sent a picture (image/png): file 1]"
    assert bakery.files_in(text) == 1
    answer = bakery.reply(text, files=[File("a.png", "image/png", samples.picture())])
    assert answer == "I see your picture, 340 by 260 pixels: lovely!"
    assert "I see" not in bakery.reply(text)
    pdf = "[sent a PDF document (application/pdf): file 1]"
    answer = bakery.reply(pdf, files=[File("a.pdf", "application/pdf", b"%PDF")])
    assert answer == "I see that you sent a PDF document."
