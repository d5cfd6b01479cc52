import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replyd.domain.address import bare
from replyd.domain.messages import ConversationKey
from replyd.domain.record import iso
from replyd.domain.wakeup import BodyCodec, Foreign, Wakeup
from replyd.errors import PoisonMessage
from tests.domain.garbage import ANYTHING
from tests.domain.situations import NOW
from tests.domain.test_messages import MESSAGES
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, KEY, message

CODEC = BodyCodec()
CODECS = st.sampled_from([CODEC, BodyCodec("pk", "sk"), BodyCodec("id", "")])
SECRET = "s3cr3t"
DEEP = 100_000


def body(**changes: Any) -> dict[str, Any]:
    made = CODEC.encode(key=KEY, seq=7, received_at=NOW, message=message(1), conversation_id="c-1")
    return {k: v for k, v in (json.loads(made) | changes).items() if v != "absent"}


def decoded(data: object) -> Wakeup | Foreign:
    return CODEC.decode(data if isinstance(data, str) else json.dumps(data))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    CODECS,
    TEXT.filter(bool),
    TEXT.filter(bool),
    st.integers(1, 10**37),
    MESSAGES,
    st.text(),
    st.integers(0, 2 * NOW),
)
def test_what_is_written_can_be_read(
    codec: BodyCodec,
    partition: str,
    sort: str,
    seq: int,
    inbound: Any,
    other: str,
    closes_at: int,
) -> None:
    key = ConversationKey(partition, sort if codec.sort_key else "")
    written = codec.encode(
        key=key,
        seq=seq,
        received_at=NOW,
        message=inbound,
        conversation_id=other,
        thread_id=other,
        company_tel=other,
        closes_at=closes_at,
        handoff_reason=other,
        handoff_detail=other,
        handoff_summary=other,
    )
    # SQS refuses some characters; nobody refuses printable ASCII.
    assert written.isascii()
    assert written.isprintable()
    business = bare(other) if other else inbound.business
    assert codec.decode(written) == Wakeup(key, seq, inbound.sid, business, closes_at)


@pytest.mark.parametrize("closes_at", [None, "", "soon", 7, [], {}, "2026-13-01"])
def test_a_wakeup_may_not_tell_when_its_window_closes(closes_at: object) -> None:
    found = decoded(body(closes_at=closes_at))
    assert isinstance(found, Wakeup)
    assert found.closes_at == 0


def test_the_body_is_the_documented_one() -> None:
    written = CODEC.encode(
        key=KEY,
        seq=7,
        received_at=NOW,
        message=message(1),
        conversation_id="c-1",
        thread_id="resp_1",
        company_tel=BUSINESS,
        closes_at=NOW + 5_000,
        handoff_reason="requested",
    )
    assert json.loads(written) == {
        "version": 1,
        "seq": 7,
        "received_at": iso(NOW),
        "key": {"recipient_tel": CUSTOMER, "conversation_id": "c-1"},
        "message": message(1).as_dict(),
        "conversation": {
            "conversation_id": "c-1",
            "thread_id": "resp_1",
            "company_tel": BUSINESS,
        },
        "closes_at": iso(NOW + 5_000),
        "handoff_reason": "requested",
    }


def test_other_names_of_the_key() -> None:
    written = BodyCodec("pk", "sk").encode(
        key=KEY, seq=7, received_at=NOW, message=message(1), conversation_id="c-1"
    )
    assert json.loads(written)["key"] == {"pk": CUSTOMER, "sk": "c-1"}
    with pytest.raises(PoisonMessage, match="recipient_tel"):
        CODEC.decode(written)


def test_a_table_without_a_sort_key() -> None:
    codec = BodyCodec("id", "")
    key = ConversationKey("i-1")
    written = codec.encode(key=key, seq=7, received_at=NOW, message=message(1), conversation_id="")
    assert json.loads(written)["key"] == {"id": "i-1"}
    assert codec.decode('{"seq":7,"key":{"id":"i-1","":"x","conversation_id":"c"}}') == Wakeup(
        key, 7
    )


# --- other handlers' bodies --------------------------------------------------------------------


@pytest.mark.parametrize("listed", [False, True])
def test_the_two_lambda_shape(listed: bool) -> None:
    params = {"MessageSid": "SM1", "Body": "hi ☺", "NumMedia": "0"}
    sent = {k: [v] for k, v in params.items()} if listed else params
    data = {
        "twilio_message": sent,
        "conversation_id": "c-1",
        "thread_id": "",
        "channel": "whatsapp",
    }
    assert decoded(data) == Foreign(sent)


def test_values_that_are_no_texts() -> None:
    """An absent text must not become the word None, which the model would answer."""
    sent = {"Body": None, "NumMedia": 1, "ButtonText": [None], "Empty": [], "a\ud800": "b\udfff"}
    expected: dict[str, Any] = {
        "Body": "",
        "NumMedia": "1",
        "ButtonText": [""],
        "Empty": [],
        "a?": "b?",
    }
    assert decoded({"twilio_message": sent}) == Foreign(expected)


def test_the_documented_shape_without_seq() -> None:
    found = decoded(body(seq="absent"))
    assert found == Foreign(message(1).params, message(1))
    assert decoded(body(seq="absent", version="absent", key="absent")) == found


def test_lone_surrogates_of_a_foreign_message_become_storable() -> None:
    inbound = message(1, body="a\ud800b", params={"AccountSid": ACCOUNT, "X\ud800": ["\udc00"]})
    found = decoded({"message": inbound.as_dict()})
    assert isinstance(found, Foreign)
    assert found.message is not None
    assert found.message.body == "a?b"
    assert found.params == {"AccountSid": ACCOUNT, "X?": ["?"]}


# --- poison ------------------------------------------------------------------------------------

POISON: dict[str, Any] = {
    "empty": "",
    "no JSON": SECRET,
    "cut off": '{"seq": 7, "message": {"body": "s3cr3t',
    "a number with too many digits": '{"seq": ' + "9" * 5_000 + "}",
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep maps": '{"message":' * DEEP + "1" + "}" * DEEP,
    "a list": [SECRET],
    "a text": json.dumps(SECRET),
    "null": "null",
    "not a number": "NaN",
    "nothing that is known": {"Body": SECRET},
    "a later version": body(version=2),
    "a version in words": body(version="1"),
    "no version": body(version=None),
    "seq is null": body(seq=None),
    "seq is a text": body(seq="7"),
    "seq is true": body(seq=True),
    "seq is a fraction": body(seq=7.5),
    "seq is infinite": '{"seq": 1e999, "key": {"recipient_tel": "s3cr3t"}}',
    "seq is zero": body(seq=0),
    "seq is negative": body(seq=-1),
    "no key": body(key="absent"),
    "key is a list": body(key=[SECRET]),
    "no partition": body(key={"conversation_id": SECRET}),
    "an empty partition": body(key={"recipient_tel": "", "conversation_id": SECRET}),
    "a numeric partition": body(key={"recipient_tel": 7, "conversation_id": SECRET}),
    "no sort": body(key={"recipient_tel": SECRET}),
    "an empty sort": body(key={"recipient_tel": SECRET, "conversation_id": ""}),
    "a null sort": body(key={"recipient_tel": SECRET, "conversation_id": None}),
    "an impossible key": body(key={"recipient_tel": "s3cr3t\ud800", "conversation_id": "c"}),
    "message is a text": {"message": SECRET},
    "message is empty": {"message": {}},
    "no SID": {"message": message(1).as_dict() | {"sid": None, "body": SECRET}},
    "a SID that is none": {"message": message(1).as_dict() | {"sid": "s3cr3t s3cr3t"}},
    "a SID too long": {"message": message(1).as_dict() | {"sid": SECRET * 99}},
    "no sender": {"message": message(1).as_dict() | {"from": SECRET + "#"}},
    # A partition of replyd's own items must not be looked up as a customer.
    "an archive as sender": {"message": message(1).as_dict() | {"from": f"archive#{SECRET}"}},
    "no recipient": {"message": message(1).as_dict() | {"to": f"{SECRET} {SECRET}"}},
    "media is a text": {"message": message(1).as_dict() | {"media": SECRET}},
    "params are a list": {"message": message(1).as_dict() | {"params": [SECRET]}},
    "params of Twilio are a list": {"twilio_message": [SECRET]},
}


@pytest.mark.parametrize("data", POISON.values(), ids=POISON.keys())
def test_poison_is_told_without_its_content(data: Any) -> None:
    with pytest.raises(PoisonMessage) as caught:
        decoded(data)
    reason = str(caught.value)
    assert reason
    assert SECRET not in reason
    assert len(reason) < 100
    # A chained error would bring the body into a traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("depth", [100, 300, 500, 900, 990, 1_000, 2_000])
@pytest.mark.parametrize("outer", ['{"message":%s}', '{"twilio_message":{"Body":%s}}'])
def test_no_depth_ends_the_consumer(outer: str, depth: int) -> None:
    """How deep is too deep is for Python to say; no other error may come of it."""
    text = outer % ("[" * depth + "1" + "]" * depth)
    with suppress(PoisonMessage):
        assert isinstance(CODEC.decode(text), Foreign)


@given(ANYTHING | st.fixed_dictionaries({}, optional=dict.fromkeys(body(), ANYTHING)))
def test_anything_is_read_or_poison(data: Any) -> None:
    text = json.dumps(data, default=str, skipkeys=True)
    for given_text in (text, text[:-1], f"[{text}"):
        try:
            found = CODEC.decode(given_text)
        except PoisonMessage:
            continue
        assert isinstance(found, Wakeup | Foreign)


@given(st.text())
def test_any_text_is_read_or_poison(text: str) -> None:
    with pytest.raises(PoisonMessage):
        CODEC.decode(text)


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    """As everywhere in Python; one reading for every part of replyd is what matters."""
    text = json.dumps(body())
    assert decoded(text[:-1] + ',"seq":8}') == Wakeup(KEY, 8, message(1).sid, BUSINESS)
    with pytest.raises(PoisonMessage):
        decoded(text[:-1] + ',"seq":"8"}')


def test_a_large_seq_is_only_a_number() -> None:
    assert decoded(body(seq=10**37)) == Wakeup(KEY, 10**37, message(1).sid, BUSINESS)


@pytest.mark.parametrize(
    "odd", ["absent", None, "text", [], {"sid": 7, "to": 7}, {"sid": {"a": 1}, "to": None}, {}]
)
def test_a_wakeup_needs_no_message(odd: Any) -> None:
    """The item has it; the SID here is for people who read the queue."""
    assert decoded(body(message=odd)) == Wakeup(KEY, 7)


@pytest.mark.parametrize(
    ("conversation", "business"),
    [
        ({"company_tel": "+447700900111"}, "+447700900111"),
        ({"company_tel": "whatsapp:+447700900111"}, "+447700900111"),
        ({"company_tel": ""}, BUSINESS),
        ({"company_tel": None}, BUSINESS),
        ({"company_tel": [7]}, BUSINESS),
        ({}, BUSINESS),
        ([], BUSINESS),
        (None, BUSINESS),
        ("absent", BUSINESS),
    ],
)
def test_the_business_is_the_conversations_or_else_the_messages(
    conversation: Any, business: str
) -> None:
    found = decoded(body(conversation=conversation))
    assert found == Wakeup(KEY, 7, message(1).sid, business)
