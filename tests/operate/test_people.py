"""What people do from a terminal: from the arguments to the exit code."""

import json
from typing import Any

import pytest

from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.errors import Ambiguous, Permanent, Temporary
from tests.operate.conftest import SECRET
from tests.operate.test_commands import Office
from tests.support.world import ACCOUNT, BUSINESS, CUSTOMER, World

Capture = pytest.CaptureFixture[str]
ANN = ("--author", "Ann")
HELLO = (*ANN, "--text", SECRET, "--account", ACCOUNT)
ELSEWHERE = ConversationKey(CUSTOMER, "c-2")


@pytest.fixture
def office() -> Office:
    office = Office()
    office.world.converse()
    return office


def as_json(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


def sent(world: World) -> list[str]:
    return [part.text for part in world.channel.accepted]


def test_a_reply_is_sent_and_said_to_be(office: Office, capsys: Capture) -> None:
    assert office.run("conversation", "reply", CUSTOMER, *HELLO) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("sent SM")
    assert "people have the conversation" in shown.out
    assert shown.err.startswith("--key ")
    assert SECRET not in shown.out + shown.err
    assert sent(office.world) == [SECRET]
    (entry,) = office.world.item()[record.MESSAGES]
    assert (entry["role"], entry["author"]) == ("human", "Ann")


def test_the_same_key_again_sends_nothing(office: Office, capsys: Capture) -> None:
    for again in (False, True):
        assert office.run("conversation", "reply", CUSTOMER, *HELLO, "--key", "k", "--json") == 0
        found = as_json(capsys)
        assert (found["delivery"], found["again"]) == ("accepted", again)
    assert len(sent(office.world)) == 1


def test_every_reply_has_a_key_of_its_own(office: Office) -> None:
    for _ in range(2):
        assert office.run("conversation", "reply", CUSTOMER, *HELLO) == 0
    assert len(sent(office.world)) == 2


def test_what_may_have_been_sent_is_said(office: Office, capsys: Capture) -> None:
    office.world.channel.failures = [Ambiguous("twilio", "no answer")]
    assert office.run("conversation", "reply", CUSTOMER, *HELLO) == 0
    assert "do not send it again" in capsys.readouterr().out


def test_what_twilio_refuses_is_shown_as_it_is(office: Office, capsys: Capture) -> None:
    office.world.channel.failures = [Permanent("twilio", "24 hours (63016)", code="63016")]
    assert office.run("conversation", "reply", CUSTOMER, *HELLO, "--json") == 1
    shown = capsys.readouterr()
    assert "24 hours (63016)" in shown.err
    assert json.loads(shown.out)["error"] == {"code": "not_sent", "vendor_code": "63016"}


def test_what_cannot_be_sent_now_may_be_tried_again(office: Office) -> None:
    office.world.channel.failures = [Temporary("twilio", "no connection")]
    assert office.run("conversation", "reply", CUSTOMER, *HELLO) == 75
    assert office.run("conversation", "reply", CUSTOMER, *HELLO) == 0


def test_nothing_to_send(office: Office) -> None:
    assert office.run("conversation", "reply", CUSTOMER, *ANN, "--text", "  ") == 2


def test_a_conversation_is_taken_and_given_back(office: Office, capsys: Capture) -> None:
    assert office.run("conversation", "handoff", CUSTOMER, *ANN, "--reason", "a refund") == 0
    assert capsys.readouterr().out == "people have it: the AI is silent\n"
    assert office.world.item()[record.HANDOFF] is True
    assert office.world.item()[record.TAKEN_OVER]["reason"] == "a refund"
    assert office.run("conversation", "release", CUSTOMER, "c-1", *ANN, "--json") == 0
    assert as_json(capsys) == {"handoff_to_human": False}
    assert office.world.item()[record.HANDOFF] is False


@pytest.mark.parametrize("command", ["handoff", "release", "reply"])
def test_a_record_that_is_not_there(office: Office, command: str, capsys: Capture) -> None:
    more = HELLO if command == "reply" else ANN
    assert office.run("conversation", command, CUSTOMER, "c-9", *more) == 1
    assert "no such record" in capsys.readouterr().err


def test_of_several_records_the_one_that_takes_messages_is_meant(
    office: Office, capsys: Capture
) -> None:
    office.world.converse(ELSEWHERE, **{record.CREATED_AT: "2026-11-22T11:00:00.000Z"})
    assert office.run("conversation", "handoff", CUSTOMER, *ANN) == 0
    assert office.world.item(ELSEWHERE)[record.HANDOFF] is True
    assert office.world.item()[record.HANDOFF] is False
    office.world.item(ELSEWHERE)[record.COMPANY_TEL] = BUSINESS[:-1] + "1"
    assert office.run("conversation", "release", CUSTOMER, *ANN) == 1
    assert "name one of c-1, c-2" in capsys.readouterr().err


def test_who_acts_has_to_be_said(office: Office) -> None:
    with pytest.raises(SystemExit, match="2"):
        office.run("conversation", "handoff", CUSTOMER)
    with pytest.raises(SystemExit, match="2"):
        office.run("conversation", "handoff", CUSTOMER, "--author", "A\nB")


def test_a_list_page_by_page(office: Office, capsys: Capture) -> None:
    waits = {record.HANDOFF: True, record.MESSAGES: [{"role": "user", "content": SECRET}]}
    office.world.converse(ELSEWHERE, **waits)
    assert office.run("conversation", "list", "--waiting", "--json") == 0
    found = as_json(capsys)
    assert [c["conversation_id"] for c in found["conversations"]] == ["c-2"]
    assert (found["more"], found["next_cursor"]) == (False, None)
    assert office.run("conversation", "list", "--limit", "1") == 0
    shown = capsys.readouterr()
    assert "c-1" in shown.out
    assert SECRET not in shown.out
    cursor = shown.err.strip().rpartition(" ")[2]
    assert office.run("conversation", "list", "--cursor", cursor) == 0
    assert "c-2" in capsys.readouterr().out
    assert office.run("conversation", "list", "--cursor", "nonsense!") == 2


def test_nobody_waits(office: Office) -> None:
    assert office.run("conversation", "list", "--waiting") == 1
