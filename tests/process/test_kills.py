"""A slice of `python -m tests.process.kills`, and whether its books notice what they are for."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from replyd.demo.twilio_double import Exchanged
from replyd.domain.messages import ConversationKey
from tests.process import kills
from tests.process.books import Asked, Books, answer, balance
from tests.process.load import Options

CUSTOMER = "+447700900001"
KEY = ConversationKey(CUSTOMER, "c-1")


async def test_the_books_balance_after_a_few_kills(ministack: str) -> None:
    options = Options(kills=3, customers=12, every=2.5, settle=70)
    said: list[str] = []
    result = await kills.run(options, ministack, said.append)
    assert not result.imbalances, "\n".join([*map(str, result.imbalances), *said])
    assert result.counts["kills"] == 3
    assert result.counts["messages answered"]


def line(sid: str, text: str) -> Exchanged:
    return Exchanged(sid, "out", CUSTOMER, "+447700900100", text, 0, "sent")


def user(sid: str, number: int, turn: str) -> dict[str, Any]:
    content = Asked(number, sid, KEY).text
    return {"role": "user", "message_id": sid, "content": content, "turn_id": turn}


def assistant(sid: str, text: str, turn: str) -> dict[str, Any]:
    return {"role": "assistant", "message_id": sid, "content": text, "turn_id": turn}


def books() -> Books:
    """Two messages and two turns, all as it should be."""
    first, second = answer(1, "#1", 1), answer(2, "#2", 1)
    history = [
        *(user("SM1", 1, "t1"), assistant("SMa", first, "t1")),
        *(user("SM2", 2, "t2"), assistant("SMb", second, "t2")),
    ]
    return Books(
        asked=[Asked(1, "SM1", KEY, acknowledged=True), Asked(2, "SM2", KEY, acknowledged=True)],
        records={"c-1": {"messages": history}},
        sent=[line("SMa", first), line("SMb", second)],
        handed={},
        seqs={"SM1": 1, "SM2": 2},
    )


def entries(b: Books) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = b.records["c-1"]["messages"]
    return found


def unclear(b: Books) -> None:
    entry = entries(b)[1]
    del entry["message_id"]
    entry["delivery"] = "unknown"


def given_to_people(b: Books, reason: str) -> None:
    b.handed["SM1"] = Counter({reason: 1})  # type: ignore[index]


def test_books_that_balance() -> None:
    result = balance(books())
    assert result.imbalances == []
    assert result.counts["messages answered"] == 2
    assert result.counts["turns"] == 2


def test_an_unclear_reply_with_people_is_in_order() -> None:
    b = books()
    unclear(b)
    given_to_people(b, "ambiguous")
    assert balance(b).imbalances == []


def test_what_was_not_acknowledged_may_be_lost() -> None:
    b = books()
    del entries(b)[:2]
    del b.sent[0]
    b.asked[0].acknowledged = False
    result = balance(b)
    assert result.imbalances == []
    assert result.counts["not acknowledged, lost"] == 1


def test_what_was_not_acknowledged_and_is_found_late_has_no_place_in_an_order() -> None:
    b = books()
    entries(b).sort(key=lambda e: e["turn_id"] < "t2")
    b.sent.reverse()
    b.seqs.update(SM1=2, SM2=1)  # type: ignore[attr-defined]
    assert {i.what for i in balance(b).imbalances} == {
        "out of order of arrival",
        "out of order of sending",
    }
    b.asked[0].acknowledged = False
    result = balance(b)
    assert result.imbalances == []
    assert result.counts["not acknowledged, in a turn all the same"] == 1


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("acknowledged and in no turn", lambda b: entries(b).__delitem__(0)),
        ("in more than one turn", lambda b: entries(b).append(user("SM1", 1, "t3"))),
        ("neither answered nor with people", lambda b: entries(b)[1].update(turn_id="t2")),
        ("accepted and not in one record once", lambda b: entries(b).pop()),
        (
            "accepted and not in one record once",
            lambda b: entries(b).append(assistant("SMb", answer(2, "#2", 1), "t2")),
        ),
        ("called sent, but Twilio never accepted it", lambda b: b.sent.pop()),
        ("a text accepted twice", lambda b: b.sent.append(line("SMc", b.sent[1].text))),
        (
            "a question answered twice",
            lambda b: b.sent.append(line("SMc", answer(3, "#2", 1))),
        ),
        ("an unclear reply not with people", unclear),
        ("answered and with people", lambda b: given_to_people(b, "failed")),
        ("out of order of seq", lambda b: b.seqs.update(SM1=3)),
        ("out of order of arrival", lambda b: entries(b).sort(key=lambda e: e["turn_id"] < "t2")),
        ("out of order of sending", lambda b: b.sent.reverse()),
        ("turns interleaved", lambda b: entries(b).insert(1, entries(b).pop(2))),
        (
            "a reply to other questions than its turn's",
            lambda b: entries(b)[1].update(content=answer(1, "#1 #2", 1)),
        ),
    ],
)
def test_the_books_notice(what: str, change: Callable[[Books], object]) -> None:
    b = books()
    change(b)
    assert what in {i.what for i in balance(b).imbalances}
