"""Webhook parameters as an inbound message.

The parameters: https://www.twilio.com/docs/messaging/guides/webhook-request, and for WhatsApp
https://www.twilio.com/docs/whatsapp/api. Errors name a parameter, never its content.
"""

import re

from replyd.domain import address
from replyd.domain.messages import InboundMessage, Media, Params, first_value, texts

MAX_MEDIA = 20  # Twilio documents 10 a message.

_SID = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")
_COUNT = re.compile(r"[0-9]{1,3}")
_INBOUND_STATES = ("", "received", "receiving")


def parse(params: Params) -> InboundMessage:
    """The message that `params` describe, with everything that came kept in `params`, as far as a
    record can hold it.

    Raises ValueError, which names the parameter, for a status callback, a SID or address that is
    none, and more than MAX_MEDIA files. An inbound message says `SmsStatus=received`, also when
    it carries media and no text, so the status alone does not make a callback.
    """
    state = first_value(params, "MessageStatus") or first_value(params, "SmsStatus")
    if state.lower() not in _INBOUND_STATES:
        raise ValueError("this is a status callback: MessageStatus is not received")
    return InboundMessage(
        sid=_sid(params),
        sender=_address(params, "From"),
        recipient=_address(params, "To"),
        body=first_value(params, "Body"),
        profile_name=first_value(params, "ProfileName"),
        account_sid=first_value(params, "AccountSid"),
        media=_media(params),
        params=texts(params),
    )


def _sid(params: Params) -> str:
    for name in ("MessageSid", "SmsMessageSid", "SmsSid"):
        if sid := first_value(params, name):
            if _SID.fullmatch(sid) is None:
                raise ValueError(f"{name} is no message SID")
            return sid
    raise ValueError("MessageSid is missing")


def _address(params: Params, name: str) -> str:
    value = first_value(params, name)
    if not address.is_address(value):
        raise ValueError(f"{name} is missing or no address")
    return value


def _media(params: Params) -> tuple[Media, ...]:
    count = first_value(params, "NumMedia") or "0"
    if _COUNT.fullmatch(count) is None or int(count) > MAX_MEDIA:
        raise ValueError(f"NumMedia is no number from 0 to {MAX_MEDIA}")
    files = (
        Media(first_value(params, f"MediaUrl{n}"), first_value(params, f"MediaContentType{n}"))
        for n in range(int(count))
    )
    # A file that Twilio could not fetch must not cost the customer the message.
    return tuple(file for file in files if file.url)
