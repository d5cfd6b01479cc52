"""OpenAI's APIs, and those of servers that speak them."""

from replyd.adapters.openai.client import create_client
from replyd.adapters.openai.responses import OpenAIResponses

__all__ = ["OpenAIResponses", "create_client"]
