"""`replyd twilio configure` from its arguments to the exit code, against the double."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.numbers import open_numbers
from replyd.cli import main
from replyd.demo.twilio_double import TwilioDouble
from replyd.operate import twilio
from replyd.operate.arguments import add_twilio
from replyd.operate.twilio import TwilioSide

TARGET = "https://hooks.example.com/webhooks/twilio/whatsapp"
WANTED = f"{TARGET}#rc=3&rp=all"
ELSEWHERE = "https://user:secret@crm.example.org/in?token=abc"

Printed = pytest.CaptureFixture[str]


class Office:
    """The commands' parser, and a Twilio whose numbers outlive a command."""

    def __init__(self) -> None:
        self.double = TwilioDouble(webhook_url=ELSEWHERE)
        self.double.senders.clear()
        self.numbers = self.double.numbers
        self.token = self.double.auth_token
        self.parser = argparse.ArgumentParser("replyd")
        add_twilio(
            self.parser.add_subparsers(), lambda arguments: twilio.run(arguments, self._open)
        )

    def run(self, *arguments: str) -> int:
        parsed = self.parser.parse_args(["twilio", "configure", *arguments])
        code: int = parsed.run(parsed)
        return code

    @asynccontextmanager
    async def _open(self, _: argparse.Namespace) -> AsyncIterator[TwilioSide]:
        sid = self.double.account_sid
        accounts = Accounts({sid: [self.token]})
        async with (
            self.double,
            open_numbers(accounts, base_url=self.double.base_url, timeout_seconds=5) as numbers,
        ):
            yield TwilioSide(numbers, [sid], TARGET)

    def urls(self) -> list[str | None]:
        senders = [s["webhook"]["callback_url"] for s in self.numbers.whatsapp.values()]
        return [*senders, *(p["sms_url"] for p in self.numbers.phones.values())]


@pytest.fixture
def office() -> Office:
    return Office()


def test_nothing_changes_without_yes(office: Office, capsys: Printed) -> None:
    office.numbers.add_whatsapp("+447700900101", TARGET)
    office.numbers.add_whatsapp("+447700900102")
    office.numbers.add_phone("+447700900103", WANTED, sms_method="GET")
    office.numbers.add_whatsapp("+447700900104", ELSEWHERE)
    assert office.run() == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "+447700900101 (WhatsApp)",
        f"  old  POST {TARGET}",
        f"  new  POST {WANTED}",
        "+447700900102 (WhatsApp)",
        "  old  no webhook",
        f"  new  POST {WANTED}",
        "+447700900103 (SMS)",
        f"  old  GET {WANTED}",
        f"  new  POST {WANTED}",
        "1 number left alone: --number changes one that leads elsewhere",
    ]
    assert err == "nothing is changed without --yes\n"
    assert office.numbers.updates == []


def test_yes_changes_exactly_what_was_shown_and_once(office: Office, capsys: Printed) -> None:
    office.numbers.add_whatsapp("+447700900101", "https://hooks.example.com/old?tenant=a")
    office.numbers.add_whatsapp("+447700900102", ELSEWHERE)
    office.numbers.add_phone("+447700900103", f"{TARGET}?tenant=a#rc=5")
    office.numbers.add_phone("+447700900104", WANTED)
    assert office.run("--yes") == 0
    out, err = capsys.readouterr()
    assert "+447700900101 (WhatsApp): changed" in out
    assert "+447700900103 (SMS): changed" in out
    assert "1 number already as wanted" in out
    assert err == ""
    assert office.urls() == [WANTED, ELSEWHERE, f"{TARGET}?tenant=a#rc=5&rp=all", WANTED]
    changed = list(office.numbers.updates)
    assert len(changed) == 2
    assert office.run("--yes") == 0
    assert capsys.readouterr().out.startswith("3 numbers already as wanted\n")
    assert office.numbers.updates == changed


@pytest.mark.parametrize("number", ["+447700900101", "whatsapp:+447700900101"])
def test_a_number_is_changed_wherever_it_leads(
    office: Office, number: str, capsys: Printed
) -> None:
    office.numbers.add_whatsapp("+447700900101", ELSEWHERE)
    office.numbers.add_phone("+447700900101", ELSEWHERE)
    office.numbers.add_whatsapp("+447700900102")
    assert office.run("--number", number, "--yes") == 0
    out, _ = capsys.readouterr()
    assert "  old  POST https://crm.example.org/in?token=…\n" in out
    assert "secret" not in out
    assert "abc" not in out
    assert "left alone" not in out
    assert office.urls() == [WANTED, None, ELSEWHERE]


def test_a_number_without_whatsapp_is_one_for_sms(office: Office) -> None:
    office.numbers.add_phone("+447700900101", ELSEWHERE)
    assert office.run("--number", "+447700900101", "--yes") == 0
    assert office.urls() == [WANTED]


def test_no_such_number(office: Office, capsys: Printed) -> None:
    assert office.run() == 1
    assert capsys.readouterr().err == "no numbers found\n"
    office.numbers.add_whatsapp("+447700900101")
    assert office.run("--number", "+447700900102", "--yes") == 1
    assert capsys.readouterr().err == "no such number\n"
    office.numbers.forbidden = {"phones"}
    assert office.run("--number", "+447700900102", "--yes") == 69
    assert "not read: numbers for SMS: the credentials may not do this" in capsys.readouterr().err
    assert office.numbers.updates == []


def test_where_a_service_decides_it_says_so(office: Office, capsys: Printed) -> None:
    office.numbers.add_whatsapp("+447700900101")
    service = office.numbers.add_service(["whatsapp:+447700900101"], ELSEWHERE)
    assert office.run() == 2
    assert f"  but  Messaging Service {service['sid']} decides" in capsys.readouterr().out
    service["inbound_request_url"] = WANTED
    assert office.run() == 0
    assert capsys.readouterr().out == "1 number already as wanted\n"


def test_what_cannot_be_changed_does_not_stop_the_others(office: Office, capsys: Printed) -> None:
    sender = office.numbers.add_whatsapp("+447700900101")
    sender["webhook"]["fallback_method"] = "GET"
    office.numbers.add_phone("+447700900103")
    assert office.run("--yes") == 69
    out, err = capsys.readouterr()
    assert out.endswith("+447700900103 (SMS): changed\n")
    assert err.startswith("+447700900101 (WhatsApp): not changed: refused, see https://")


def test_refused_credentials_are_never_shown(office: Office, capsys: Printed) -> None:
    office.numbers.add_whatsapp("+447700900101")
    office.token = "wrong-token"
    assert office.run("--yes") == 69
    out, err = capsys.readouterr()
    assert "auth token is refused" in err
    assert "wrong-token" not in out + err


def test_the_command_line_has_it(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["twilio"], ["twilio", "configure", "--number", "not#one"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir("/")
    assert main(["twilio", "configure"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines[-2:]] == [
        "server.public_url",
        "twilio.accounts",
    ]
