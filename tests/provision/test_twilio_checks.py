"""What `replyd check` says of the webhooks of Twilio's numbers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from replyd.adapters.twilio.accounts import Accounts
from replyd.adapters.twilio.numbers import MAX_NUMBERS, Found, open_numbers
from replyd.demo.twilio_double import TwilioDouble
from replyd.provision import CheckResult
from replyd.provision.twilio_checks import MOST_SHOWN, about_webhooks
from replyd.settings import Settings

ACCOUNT = "AC" + "1" * 32
PUBLIC_URL = "https://hooks.example.com"
TARGET = f"{PUBLIC_URL}/webhooks/twilio/whatsapp"
WANTED = f"{TARGET}#rc=3&rp=all"
FALLBACK = "https://other.example.com/webhooks/twilio/whatsapp"
ELSEWHERE = "https://crm.example.org/in?token=abc"


def settings_for(*accounts: str) -> Settings:
    return Settings.model_validate(
        {
            "server": {"public_url": PUBLIC_URL},
            "twilio": {"accounts": {sid: ["token"] for sid in accounts}},
        }
    )


class Place:
    """An account without any numbers to begin with."""

    def __init__(self, twilio: TwilioDouble) -> None:
        self.numbers = twilio.numbers
        self._twilio = twilio
        self.numbers.whatsapp.clear()

    async def row(self) -> CheckResult:
        accounts = Accounts({ACCOUNT: [self._twilio.auth_token]})
        base_url = self._twilio.base_url
        async with open_numbers(accounts, base_url=base_url, timeout_seconds=5) as numbers:
            (row,) = await about_webhooks(settings_for(ACCOUNT), numbers, 10)
        assert row.name == "webhooks of AC11…1111"
        assert "7700900" not in row.found + row.mend
        assert "abc" not in row.found
        return row


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with TwilioDouble(account_sid=ACCOUNT) as double:
        yield Place(double)


async def test_all_is_well(place: Place) -> None:
    place.numbers.add_whatsapp("+447700900101", WANTED, fallback_url=FALLBACK)
    place.numbers.add_phone("+447700900102", f"{TARGET}#rc=1&rp=ct", sms_fallback_url=FALLBACK)
    row = await place.row()
    assert (row.ok, row.found, row.mend) == (True, "webhooks of 2 numbers: ok", "")


async def test_what_could_be_better_is_advice(place: Place) -> None:
    place.numbers.add_whatsapp("+447700900101", f"{TARGET}#rc=3")
    row = await place.row()
    assert row.ok
    assert row.found == (
        "webhooks of 1 number:\n+44…01 (WhatsApp): without #rp=all, no fallback URL"
    )
    assert "`replyd twilio configure` shows" in row.mend
    assert "a second host or region" in row.mend


async def test_numbers_that_lead_elsewhere_are_advice_beside_one_that_leads_here(
    place: Place,
) -> None:
    place.numbers.add_whatsapp("+447700900101", WANTED, fallback_url=FALLBACK)
    place.numbers.add_whatsapp("+447700900102", ELSEWHERE)
    place.numbers.add_whatsapp("+447700900103")
    row = await place.row()
    assert row.ok
    assert row.found.splitlines() == [
        "webhooks of 3 numbers:",
        "+44…02 (WhatsApp): leads to https://crm.example.org/in?token=…",
        "+44…03 (WhatsApp): no webhook",
    ]
    assert "--number TEL" in row.mend


@pytest.mark.parametrize(
    ("url", "method", "says", "mend"),
    [
        (ELSEWHERE, "POST", "leads to https://crm.example.org/in", "configure --number TEL"),
        (f"{PUBLIC_URL}/whatsapp", "POST", f"leads to {PUBLIC_URL}/whatsapp", "with --yes"),
        (WANTED, "PUT", "called with PUT, not POST", "with --yes"),
        ("", "POST", "no webhook", "with --yes"),
    ],
)
async def test_it_fails_when_no_number_leads_here(
    place: Place, url: str, method: str, says: str, mend: str
) -> None:
    place.numbers.add_whatsapp("+447700900101", url, callback_method=method)
    place.numbers.add_phone("+447700900102", ELSEWHERE)
    row = await place.row()
    assert not row.ok
    assert f"+44…01 (WhatsApp): {says}" in row.found
    assert mend in row.mend


async def test_the_second_host_is_where_the_fallback_leads(place: Place) -> None:
    place.numbers.add_whatsapp("+447700900101", f"{FALLBACK}#rc=3&rp=all", fallback_url=TARGET)
    row = await place.row()
    assert (row.ok, row.found) == (True, "webhooks of 1 number: ok")


async def test_without_a_sender_the_account_may_use_the_sandbox(place: Place) -> None:
    row = await place.row()
    assert (row.ok, row.found) == (True, "no numbers found")
    assert f"sandbox's is set in the console: {TARGET}, POST" in row.mend
    place.numbers.add_phone("+447700900102", "https://demo.twilio.com/welcome/sms/reply")
    assert (await place.row()).ok


@pytest.mark.parametrize("unread", ["services", "phones"])
async def test_what_cannot_be_read_is_never_a_failure(place: Place, unread: str) -> None:
    place.numbers.add_whatsapp("+447700900101", ELSEWHERE)
    assert not (await place.row()).ok
    place.numbers.forbidden = {unread}
    row = await place.row()
    assert row.ok
    assert "not looked at: " in row.found
    assert "(70051)" in row.found
    assert "could not be read" in row.mend


async def test_no_answer_in_time_is_advice() -> None:
    class Slow:
        async def read(self, _account_sid: str) -> Found:
            await asyncio.Event().wait()
            raise AssertionError

    rows = await about_webhooks(settings_for(ACCOUNT, "AC" + "2" * 32), Slow(), 0.01)
    assert [row.name for row in rows] == ["webhooks of AC11…1111", "webhooks of AC22…2222"]
    assert all(row.ok and "no answer within 0.01 s" in row.found and row.mend for row in rows)


async def test_a_service_may_decide(place: Place) -> None:
    place.numbers.add_whatsapp("+447700900101", WANTED, fallback_url=FALLBACK)
    service = place.numbers.add_service(["whatsapp:+447700900101"], ELSEWHERE)
    row = await place.row()
    assert not row.ok
    assert f"by Messaging Service {service['sid']}" in row.found
    assert "defer to sender's webhook" in row.mend
    assert "configure" not in row.mend
    service |= {"inbound_request_url": WANTED, "fallback_url": FALLBACK}
    assert (await place.row()).found == "webhooks of 1 number: ok"
    service["inbound_request_url"] = None
    assert "no webhook by Messaging Service" in (await place.row()).found


async def test_where_an_application_decides_nobody_knows(place: Place) -> None:
    place.numbers.add_whatsapp("+447700900101", ELSEWHERE)
    place.numbers.add_phone("+447700900102", sms_application_sid="AP1")
    row = await place.row()
    assert row.ok
    assert "+44…02 (SMS): application AP1 decides" in row.found


async def test_a_long_list_is_cut(place: Place) -> None:
    for n in range(MAX_NUMBERS + 1):
        place.numbers.add_whatsapp(f"+4477009{n:05}", ELSEWHERE)
    row = await place.row()
    # One that was not read may lead here.
    assert row.ok
    lines = row.found.splitlines()
    assert len(lines) == 1 + MOST_SHOWN + 2
    assert lines[-2:] == [
        f"and {MAX_NUMBERS - MOST_SHOWN} more",
        f"not looked at: what goes beyond {MAX_NUMBERS} numbers",
    ]
