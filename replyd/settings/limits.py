"""What the AI may use and cost."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from replyd.settings.kinds import DERIVED, FROZEN, Count, MessageText, Positive
from replyd.settings.values import without_zero

Dollars = Annotated[float, Field(ge=0)]
Switchable = Annotated[Count | None, BeforeValidator(without_zero)]


class Price(BaseModel):
    """What a model costs, in dollars per million tokens. The limits in dollars count with these
    figures; take them from your provider's price list. A name with a dot is quoted:
    `[prices."name-1.5"]`."""

    model_config = FROZEN

    input: Dollars
    """Dollars per million tokens of input."""
    cached_input: Dollars = Field(default=0, json_schema_extra=DERIVED)
    """Dollars per million tokens of input that the provider had cached. Default: `input`."""
    output: Dollars
    """Dollars per million tokens of output, thinking included."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "input" in data:
            return {"cached_input": data["input"], **data}
        return data


class Limits(BaseModel):
    """How much the AI may do. Limits per day are per conversation and UTC day; those that begin
    with `conversation` are per conversation in all."""

    model_config = FROZEN

    day_turns: Count | None = Field(default=None, examples=[50])
    """Turns a day. Default: no limit."""
    day_tokens: Count | None = Field(default=None, examples=[200_000])
    """Tokens a day. Default: no limit."""
    day_dollars: Positive | None = Field(default=None, examples=[1])
    """Dollars a day. Needs `[prices]`. Default: no limit."""
    conversation_turns: Count | None = Field(default=None, examples=[500])
    """Turns in all. Default: no limit."""
    conversation_tokens: Count | None = Field(default=None, examples=[2_000_000])
    """Tokens in all. Default: no limit."""
    conversation_dollars: Positive | None = Field(default=None, examples=[10])
    """Dollars in all. Needs `[prices]`. Default: no limit."""
    reserve_tokens: Count = 2000
    """What a call counts as until its answer tells."""
    at_limit: Literal["handoff", "text", "silence"] = "handoff"
    """What happens at a limit: `handoff` gives the conversation to people, `text` sends `text`,
    `silence` answers nothing."""
    text: MessageText = ""
    """Sent once a day at the limit; afterwards silence. At most 1600 characters, Twilio's limit."""
    loop_turns: Switchable = 20
    """People get a conversation in which the AI has answered this often in `loop_seconds`: perhaps
    two bots talk to each other. 0 for no limit."""
    loop_seconds: Positive = 300
    """The time in which `loop_turns` counts."""
    loop_repeats: Switchable = 6
    """The same, when the same text came so many times in a row. 0 for no limit."""
