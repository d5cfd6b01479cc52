import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain import prompt
from replyd.domain.messages import Media
from replyd.domain.prompt import (
    burst,
    heard,
    lines,
    quoted_text,
    readable,
    undelivered,
    unread,
    unseen_by_thread,
)
from replyd.domain.prompt import shown as shown_as
from tests.domain.garbage import ANYTHING
from tests.support.world import message


def shown(body: str = "", media: str | None = None, **params: Any) -> str:
    files = () if media is None else (Media("https://x", media),)
    found = message(1, params=params, media=files)
    # `message` has a default for an empty body.
    return readable(type(found)(**{**_fields(found), "body": body}))


def _fields(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__slots__}


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/jpeg", "a picture"),
        ("image/webp", "a sticker or picture"),
        ("audio/ogg", "a voice note"),
        ("AUDIO/OGG; codecs=opus", "a voice note"),
        ("video/mp4", "a video"),
        ("application/pdf", "a PDF document"),
        ("text/vcard", "a contact"),
        ("text/x-vcard", "a contact"),
        ("text/directory", "a contact"),
        ("application/zip", "a file"),
        ("text/plain", "a file"),
    ],
)
def test_files(content_type: str, kind: str) -> None:
    expected = f"[sent {kind} ({content_type}); its contents cannot be seen here]"
    assert shown(media=content_type) == expected
    assert shown("Is this right?", content_type) == f"Is this right?\n{expected}"


def test_a_file_of_no_type() -> None:
    assert shown(media="") == "[sent a file (unknown type); its contents cannot be seen here]"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"ButtonText": "Yes"}, '[tapped the button "Yes"]'),
        ({"ButtonText": "Yes", "ButtonPayload": "y1"}, '[tapped the button "Yes", id y1]'),
        ({"ButtonPayload": "y1"}, "[tapped a button, id y1]"),
        ({"ListTitle": "Mon", "ListId": "d1"}, '[chose "Mon" from the list, id d1]'),
        ({"ListTitle": "Mon"}, '[chose "Mon" from the list]'),
        ({"ListId": "d1"}, '[chose "an entry" from the list, id d1]'),
        (
            {"InteractiveData": '{"list_reply": {"id": "d1", "title": "Mon"}}'},
            '[chose "Mon" from the list, id d1]',
        ),
        (
            {"InteractiveData": '{"interactive": {"list_reply": {"id": 1, "title": "Mon"}}}'},
            '[chose "Mon" from the list, id 1]',
        ),
        (
            {"InteractiveData": '{"button_reply": {"id": "y1", "title": "Yes"}}'},
            '[tapped the button "Yes", id y1]',
        ),
        ({"MessageType": "reaction", "ReactionEmoji": "👍"}, "[reacted with 👍]"),
        ({"MessageType": "Reaction"}, "[took a reaction back]"),
        ({"Latitude": "51.5", "Longitude": "-0.1"}, "[shared a location: 51.5, -0.1]"),
        (
            {"Latitude": "1", "Longitude": "2", "Label": "Home", "Address": "1 High St"},
            "[shared a location: Home, 1 High St, 1, 2]",
        ),
        # A repeated parameter counts once.
        ({"ButtonText": ["Yes", "No"]}, '[tapped the button "Yes"]'),
        ({"MessageType": "order"}, "[sent a message without text, of type order]"),
        ({"MessageType": "x" * 99}, f"[sent a message without text, of type {'x' * 40}]"),
        ({"Latitude": "51.5"}, "[sent a message without text, of type unknown]"),
        ({}, "[sent a message without text, of type unknown]"),
    ],
)
def test_what_has_no_text(params: dict[str, Any], expected: str) -> None:
    assert shown(**params) == expected
    assert shown(" \n", **params) == (
        expected if params.get("MessageType") != "Reaction" else "[took a reaction back]"
    )


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{",
        "7",
        "null",
        "[]",
        '"x"',
        '{"list_reply": 7}',
        '{"interactive": "x"}',
        '{"interactive": [1]}',
        '{"list_reply": {"title": {"a": 1}, "id": [2]}}',
        "[" * 99999,
    ],
)
def test_odd_interactive_data_is_no_choice(raw: str) -> None:
    assert shown(InteractiveData=raw) == "[sent a message without text, of type unknown]"
    assert shown("hello", InteractiveData=raw) == "hello"


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ("Yes", {"ButtonText": "Yes", "ButtonPayload": "y1"}),
        (" Mon ", {"ListTitle": "Mon"}),
        ("Mon", {"InteractiveData": '{"list_reply": {"id": "d1", "title": "Mon"}}'}),
        ("👍", {"MessageType": "reaction"}),
        ("👍", {"MessageType": "reaction", "ReactionEmoji": "👍"}),
        ("Home", {"Latitude": "1", "Longitude": "2", "Label": "Home"}),
    ],
)
def test_what_twilio_repeats_in_the_body_is_shown_once(body: str, params: dict[str, Any]) -> None:
    text = shown(body, **params)
    assert text.count(body.strip()) == 1
    assert text.startswith("[")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("body", "params"),
    [
        # Words that only happen to be part of what the brackets say.
        ("5", {"Latitude": "51.5", "Longitude": "2"}),
        ("a", {"ButtonText": "Yes"}),
        ("button", {"ButtonText": "Yes"}),
        ("Ye", {"ButtonText": "Yes"}),
        ("list", {"ListTitle": "Mon"}),
        ("Hello\nthere ", {"ButtonText": "Yes"}),
        ("great", {"MessageType": "reaction", "ReactionEmoji": "👍"}),
    ],
)
def test_no_text_of_the_customer_is_left_out(body: str, params: dict[str, Any]) -> None:
    text = shown(body, **params)
    assert text.startswith(f"{body}\n[")


def test_a_message_as_it_was_typed() -> None:
    assert shown("  two\n lines ") == "  two\n lines "
    assert shown("hi", MessageType="text") == "hi"


KNOWN = st.sampled_from(
    [
        "ButtonText",
        "ButtonPayload",
        "ListTitle",
        "ListId",
        "InteractiveData",
        "MessageType",
        "ReactionEmoji",
        "Latitude",
        "Longitude",
        "Label",
        "Address",
    ]
)


@given(st.text(max_size=5), st.dictionaries(KNOWN, ANYTHING), st.none() | st.text(max_size=5))
def test_every_message_can_be_read(body: str, params: dict[str, Any], media: str | None) -> None:
    text = shown(body, media, **params)
    assert text.strip()
    assert body.strip() in text.replace("\\", "") or "\\" in body


def test_what_is_known_of_files_stands_in_their_places() -> None:
    picture, voice = Media("https://x", "image/png"), Media("https://y", "audio/ogg")
    one = message(1, "look", media=(picture, voice, picture))
    notes = {0: shown_as(picture, 2), 1: heard("and listen")}
    assert readable(one, notes=notes).splitlines() == [
        "look",
        "[sent a picture (image/png): file 2]",
        "[voice note] and listen",
        "[sent a picture (image/png); its contents cannot be seen here]",
    ]


def test_why_a_file_was_not_read() -> None:
    media = Media("https://x", "image/png")
    assert unread(media, "it is gone") == "[sent a picture (image/png); it is gone]"


def test_a_voice_note_of_silence() -> None:
    assert heard("") == "[sent a voice note without words]"


def test_what_a_message_replies_to_stands_ahead_of_it() -> None:
    assert readable(message(1, "yes"), reply_to="Shall we?") == '[in reply to "Shall we?"]\nyes'


def test_a_reply_without_text_still_says_what_it_was() -> None:
    one = message(1, " ", params={"MessageType": "order"})
    assert readable(one, reply_to="Shall we?").splitlines() == [
        '[in reply to "Shall we?"]',
        "[sent a message without text, of type order]",
    ]


@pytest.mark.parametrize(
    ("params", "known", "expected"),
    [
        ({}, {"": "empty"}, ""),
        ({"OriginalRepliedMessageSid": ""}, {"": "empty"}, ""),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM1": "Shall we?"}, "Shall we?"),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM1": " Shall\n we?\n"}, "Shall we?"),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM1": "x" * 300}, "x" * 300),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM1": "x" * 301}, "x" * 300 + "…"),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM2": "no"}, "an earlier message"),
        ({"OriginalRepliedMessageSid": "SM1"}, {"SM1": " "}, "an earlier message"),
        ({"OriginalRepliedMessageSid": ["SM1", "SM2"]}, {"SM1": "one"}, "one"),
    ],
)
def test_what_a_message_replies_to(
    params: dict[str, Any], known: dict[str, str], expected: str
) -> None:
    assert quoted_text(message(1, params=params), known) == expected


def test_a_burst_keeps_its_order_and_times() -> None:
    texts = [(1_764_000_000_000, "one"), (1_764_000_002_500, "two\nlines")]
    assert burst(texts) == "[16:00:00] one\n[16:00:02] two\nlines"


def test_a_message_alone_needs_no_time() -> None:
    assert burst([(0, "one")]) == "one"


# --- history -----------------------------------------------------------------------------------

ASKED = {"role": "user", "content": "q1", "turn_id": "t1"}
ANSWERED = {"role": "assistant", "content": "a1", "turn_id": "t1", "response_id": "resp_1"}
AGAIN = {"role": "assistant", "content": "a1b", "turn_id": "t1", "response_id": "resp_1"}
GIVEN = {"role": "user", "content": "q2", "turn_id": "t2"}
PERSON = {"role": "human", "content": "a2"}
TEMPLATE = {"role": "assistant", "content": "Your order is ready"}
HISTORY = [TEMPLATE, ASKED, ANSWERED, AGAIN, GIVEN, PERSON]


def test_what_came_after_the_threads_last_response_is_unseen() -> None:
    assert unseen_by_thread(HISTORY, "resp_1") == [GIVEN, PERSON]
    assert unseen_by_thread(HISTORY[:4], "resp_1") == []


@pytest.mark.parametrize("thread", ["resp_9", "thread_1", ""])
def test_a_thread_of_somebody_else_lacks_what_people_got_from_replyd(thread: str) -> None:
    """A question that the AI has answered elsewhere is not put to it again."""
    assert unseen_by_thread(HISTORY, thread) == [GIVEN]
    assert unseen_by_thread([TEMPLATE, PERSON], thread) == []
    assert unseen_by_thread([], thread) == []


def test_history_as_lines() -> None:
    assert lines([*HISTORY, {"role": "agent", "content": "ok"}]) == [
        ("assistant", "Your order is ready"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("assistant", "a1b"),
        ("user", "q2"),
        ("assistant", "a2"),
        ("assistant", "ok"),
    ]


@pytest.mark.parametrize(
    ("delivery", "mark"),
    [
        ("undelivered", "\n[this was never delivered to the customer]"),
        ("failed", "\n[this was never delivered to the customer]"),
        ("unknown", "\n[perhaps this never reached the customer]"),
        ("delivered", ""),
        ("accepted", ""),
        ("", ""),
        (None, ""),
        ({"a": 1}, ""),
    ],
)
@pytest.mark.parametrize("role", ["assistant", "human", "agent"])
def test_a_line_tells_what_became_of_it(role: str, delivery: Any, mark: str) -> None:
    entry = {"role": role, "content": "hello", "delivery": delivery}
    assert lines([entry]) == [("assistant", f"hello{mark}")]
    # What came from the customer was not delivered by us.
    assert lines([entry | {"role": "user"}]) == [("user", "hello")]


FAILED = {"delivery": "failed"}
TOLD = "[of your last answer, this was never delivered to the customer: {}]"


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([ASKED, ANSWERED, AGAIN], []),
        ([ASKED, ANSWERED, AGAIN | FAILED], ["a1b"]),
        ([ASKED, ANSWERED | FAILED, AGAIN | {"delivery": "undelivered"}], ["a1", "a1b"]),
        ([ASKED, ANSWERED | {"delivery": "unknown"}], []),
        # Another thread's, or nobody's.
        ([ASKED, ANSWERED | FAILED | {"response_id": "resp_0"}], []),
        ([TEMPLATE | FAILED], []),
        ([ANSWERED | FAILED | {"content": 7}], []),
        # A thread that goes on under one name: only its last answer.
        ([ANSWERED | FAILED, AGAIN | {"turn_id": "t2"}], []),
        ([ANSWERED, AGAIN | FAILED | {"turn_id": "t2"}, GIVEN, PERSON], ["a1b"]),
        ([], []),
    ],
)
def test_what_the_thread_takes_for_said_and_was_not_delivered(
    history: list[dict[str, Any]], told: list[str]
) -> None:
    assert undelivered(history, "resp_1") == [("user", TOLD.format(text)) for text in told]


def test_without_a_thread_nothing_is_taken_for_said() -> None:
    assert undelivered([ANSWERED | FAILED | {"response_id": ""}], "") == []


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"role": "user"},
        {"role": "user", "content": ""},
        {"role": "user", "content": None},
        {"role": "user", "content": ["q"]},
        {"role": "system", "content": "do as I say"},
        {"role": ["user"], "content": "q"},
        {"content": "q"},
    ],
)
def test_entries_that_are_no_lines(entry: dict[str, Any]) -> None:
    assert lines([entry]) == []


@given(st.lists(st.dictionaries(st.sampled_from([*ANSWERED]), ANYTHING), max_size=4), st.text())
def test_any_history_can_be_read(history: list[dict[str, Any]], thread: str) -> None:
    assert all(r in ("user", "assistant") and t for r, t in lines(history))
    unseen = list(unseen_by_thread(history, thread))
    assert len([e for e in history if any(e is u for u in unseen)]) == len(unseen)
    assert all(role == "user" for role, _ in undelivered(history, thread))


# --- how a message came --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "note"),
    [
        ({"Forwarded": "true"}, "[forwarded: these need not be the customer's own words]"),
        (
            {"FrequentlyForwarded": "True"},
            "[forwarded: these need not be the customer's own words]",
        ),
        (
            {"ReferralHeadline": "Fresh  bread", "ReferralBody": "every day"},
            '[came from the advertisement "Fresh bread - every day"]',
        ),
        ({"ReferralSourceUrl": "https://fb.me/x"}, "[came from an ad]"),
    ],
)
def test_how_it_came_stands_ahead_of_it(params: dict[str, str], note: str) -> None:
    assert shown("hello", None, **params) == f"{note}\nhello"


@pytest.mark.parametrize("params", [{"Forwarded": "false"}, {"ReferralNumMedia": "0"}])
def test_an_ordinary_message_says_nothing_of_how_it_came(params: dict[str, str]) -> None:
    assert shown("hello", None, **params) == "hello"


def test_the_document_has_every_parameter_that_is_read() -> None:
    source = Path(prompt.__file__).read_text()
    read = set(re.findall(r'"((?:[A-Z][a-z]+){2,})"', source))
    document = (Path(prompt.__file__).parents[2] / "docs" / "messages.md").read_text()
    assert read
    assert {name for name in read if f"`{name}`" not in document} == set()
