from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import record as r
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Candidate
from replyd.domain.routing import (
    OptOutWords,
    choose,
    new_conversation,
    new_conversation_id,
    user_entries,
)
from tests.domain.situations import NOW
from tests.support.world import BUSINESS, CUSTOMER, message

OTHER = "+447700900199"
WORDS = OptOutWords(("STOP", "both"), ("START", "both"))


def candidate(name: str, created_at: str = "2026-01-01", **changes: object) -> Candidate:
    made = Candidate(
        key=ConversationKey(CUSTOMER, name),
        conversation_id=name,
        company_tel=BUSINESS,
        created_at=created_at,
        thread_id="",
        handoff=False,
        opted_out=False,
        staged_before=False,
        seen=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def target(*candidates: Candidate, business: str = BUSINESS) -> str | None:
    """The same, whatever order the lookup brings them in."""
    found = {
        None if route is None else route.target.conversation_id
        for order in (candidates, candidates[::-1])
        for route in [choose(order, business)]
    }
    assert len(found) == 1
    return found.pop()


def test_the_newest_takes_the_message() -> None:
    old, new = (
        candidate("z", "2026-01-01T00:00:00.999Z"),
        candidate("a", "2026-01-01T00:00:01.000Z"),
    )
    assert target(old, new) == "a"
    assert target(old, replace(new, created_at="")) == "z"


def test_records_of_one_moment_are_told_apart_by_their_names() -> None:
    assert target(candidate("a"), candidate("b")) == "b"


def test_other_business_numbers_are_other_conversations() -> None:
    newer = candidate("other", "2026-02-01", company_tel=OTHER)
    assert target(candidate("ours"), newer) == "ours"
    assert target(newer) is None
    assert target(candidate("ours"), newer, business=OTHER) == "other"
    assert target() is None


def test_the_channel_prefix_does_not_matter() -> None:
    assert target(candidate("c", company_tel=f"whatsapp:{BUSINESS}")) == "c"


def test_business_scoped_ids() -> None:
    assert target(candidate("c", company_tel="whatsapp:US.ABC1"), business="US.ABC1") == "c"
    assert target(candidate("c", company_tel="US.ABC1"), business="US.ABC2") is None


def test_records_without_a_business_number_serve_when_no_other_does() -> None:
    nameless = candidate("nameless", "2026-09-01", company_tel="")
    assert target(nameless) == "nameless"
    assert target(nameless, candidate("other", company_tel=OTHER)) == "nameless"
    assert target(nameless, candidate("ours")) == "ours"


@pytest.mark.parametrize("company_tel", [BUSINESS, "", OTHER])
def test_the_record_that_accepted_the_message_goes_before_all(company_tel: str) -> None:
    """Also when its number was changed since, or a better record has come: a redelivery there
    would be a second answer."""
    seen = candidate("seen", "2025-01-01", seen=True, company_tel=company_tel)
    assert target(seen, candidate("newer", "2026-09-01")) == "seen"


def test_siblings_share_the_opt_out() -> None:
    ours, old = candidate("ours"), candidate("old", "2025-01-01", opted_out=True)
    elsewhere = candidate("elsewhere", company_tel=OTHER, opted_out=True)
    route = choose([old, ours, elsewhere], BUSINESS)
    assert route is not None
    assert (route.target, route.siblings) == (ours, (old,))
    assert route.opted_out
    alone = choose([ours, elsewhere], BUSINESS)
    assert alone is not None
    assert not alone.opted_out
    assert alone.siblings == ()


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.text("abc", min_size=1, max_size=2),
        st.sampled_from(["", "2025", "2026"]),
        company_tel=st.sampled_from(["", BUSINESS, f"whatsapp:{BUSINESS}", OTHER]),
        seen=st.booleans(),
        opted_out=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda c: c.key,
)


@given(CANDIDATES)
def test_a_choice_never_depends_on_the_order_and_has_each_record_once(
    candidates: list[Candidate],
) -> None:
    route, other = choose(candidates, BUSINESS), choose(candidates[::-1], BUSINESS)
    assert (route is None) == (other is None)
    if route is None or other is None:
        assert all(c.company_tel == OTHER and not c.seen for c in candidates)
        return
    assert route.target == other.target
    assert set(route.siblings) == set(other.siblings)
    assert route.target not in route.siblings
    assert route.target.seen or not any(c.seen for c in candidates)


# --- new conversations -------------------------------------------------------------------------


def test_the_name_of_a_new_conversation_never_changes() -> None:
    """Another name for the same customer would be a second record."""
    assert new_conversation_id(CUSTOMER, BUSINESS) == "c-0d4bb0f385ef5890b528"
    names = {
        new_conversation_id(*pair)
        for pair in ((CUSTOMER, BUSINESS), (BUSINESS, CUSTOMER), (CUSTOMER, OTHER))
    }
    assert len(names) == 3


def test_a_new_conversation() -> None:
    inbound = message(1, sender="whatsapp:US.ABC1")
    made = new_conversation(inbound, "c-9", NOW)
    assert made[r.RECIPIENT_TEL] == "US.ABC1"
    assert (made[r.COMPANY_TEL], made[r.CONVERSATION_ID]) == (BUSINESS, "c-9")
    assert made[r.CREATED_AT] == made[r.UPDATED_AT] == r.iso(NOW)
    assert not r.flag_is_up(made)
    found = r.candidate_from(made, ConversationKey("US.ABC1", "c-9"), "SM1")
    route = choose([found], inbound.business)
    assert route is not None
    assert not found.staged_before


def test_history_entries_of_users() -> None:
    assert user_entries([("SM1", NOW, "a"), ("SM2", NOW + 1, "b")], "t") == [
        {"message_id": s, "role": "user", "content": c, "timestamp": r.iso(at), "turn_id": "t"}
        for s, at, c in (("SM1", NOW, "a"), ("SM2", NOW + 1, "b"))
    ]


# --- opting out --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said", "stop", "start"),
    [
        ("stop", "", True, False),
        ("Start!", "", False, True),
        ("stop it", "", False, False),
        ("hello", "STOP", True, False),
        ("hello", "stop", True, False),
        ("hello", "START", False, True),
        # Twilio knows the words that its operator configured there.
        ("start", "STOP", True, False),
        ("stop", "START", False, True),
        ("stop", "HELP", True, False),
        ("hello", "HELP", False, False),
        ("both", "", True, False),
        ("x", "", False, False),
    ],
)
def test_opt_outs(body: str, said: str, stop: bool, start: bool) -> None:
    """Never both: one update cannot set and remove the same attribute."""
    inbound = message(1, body, params={"OptOutType": said} if said else {})
    assert (WORDS.is_stop(inbound), WORDS.is_start(inbound)) == (stop, start)


def test_a_picture_without_text_is_no_opt_out() -> None:
    inbound = replace(message(1), body="")
    assert not OptOutWords(("",), ("",)).is_stop(inbound)
    assert not OptOutWords(("",), ("",)).is_start(inbound)
