"""How replies go out."""

from typing import Annotated

from pydantic import BaseModel, Field

from replyd.settings.kinds import FROZEN, Count, Positive


class Sending(BaseModel):
    """How fast messages go out, for each of your numbers, and what the customer sees before. What
    cannot be sent within a few seconds waits without holding up other conversations."""

    model_config = FROZEN

    messages_per_second: Positive = 80
    """Messages a second from one number. 80 is Twilio's limit for a WhatsApp sender, up to 400 on
    request; the sandbox takes one in 3 seconds: `0.33`."""
    burst: Count = 1
    """How many messages one number may send at once; further ones keep to the rate. More than 1
    can go beyond the limit for a moment."""
    per_conversation_seconds: Annotated[float, Field(ge=0, le=30)] = 0
    """How far apart two messages to one customer are, 0 to 30. WhatsApp takes about one in 6
    seconds from a number to the same customer in the long run, and more for a moment; 0 leaves it
    to WhatsApp."""
    instances: Count = 1
    """How many processes send from the same numbers: each takes its part of `messages_per_second`
    and `burst`. Where processes come and go, the largest count. What one of them does not use the
    others do not get."""
    part_wait_seconds: Annotated[float, Field(ge=0, le=10)] = 3
    """How long the next part of a long reply waits until the one before is on its way (`sent`), 0
    to 10: parts that follow too closely can arrive in another order. 0 waits for nothing and asks
    Twilio nothing."""
    typing: bool = False
    """Whether the customer's messages are marked as read and the customer sees that an answer is
    being written, while the model works. WhatsApp only. Twilio calls it a public beta, and not fit
    for what HIPAA or PCI rule."""
