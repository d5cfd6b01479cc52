"""Who answers a conversation, and how: what the flows need to know of a profile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from replyd.domain.record import Conversation
from replyd.domain.tools import ToolSpec

Remedy = Literal["retry", "handoff", "text"]


@dataclass(frozen=True, slots=True)
class Profile:
    """`remedies`: what to do about an answer that ended other than complete, by its `Finish`.
    `structured`: the answer is a JSON object with content and handoff."""

    name: str = ""
    tools: Mapping[str, ToolSpec] = field(default_factory=dict)
    max_tool_rounds: int = 5
    structured: bool = False
    formatted: bool = True
    images: bool = True
    documents: bool = True
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    fallback_text: str = ""


@dataclass(frozen=True, slots=True)
class Profiles:
    """`assistants`: the profile for each legacy assistant's id."""

    default: Profile = field(default_factory=Profile)
    named: Mapping[str, Profile] = field(default_factory=dict)
    assistants: Mapping[str, str] = field(default_factory=dict)

    def of(self, conversation: Conversation) -> Profile:
        """By the record's own profile, else by its assistant, else the default. A name that is
        not known is the default's too: a conversation must not wait for a setting."""
        mapped = self.assistants.get(conversation.assistant_id, "")
        for name in (conversation.profile, mapped):
            if name in self.named:
                return self.named[name]
        return self.default
