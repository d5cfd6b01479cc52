"""Addresses of customers and businesses.

An address is what Twilio puts after the channel prefix: an E.164 number, or a WhatsApp
business-scoped id such as `US.ABC123` (two-letter country, dot, up to 128 alphanumerics).
"""

import re
from typing import Literal

WHATSAPP_PREFIX = "whatsapp:"

Channel = Literal["whatsapp", "sms"]

# Wider than today's two shapes, so that a new one is a conversation and not an error, yet free of
# `#`, which starts the partition keys of replyd's own side items.
_ADDRESS = re.compile(r"[A-Za-z0-9.+_-]{1,160}")


def bare(address: str) -> str:
    """The address without its channel prefix: `whatsapp:+4477…` becomes `+4477…`."""
    return address.removeprefix(WHATSAPP_PREFIX)


def channel(address: str) -> Channel:
    """By which channel an address with its prefix is reached; SMS has none."""
    return "whatsapp" if address.startswith(WHATSAPP_PREFIX) else "sms"


def is_address(text: str) -> bool:
    """Whether `text`, with or without the channel prefix, can be an address."""
    return _ADDRESS.fullmatch(bare(text)) is not None


def is_number(name: str) -> bool:
    """Whether a bare address is a telephone number, and no business-scoped id."""
    return name.removeprefix("+").isdecimal()


def names_of(sender: str, external_id: str) -> tuple[str, ...]:
    """The bare addresses that a message shows of its sender, the one that it came from ahead."""
    names = (bare(sender), bare(external_id))
    return tuple(dict.fromkeys(name for name in names if name and is_address(name)))


def tells(text: str, address: str) -> bool:
    """Whether a bare address can be read off the text: a number also without its plus."""
    return address.removeprefix("+") in text


def masked(address: str) -> str:
    """An address that may go to a log: enough to recognise one's own, too little to dial.

    >>> masked("whatsapp:+447700900001"), masked("US.ABC123")
    ('+44…01', 'US.…23')
    """
    plain = bare(address)
    return f"{plain[:3]}…{plain[-2:]}" if len(plain) > 7 else "…"
