"""Kinds of values that several groups use."""

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from replyd.settings.values import as_tool_name

FROZEN = ConfigDict(
    frozen=True,
    extra="forbid",
    str_strip_whitespace=True,
    allow_inf_nan=False,
    validate_default=True,
    # A value may be a secret, also one that was put under the wrong name.
    hide_input_in_errors=True,
)

REQUIRED: dict[str, Any] = {"required": True}
# Of a setting whose default follows from others; its description says how.
DERIVED: dict[str, Any] = {"derived": True}

Count = Annotated[int, Field(ge=1)]
Duration = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
# A text that is sent to the customer. 1600 characters: Twilio's limit for one message.
MessageText = Annotated[str, Field(max_length=1600)]
NO_SECRET = SecretStr("")
ToolName = Annotated[str, AfterValidator(as_tool_name)]
