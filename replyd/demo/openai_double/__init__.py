"""OpenAI on loopback, for `replyd demo` and tests, with faults on demand."""

from replyd.demo.openai_double.server import OpenAIDouble

__all__ = ["OpenAIDouble"]
