"""Keep the record small: move the oldest entries of its history to an archive item."""

from dataclasses import replace

from replyd.domain import history, steps
from replyd.domain.expressions import Applied, Refused
from replyd.errors import DependencyError
from replyd.flows.workbench import Turn


async def roll_over(held: Turn) -> None:
    """By the lease's holder. First the archive, then the removal: a crash between the two leaves
    both, and the next roll-over overwrites the archive item. A failure is left to the next turn:
    this one has a customer waiting."""
    entries = held.conversation.messages
    count = history.overflow(entries, held.bench.keep_messages)
    if not count:
        return
    head, store = entries[:count], held.bench.store
    name = history.archive_name(held.conversation.conversation_id)
    part = history.archive_part(head)
    until = held.bench.retention.archive_until(held.bench.clock.now())
    try:
        await store.put_side(name, {"messages": list(head)}, until, part=part)
        result = await store.apply(held.key, steps.roll_over(held.lease.token, head))
        if isinstance(result, Refused) and result.item is None:
            # The record was erased meanwhile, and its archive with it.
            await store.delete_side(name, part=part)
    except DependencyError as error:
        held.bench.failed("roll_over", error)
        return
    if isinstance(result, Applied):
        held.conversation = replace(held.conversation, messages=entries[count:])
