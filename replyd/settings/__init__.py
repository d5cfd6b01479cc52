"""Settings: `Settings` is the model, `load` reads one from file, environment and flags."""

from replyd.settings.ai import Ai, Assistants, Profile
from replyd.settings.groups import (
    Aws,
    Conversations,
    Delivery,
    History,
    Logging,
    Ops,
    OptOut,
    Queues,
    Server,
    Turn,
    UnknownSender,
    Window,
)
from replyd.settings.limits import Limits, Price
from replyd.settings.loader import DEFAULT_PATH, Unserved, load, load_offline
from replyd.settings.media import Media, Moderation, Voice
from replyd.settings.model import Settings
from replyd.settings.sending import Sending
from replyd.settings.tools import Tool
from replyd.settings.twilio import Twilio

__all__ = [
    "DEFAULT_PATH",
    "Ai",
    "Assistants",
    "Aws",
    "Conversations",
    "Delivery",
    "History",
    "Limits",
    "Logging",
    "Media",
    "Moderation",
    "Ops",
    "OptOut",
    "Price",
    "Profile",
    "Queues",
    "Sending",
    "Server",
    "Settings",
    "Tool",
    "Turn",
    "Twilio",
    "UnknownSender",
    "Unserved",
    "Voice",
    "Window",
    "load",
    "load_offline",
]
