"""What the flows need of the outside world. Real adapters and in-memory twins implement these,
and one contract suite (`tests/contract/`) runs on both."""

from replyd.ports.channel import Channel, MediaLibrary, SignedRequest
from replyd.ports.conversations import ConversationStore
from replyd.ports.model import (
    File,
    Finish,
    Line,
    ModelReply,
    ModelRequest,
    Moderator,
    ReplyModel,
    Transcriber,
)
from replyd.ports.operators import (
    DeadLetterQueues,
    DeadMessage,
    DeadQueue,
    Page,
    TableSize,
    WholeTable,
)
from replyd.ports.process import Clock, Ids, LocalBuffer, Telemetry
from replyd.ports.queues import Depth, HandoffQueue, Received, WakeupQueue, WatchedQueue
from replyd.ports.secrets import Secrets
from replyd.ports.tools import Toolbox, ToolContext

__all__ = [
    "Channel",
    "Clock",
    "ConversationStore",
    "DeadLetterQueues",
    "DeadMessage",
    "DeadQueue",
    "Depth",
    "File",
    "Finish",
    "HandoffQueue",
    "Ids",
    "Line",
    "LocalBuffer",
    "MediaLibrary",
    "ModelReply",
    "ModelRequest",
    "Moderator",
    "Page",
    "Received",
    "ReplyModel",
    "Secrets",
    "SignedRequest",
    "TableSize",
    "Telemetry",
    "ToolContext",
    "Toolbox",
    "Transcriber",
    "WakeupQueue",
    "WatchedQueue",
    "WholeTable",
]
