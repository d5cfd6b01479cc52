"""OpenAI's APIs, and those of servers that speak them."""

from replyd.adapters.openai.assistants import OpenAIAssistants
from replyd.adapters.openai.audio import OpenAITranscriber
from replyd.adapters.openai.chat import OpenAIChat
from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.erasure import OpenAIThreads
from replyd.adapters.openai.failures import NAME
from replyd.adapters.openai.moderation import OpenAIModerator
from replyd.adapters.openai.responses import OpenAIResponses

__all__ = [
    "NAME",
    "OpenAIAssistants",
    "OpenAIChat",
    "OpenAIModerator",
    "OpenAIResponses",
    "OpenAIThreads",
    "OpenAITranscriber",
    "create_client",
]
