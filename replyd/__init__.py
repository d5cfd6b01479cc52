"""replyd: answers WhatsApp replies, each message once."""

from importlib.metadata import version

__version__ = version("replyd")
