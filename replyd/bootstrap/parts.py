"""What a daemon is wired to."""

from dataclasses import dataclass, field

from replyd.adapters.tools.box import Tools
from replyd.ports import (
    Channel,
    Clock,
    ConversationStore,
    HandoffQueue,
    Ids,
    MediaLibrary,
    Moderator,
    ReplyModel,
    Toolbox,
    Transcriber,
    WakeupQueue,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world: real adapters, or their in-memory twins."""

    store: ConversationStore
    wakeups: WakeupQueue
    handoffs: HandoffQueue
    model: ReplyModel
    channel: Channel
    clock: Clock
    ids: Ids
    owner: str
    toolbox: Toolbox = field(default_factory=lambda: Tools(()))
    # Where recordings come from, and where other files do; without them nothing is read.
    recordings: MediaLibrary | None = None
    library: MediaLibrary | None = None
    transcriber: Transcriber | None = None
    moderator: Moderator | None = None
