"""Settings: `Settings` is the model, `load` reads one from file, environment and flags."""

from replyd.settings.groups import (
    Ai,
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
    Twilio,
    UnknownSender,
    Window,
)
from replyd.settings.loader import DEFAULT_PATH, load
from replyd.settings.model import Settings

__all__ = [
    "DEFAULT_PATH",
    "Ai",
    "Aws",
    "Conversations",
    "Delivery",
    "History",
    "Logging",
    "Ops",
    "OptOut",
    "Queues",
    "Server",
    "Settings",
    "Turn",
    "Twilio",
    "UnknownSender",
    "Window",
    "load",
]
