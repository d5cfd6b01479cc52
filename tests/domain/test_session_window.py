"""Whether WhatsApp still takes free text."""

from typing import Any

import pytest

from replyd.domain import record, session_window
from replyd.domain.catch_up import Listed
from replyd.domain.messages import ConversationKey
from replyd.domain.record import conversation_from
from replyd.domain.session_window import MARGIN_MS, OPEN_MS
from tests.support.world import message

NOW = 1_800_000_000_000
ASKED = {"role": "user", "content": "hi"}
REFUSED = {"role": "human", "content": "a", "delivery": "failed", "delivery_error": "63016"}
OTHERWISE = REFUSED | {"delivery_error": "63024"}


def closed(last_at: int = 0, history: tuple[Any, ...] = (), *, pending: bool = False) -> bool:
    item = {record.LAST_AT: last_at, record.MESSAGES: list(history)}
    if pending:
        item |= {record.PENDING: [{"sid": "SM1", "received_at": last_at}], record.SEQ: 1}
    return session_window.is_closed(conversation_from(item, ConversationKey("c")), now=NOW)


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [
        (0, False),
        (OPEN_MS - MARGIN_MS, False),
        (OPEN_MS - MARGIN_MS + 1, True),
        (OPEN_MS, True),
        # Another instance's clock.
        (-2_000, False),
    ],
)
@pytest.mark.parametrize("pending", [False, True])
def test_it_closes_five_minutes_before_whatsapps_does(
    age_ms: int, expected: bool, pending: bool
) -> None:
    assert closed(NOW - age_ms, pending=pending) is expected


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ((), False),
        ((ASKED,), False),
        ((ASKED, REFUSED), True),
        ((REFUSED,), True),
        ((ASKED, REFUSED, {"role": "human", "content": "b", "delivery": "sent"}), True),
        ((ASKED, OTHERWISE), False),
        ((REFUSED, ASKED), False),
    ],
)
@pytest.mark.parametrize("last_at", [0, NOW])
def test_a_refusal_since_the_last_message_closes_it(
    history: tuple[Any, ...], expected: bool, last_at: int
) -> None:
    assert closed(last_at, history) is expected


@pytest.mark.parametrize(("age_ms", "expected"), [(OPEN_MS, True), (0, False)])
def test_a_message_that_was_found_late_is_as_old_as_the_vendor_says(
    age_ms: int, expected: bool
) -> None:
    found = Listed(message(1), NOW - age_ms).dated
    conversation = conversation_from({record.LAST_AT: NOW}, ConversationKey("c"))
    assert session_window.is_closed(conversation, now=NOW, newest=found) is expected
    assert not session_window.is_closed(conversation, now=NOW, newest=message(1))


def test_a_message_after_the_refusal_opens_it_before_it_is_in_the_history() -> None:
    assert not closed(NOW, (ASKED, REFUSED), pending=True)
