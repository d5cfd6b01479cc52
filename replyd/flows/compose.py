"""The outbox of a reply: the turn as it will stand in the history."""

from replyd.domain import record
from replyd.domain.record import Entry, Outbox
from replyd.domain.text import split_reply
from replyd.flows.workbench import Turn
from replyd.ports import ModelReply

# What a part is, whichever turn it goes out in.
_LASTING = ("role", "content", "response_id", "model", "input_tokens", "output_tokens")

Draft = tuple[Entry, ...]


def draft_from(reply: ModelReply, *, input_tokens: int, output_tokens: int) -> Draft:
    """The parts of the model's answer. The tokens are those of the whole turn."""
    parts: list[Entry] = [
        {"role": "assistant", "content": text, "response_id": reply.thread_id}
        for text in split_reply(reply.text)
    ]
    # Counted once, though the reply may be several messages.
    parts[0] |= {
        "model": reply.model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }
    return tuple(parts)


def draft_of(outbox: Outbox) -> Draft:
    """The parts of a reply that did not go out."""
    return tuple(
        {name: entry[name] for name in _LASTING if name in entry} for _, entry in outbox.parts
    )


def compose(held: Turn, draft: Draft, *, at: int | None = None) -> Outbox:
    """A fresh turn; parts have no SID yet. `at`: from when on the parts may have been sent, epoch
    ms, now by default."""
    turn_id, now = held.bench.ids.fresh(), held.bench.clock.now()
    parts = [{**part, "timestamp": record.iso(now), "turn_id": turn_id} for part in draft]
    return Outbox(
        turn_id=turn_id,
        kind="reply",
        seqs=held.seqs,
        entries=(*held.user_entries(turn_id), *parts),
        at=now if at is None else at,
        delivery={},
    )
