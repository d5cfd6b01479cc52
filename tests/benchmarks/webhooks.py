"""Twilio's webhooks, signed beforehand, so that sending one costs next to nothing."""

from dataclasses import dataclass
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator

from replyd.demo import twilio_wire
from tests.benchmarks import connections, town


@dataclass(frozen=True, slots=True)
class Webhook:
    """A customer's message. `request`: as it goes over the wire."""

    customer: str
    sid: str
    request: bytes


class Signer:
    """Numbers the messages of a run, so that no SID comes twice."""

    def __init__(self, run: int) -> None:
        self._validator = RequestValidator(town.AUTH_TOKEN)
        self._run = run
        self._made = 0

    def webhook(self, number: int) -> Webhook:
        """A further message of customer `number`."""
        self._made += 1
        sid = f"SM{self._run:016x}{self._made:016x}"
        customer = town.customer(number)
        params = twilio_wire.inbound_params(
            sid,
            town.ACCOUNT,
            sender=f"whatsapp:{customer}",
            recipient=f"whatsapp:{town.business(number)}",
            body=town.question(number),
            profile_name="Lee",
        )
        url = town.PUBLIC_URL + town.INBOUND_PATH
        signature = self._validator.compute_signature(url, params)
        headers = (
            "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
            f"X-Twilio-Signature: {signature}\r\n"
            "User-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n"
        )
        body = urlencode(list(params.items())).encode()
        request = connections.encoded("POST", town.INBOUND_PATH, body, headers)
        return Webhook(customer, sid, request)
