"""What customers send besides text, and what is looked at before it is read or sent."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from replyd.settings.kinds import FROZEN, NO_SECRET, Count, MessageText, Name, Positive
from replyd.settings.values import as_url


class Voice(BaseModel):
    """Voice notes, as text."""

    model_config = FROZEN

    enabled: bool = True
    """Whether voice notes are turned into text for the model."""
    model: Name = "gpt-transcribe"
    """Name of the model that turns speech into text."""
    language: Annotated[str, Field(max_length=35)] = ""
    """Language of the voice notes, such as `en`; empty: the model finds out."""
    api_key: SecretStr = NO_SECRET
    """The API key; empty: that of `[ai]`, but none for a `base_url` of its own. May be a reference,
    as `ai.api_key`."""
    base_url: Annotated[str, AfterValidator(as_url)] = ""
    """Base URL of another server that speaks OpenAI's audio API; empty: that of `[ai]`."""
    wait_seconds: Positive = 10
    """How long a turn waits for the words of a voice note that is still being read; then it is
    answered without."""
    max_bytes: Count = 16_000_000
    """Longer voice notes are not read."""
    concurrency: Count = 8
    """Voice notes read at once in a process."""


class Media(BaseModel):
    """Pictures and documents that customers send."""

    model_config = FROZEN

    max_bytes: Count = 16 * 1024 * 1024
    """Larger files are not fetched. 16 MiB is WhatsApp's limit at Twilio."""
    timeout_seconds: Positive = 10
    """How long fetching one file may take."""
    max_files: Count = 10
    """How many files of a turn are given to the model."""


class Moderation(BaseModel):
    """Texts that OpenAI's moderation flags."""

    model_config = FROZEN

    model: Name = "omni-moderation-latest"
    """Name of the moderation model."""
    input: Literal["off", "handoff", "text"] = "off"
    """What happens when a customer's message is flagged: `handoff` gives the conversation to
    people, `text` sends `text`, `off`: nothing is looked at."""
    output: Literal["off", "handoff", "text"] = "off"
    """The same, when the model's answer is flagged. It is not sent."""
    text: MessageText = ""
    """What is sent instead: at most 1600 characters, Twilio's limit."""

    @property
    def enabled(self) -> bool:
        """Whether anything is looked at."""
        return not self.input == self.output == "off"
