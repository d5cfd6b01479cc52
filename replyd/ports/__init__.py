"""What the flows need of the outside world. Real adapters and in-memory twins implement these,
and one contract suite (`tests/contract/`) runs on both."""

from replyd.ports.channel import Channel, MediaLibrary, SignedRequest
from replyd.ports.conversations import ConversationStore
from replyd.ports.erasure import Fate, Kept, KeptMessage, KeptMessages, MessageEraser, ThreadEraser
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
    part_of,
)
from replyd.ports.process import Clock, Ids, LocalBuffer, Telemetry
from replyd.ports.queues import Depth, HandoffQueue, Received, WakeupQueue, WatchedQueue
from replyd.ports.secrets import Secrets
from replyd.ports.tools import Toolbox, ToolContext
from replyd.ports.tracing import (
    NOT_TRACED,
    Attributes,
    Span,
    SpanKind,
    TraceContext,
    Tracing,
)

__all__ = [
    "NOT_TRACED",
    "Attributes",
    "Channel",
    "Clock",
    "ConversationStore",
    "DeadLetterQueues",
    "DeadMessage",
    "DeadQueue",
    "Depth",
    "Fate",
    "File",
    "Finish",
    "HandoffQueue",
    "Ids",
    "Kept",
    "KeptMessage",
    "KeptMessages",
    "Line",
    "LocalBuffer",
    "MediaLibrary",
    "MessageEraser",
    "ModelReply",
    "ModelRequest",
    "Moderator",
    "Page",
    "Received",
    "ReplyModel",
    "Secrets",
    "SignedRequest",
    "Span",
    "SpanKind",
    "TableSize",
    "Telemetry",
    "ThreadEraser",
    "ToolContext",
    "Toolbox",
    "TraceContext",
    "Tracing",
    "Transcriber",
    "WakeupQueue",
    "WatchedQueue",
    "WholeTable",
    "part_of",
]
