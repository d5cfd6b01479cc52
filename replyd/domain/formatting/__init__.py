"""A model's Markdown, written in WhatsApp's own formatting, or without any."""

from replyd.domain.formatting.blocks import plain, whatsapp
from replyd.domain.formatting.inline import MAX_NESTING

__all__ = ["MAX_NESTING", "plain", "whatsapp"]
