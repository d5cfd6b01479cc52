"""Tools: what the model may have done, besides handing over."""

import copy
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, StringConstraints

from replyd.settings.kinds import FROZEN, Positive
from replyd.settings.values import as_endpoint, as_function, as_schema

# RFC 9110, section 5.1: a field name is a token.
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


class Tool(BaseModel):
    """A tool that the model may call, where `ai.tools` or a profile's `tools` lists it. Its name:
    1 to 64 of A-Z a-z 0-9 _ -, not `hand_over`."""

    model_config = FROZEN

    description: Annotated[str, Field(min_length=1)]
    """What the tool does and when to use it, for the model."""
    parameters: Annotated[dict[str, Any], BeforeValidator(as_schema)] = Field(
        default_factory=lambda: copy.deepcopy(_NO_ARGUMENTS)
    )
    """The arguments: a JSON Schema of type object, as an inline table or as JSON text."""
    python: Annotated[str, AfterValidator(as_function)] = ""
    """The function that does it: `package.module:function`. A tool has this or `url`."""
    url: Annotated[str, AfterValidator(as_endpoint)] = ""
    """The URL that is called for it. A tool has this or `python`."""
    method: Literal["POST", "GET"] = "POST"
    """How the URL is called."""
    headers: dict[HeaderName, SecretStr] = Field(default_factory=dict)
    """Headers of the call, such as Authorization. A value may be a reference, as `ai.api_key`."""
    timeout_seconds: Positive = 10
    """How long one call of the tool may take."""
    effects: bool = False
    """Whether it changes something outside. Such a tool runs at most once in a turn; with
    `twilio.timeout_seconds` its time must stay below the lease."""


_ORDER = {
    "type": "object",
    "properties": {"number": {"type": "string"}},
    "required": ["number"],
    "additionalProperties": False,
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "find_order": {
        "description": "Looks up the state of an order by its number.",
        "parameters": _ORDER,
        "url": "https://shop.example.com/orders/find",
        "headers": {"Authorization": "env:SHOP_AUTHORIZATION"},
    },
    "cancel_order": {
        "description": "Cancels an order that was not sent yet.",
        "parameters": '{"type": "object", "properties": {"number": {"type": "string"}}}',
        "python": "shop.orders:cancel",
        "timeout_seconds": 5,
        "effects": True,
    },
}
