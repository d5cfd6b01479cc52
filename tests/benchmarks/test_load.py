"""The load is what it says it is."""

from itertools import pairwise
from urllib.parse import parse_qsl

from tests.benchmarks import town
from tests.benchmarks.load import TYPING_SECONDS, Customers
from tests.benchmarks.webhooks import Signer


def test_bursts_arrive_at_a_constant_rate_of_messages() -> None:
    arrivals = Customers(Signer(1), 100).arrivals(30, 2, burst=3)
    assert len(arrivals) == 60
    assert [a.at for a in arrivals] == sorted(a.at for a in arrivals)
    begun = sorted({a.webhook.customer: a.at for a in reversed(arrivals)}.values())
    # Each at some moment of its own tenth of a second.
    assert [int(at / 0.1) for at in begun] == list(range(20))
    assert len({round(b - a, 3) for a, b in pairwise(begun)}) > 10
    last = [a for a in arrivals if a.last]
    assert len(last) == len({a.webhook.customer for a in arrivals}) == 20
    assert last[0].at == begun[0] + 2 * TYPING_SECONDS


def test_no_message_comes_twice_though_customers_go_round() -> None:
    customers = Customers(Signer(1), 3)
    written = [customers.write()[0] for _ in range(7)]
    assert len({w.sid for w in written}) == 7
    assert written[0].customer == written[3].customer == written[6].customer
    assert len({w.customer for w in written}) == 3


def test_a_webhook_is_complete_and_of_its_customer() -> None:
    webhook = Signer(2).webhook(21)
    head, _, body = webhook.request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    assert form["From"] == f"whatsapp:{town.customer(21)}" == f"whatsapp:{webhook.customer}"
    assert form["To"] == f"whatsapp:{town.BUSINESSES[1]}"
    assert form["MessageSid"] == webhook.sid


def test_customers_with_a_stride_are_all_of_them_from_all_over_the_table() -> None:
    customers = Customers(Signer(1), 1_000, first=500, stride=7_919)
    written = [customers.write()[0].customer for _ in range(1_001)]
    assert set(written) == {town.customer(n) for n in range(500, 1_500)}
    assert written[0] == written[1_000]
    assert written[1] == town.customer(500 + 919)


def test_a_table_has_the_first_customers_conversations_and_no_others() -> None:
    found = town.conversation(1_000_000, town.customer(999_999))
    assert found is not None
    assert found[0] == town.conversation_id(999_999) == "c-999999"
    assert len(town.conversation_id(0)) == len(found[0])
    assert found[1]["company_tel"] == {"S": town.business(999_999)}
    assert town.conversation(1_000_000, town.customer(1_000_000)) is None
    assert town.conversation(1_000_000, "+447700900001") is None
    assert town.conversation(1_000_000, "archive#c-1") is None
