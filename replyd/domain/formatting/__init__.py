"""A model's Markdown, written in WhatsApp's own formatting."""

from replyd.domain.formatting.blocks import whatsapp
from replyd.domain.formatting.inline import MAX_NESTING

__all__ = ["MAX_NESTING", "whatsapp"]
