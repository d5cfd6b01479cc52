"""The shapes that Twilio puts on the wire, as its documentation publishes them."""

import email.utils
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from multidict import MultiDict

API_VERSION = "2010-04-01"
MAX_BODY = 1600  # characters, error 21617

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_BUSINESS_SCOPED = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}")
_KINDS = ("image", "audio", "video")

MESSAGES: Mapping[int, str] = {
    20001: "Unknown parameters",
    20003: "Authenticate",
    20009: "Cannot delete this resource before it is complete",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "An internal server error has occurred",
    20503: "Service is unavailable. Please try again",
    21211: "Invalid 'To' Phone Number",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21610: "Attempt to send to unsubscribed recipient",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21655: "The ContentSid Parameter is invalid",
    21656: "The ContentVariables Parameter is invalid",
    21910: "Invalid From and To pair. From and To should be of the same channel",
    63016: "Failed to send freeform message because you are outside the allowed window.",
    63007: "Twilio could not find a Channel with the specified From address",
}


def sid(prefix: str) -> str:
    return prefix + uuid.uuid4().hex


def is_number(bare: str) -> bool:
    return _NUMBER.fullmatch(bare) is not None


def is_business_scoped(bare: str) -> bool:
    """Whether this is a WhatsApp business-scoped id, such as `US.ABC123`."""
    return _BUSINESS_SCOPED.fullmatch(bare) is not None


def rfc2822(when: datetime | None) -> str | None:
    return None if when is None else email.utils.format_datetime(when)


def error(
    status: int, code: int, message: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error answer: https://www.twilio.com/docs/usage/twilios-response#exceptions."""
    body = {
        "code": code,
        "message": message or MESSAGES.get(code, "An error has occurred"),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(body, status=status, headers=headers)


def account_resource(account_sid: str, created: datetime, status: str) -> dict[str, Any]:
    """https://www.twilio.com/docs/iam/api/account-resource"""
    uri = f"/{API_VERSION}/Accounts/{account_sid}"
    return {
        "auth_token": None,
        "date_created": rfc2822(created),
        "date_updated": rfc2822(created),
        "friendly_name": "replyd demo",
        "owner_account_sid": account_sid,
        "sid": account_sid,
        "status": status,
        "subresource_uris": {"messages": f"{uri}/Messages.json"},
        "type": "Full",
        "uri": f"{uri}.json",
    }


def message_resource(
    message_sid: str,
    account_sid: str,
    *,
    direction: str,
    sender: str | None,
    recipient: str,
    body: str,
    status: str,
    created: datetime,
    service: str | None = None,
    num_media: int = 0,
) -> dict[str, Any]:
    """https://www.twilio.com/docs/messaging/api/message-resource#message-properties"""
    uri = f"/{API_VERSION}/Accounts/{account_sid}/Messages/{message_sid}"
    return {
        "account_sid": account_sid,
        "api_version": API_VERSION,
        "body": body,
        "date_created": rfc2822(created),
        "date_sent": rfc2822(created) if direction == "inbound" else None,
        "date_updated": rfc2822(created),
        "direction": direction,
        "error_code": None,
        "error_message": None,
        "from": sender,
        "messaging_service_sid": service,
        "num_media": str(num_media),
        "num_segments": "0" if service else "1",
        "price": None,
        "price_unit": None,
        "sid": message_sid,
        "status": status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": recipient,
        "uri": f"{uri}.json",
    }


def inbound_params(
    message_sid: str,
    account_sid: str,
    *,
    sender: str,
    recipient: str,
    body: str,
    profile_name: str,
    media: Sequence[tuple[str, str]] = (),
) -> MultiDict[str]:
    """A webhook's parameters for WhatsApp, `media` as (url, content type):
    https://www.twilio.com/docs/messaging/guides/webhook-request

    A sender without a visible number has no `WaId` but an `ExternalUserId`."""
    bare = sender.removeprefix("whatsapp:")
    context = {"ProfileName": profile_name}
    identity = {"ExternalUserId": bare}
    if not is_business_scoped(bare):
        identity = {"WaId": bare.removeprefix("+")}
        context |= identity
    kind = media[0][1].partition("/")[0] if media else "text"
    params = MultiDict(
        {
            "SmsMessageSid": message_sid,
            "NumMedia": str(len(media)),
            "ProfileName": profile_name,
            "MessageType": kind if kind in (*_KINDS, "text") else "document",
            "SmsSid": message_sid,
            **identity,
            "SmsStatus": "received",
            "Body": body,
            "To": recipient,
            "NumSegments": "1",
            "ReferralNumMedia": "0",
            "MessageSid": message_sid,
            "AccountSid": account_sid,
            "ChannelMetadata": json.dumps({"type": "whatsapp", "data": {"context": context}}),
            "From": sender,
            "ApiVersion": API_VERSION,
        }
    )
    for n, (url, content_type) in enumerate(media):
        params[f"MediaUrl{n}"] = url
        params[f"MediaContentType{n}"] = content_type
    return params


def callback_params(resource: Mapping[str, Any], status: str) -> MultiDict[str]:
    """https://www.twilio.com/docs/messaging/guides/track-outbound-message-status"""
    bare = str(resource["to"]).removeprefix("whatsapp:")
    params = MultiDict(
        {
            "ChannelPrefix": "whatsapp",
            "ApiVersion": API_VERSION,
            "MessageStatus": status,
            "SmsSid": str(resource["sid"]),
            "SmsStatus": status,
            # Twilio hides the end of the number here.
            "ChannelToAddress": f"{bare[:-4]}XXXX",
            "To": str(resource["to"]),
            "MessageSid": str(resource["sid"]),
            "AccountSid": str(resource["account_sid"]),
            "From": str(resource["from"]),
        }
    )
    if status != "sent":
        params["EventType"] = status.upper()
    if resource["error_code"] is not None:
        params["ErrorCode"] = str(resource["error_code"])
        params["ErrorMessage"] = str(resource["error_message"])
        params["ChannelStatusMessage"] = str(resource["error_message"])
    return params
