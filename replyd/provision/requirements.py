"""What replyd needs of a table and its queues, as sentences about what is there instead."""

from collections.abc import Iterator

from replyd.adapters.provisioning import QueueFacts, TableFacts
from replyd.settings import Conversations

# Redeliveries after a crash or a drain use up receives; fewer would park messages that nothing is
# wrong with.
MIN_RECEIVES = 10


def about_queue(facts: QueueFacts) -> Iterator[str]:
    """What is wrong with a queue, each with what to do."""
    if facts.fifo:
        yield "is a FIFO queue: make a standard one, FIFO queues take no delay per message"
    if not facts.dead_letter_arn:
        yield (
            "has no redrive policy: give it a dead-letter queue, or messages that cannot be read "
            "come again and again until SQS drops them"
        )
    elif facts.max_receives < MIN_RECEIVES:
        yield (
            f"moves messages to the dead-letter queue after {facts.max_receives} receives: set "
            f"maxReceiveCount to {MIN_RECEIVES} or more, a wake-up may be received that often"
        )


def about_table(facts: TableFacts, wanted: Conversations) -> Iterator[str]:
    """What is wrong with the table, each with what to do."""
    if facts.partition_key != wanted.partition_key:
        yield (
            f'has the partition key "{facts.partition_key}": set conversations.partition_key to it'
        )
    if facts.sort_key != wanted.sort_key:
        found = f'the sort key "{facts.sort_key}"' if facts.sort_key else "no sort key"
        yield f'has {found}: set conversations.sort_key to "{facts.sort_key}"'
    for key in filter(None, (facts.partition_key, facts.sort_key)):
        if (kind := facts.types.get(key, "S")) != "S":
            yield f'has the key "{key}" of type {kind}: replyd needs a table with text keys'
    if wanted.lookup_index:
        yield from _about_index(facts, wanted)


def _about_index(facts: TableFacts, wanted: Conversations) -> Iterator[str]:
    key = facts.indexes.get(wanted.lookup_index)
    if key is None:
        yield (
            f'has no index "{wanted.lookup_index}": add it, or set conversations.lookup_index '
            "to one that exists or to nothing"
        )
    elif key != wanted.address_attribute:
        yield (
            f'has the index "{wanted.lookup_index}" on "{key}": set conversations.lookup_key '
            "to it if it holds the customers' addresses"
        )
