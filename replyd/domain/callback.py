"""The status callback URL of a part: says which part of which turn of which conversation."""

from urllib.parse import urlencode

from replyd.domain.messages import ConversationKey

STATUS_PATH = "/webhooks/twilio/status"


def status_callback(public_url: str, key: ConversationKey, turn_id: str, entry: int) -> str:
    query = {"p": key.partition, "s": key.sort, "turn": turn_id, "entry": entry}
    return f"{public_url}{STATUS_PATH}?{urlencode(query)}"
