"""How replies go out."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from replyd.domain.content_template import TEXT, ContentTemplate
from replyd.settings.kinds import FROZEN, Count, Positive
from replyd.settings.values import as_template_sid, as_template_variables

TemplateSid = Annotated[str, AfterValidator(as_template_sid)]
Variables = Annotated[dict[str, str], AfterValidator(as_template_variables)]


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
    template_sid: TemplateSid = Field(default="", examples=["HX0123456789abcdef0123456789abcdef"])
    """A template of Twilio's Content API that WhatsApp has approved, HX…: what goes out more than
    24 hours after the customer's last message, when WhatsApp takes no free text. People's answers
    use it wherever it is set; empty: they are declined then."""
    outside_window: Literal["handoff", "template"] = "handoff"
    """What becomes of an answer of the AI's that comes so late: people get the messages instead,
    with the reason `window_closed`, or it goes out as the template."""
    template_variables: Variables = Field(
        default_factory=dict, examples=[{"1": "{name}", "2": "{text}"}]
    )
    """Values of the template's variables by name; empty: `1` is the answer. `{text}`, which exactly
    one of them has, is the answer, in one line: an answer of the AI's is shortened to what is left
    of 900 characters, a longer one of a person's is declined. `{name}` is the customer's profile
    name; where it is not known, a value that has nothing else is left to the template's default."""

    @property
    def template(self) -> ContentTemplate | None:
        """What goes out outside of the window, if anything."""
        if not self.template_sid:
            return None
        return ContentTemplate(self.template_sid, self.template_variables or {"1": TEXT})
