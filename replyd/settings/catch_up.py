"""Looking for messages that no webhook brought."""

from pydantic import BaseModel

from replyd.settings.kinds import FROZEN, Duration, Positive


class CatchUp(BaseModel):
    """Twilio's message list is compared with what was accepted, by processes that run turns: soon
    after the start and every few minutes. What Twilio could not deliver is answered late."""

    model_config = FROZEN

    interval_seconds: Positive = 300
    """How often the list is read, by one instance for all. At least 1."""
    max_age_seconds: Positive = 3600
    """Messages that are found when they are older than this go to people, with the reason
    `too_old`."""
    first_look_back_seconds: Duration = 0
    """How long before the very first start of replyd messages are looked for. What another system
    has answered within that time would be answered again: more than 0 only where nothing else
    answered."""
    start_seconds: Duration = 15
    """How long after a start the list is read first: webhooks that waited for the process come
    before it."""
    look_back_seconds: Positive = 86_400
    """What is older than this is not looked at, however long no process ran."""
    overlap_seconds: Duration = 120
    """How late Twilio may list a message: so much is read again each time."""
    settle_seconds: Duration = 60
    """Younger messages are left to their webhooks."""
