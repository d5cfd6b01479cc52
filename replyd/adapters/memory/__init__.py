"""In-memory twins of the ports: they pass the same contract suite as the real adapters."""

from replyd.adapters.memory.process import CountingIds, LoopClock, Recorder
from replyd.adapters.memory.queues import MemoryHandoffQueue, MemoryQueue
from replyd.adapters.memory.store import MemoryStore
from replyd.adapters.memory.vendors import MemoryChannel, MemoryModel

__all__ = [
    "CountingIds",
    "LoopClock",
    "MemoryChannel",
    "MemoryHandoffQueue",
    "MemoryModel",
    "MemoryQueue",
    "MemoryStore",
    "Recorder",
]
