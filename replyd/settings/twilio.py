"""Twilio's accounts and its REST API."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
)

from replyd.settings.kinds import FROZEN, REQUIRED, Positive
from replyd.settings.values import (
    ACCOUNT_SID,
    as_account_tokens,
    as_messaging_services,
    as_secret_name,
    as_url,
    as_url_prefix,
)

AccountSid = Annotated[str, StringConstraints(pattern=r"^AC[0-9a-f]{32}$")]
Services = Annotated[dict[str, str], AfterValidator(as_messaging_services)]
Token = Annotated[SecretStr, Field(min_length=1)]
Tokens = Annotated[tuple[Token, ...], BeforeValidator(as_account_tokens), Field(max_length=2)]
UrlPrefix = Annotated[str, Field(min_length=1), AfterValidator(as_url_prefix)]


class Twilio(BaseModel):
    """The accounts whose webhooks are taken, and Twilio's REST API."""

    model_config = FROZEN

    base_url: Annotated[str, AfterValidator(as_url)] = ""
    """Another host that speaks Twilio's API; empty for Twilio."""
    media_urls: tuple[UrlPrefix, ...] = Field(default=(), examples=[["https://media.example.com"]])
    """URLs below which that host may redirect to customers' files, besides Twilio's own."""
    timeout_seconds: Positive = 10
    """How long one request may take in all. An unclear send is looked into after twice this, the
    grace."""
    accounts: dict[AccountSid, Tokens] = Field(
        default_factory=dict,
        examples=[{"AC0123456789abcdef0123456789abcdef": ["token"]}],
        json_schema_extra=REQUIRED,
    )
    """Auth tokens by account SID: one, or two while a token is being replaced; the first one
    sends. `TWILIO_ACCOUNT_SID` with `TWILIO_AUTH_TOKEN` adds an account, or puts a token first.
    A token may be a reference, as `ai.api_key`. May be empty when `account_sids` is not."""
    secret_name: Annotated[str, AfterValidator(as_secret_name)] = ""
    """Name or ARN of the secret in AWS Secrets Manager that has the auth token of an account in
    `account_sids`, `{account_sid}` for its SID: `replyd/twilio/{account_sid}`. The secret is the
    token, or the JSON object `{"auth_token": "...", "previous": "..."}` while it is being
    replaced."""
    account_sids: tuple[AccountSid, ...] = ()
    """The accounts whose tokens are in `secret_name`. A token is read when it is first used, and
    again when Twilio refuses it or a signature does not fit, at most once a minute: a new one
    needs no restart."""
    secret_refresh_seconds: Annotated[float, Field(ge=60)] = 300
    """How old such a token gets before it is read again. At least 60."""
    messaging_services: Services = Field(
        default_factory=dict,
        examples=[{"+447700900100": "MG0123456789abcdef0123456789abcdef"}],
    )
    """Messaging Services by business number: what goes out from the number goes through its
    service, with that one's settings. The number stays the sender, and must be in the service's
    pool."""

    def secret_of(self, account_sid: str) -> str:
        """Name of the secret with the account's token."""
        return self.secret_name.replace(ACCOUNT_SID, account_sid)
