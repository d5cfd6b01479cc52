"""Twilio: webhook signatures, inbound messages, and the Messages API.

`channel.py` is the port's implementation; `signature.py` and `inbound.py` read what comes in,
`listing.py` what was sent, `accounts.py` has the tokens, `exchange.py` speaks HTTP, `failures.py`
says what each refusal means and what to do about it.
"""

from replyd.adapters.twilio.channel import TwilioChannel

__all__ = ["TwilioChannel"]
