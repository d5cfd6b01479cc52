"""The outbox of a reply: the turn as it will stand in the history."""

from replyd.domain import record
from replyd.domain.record import Entry, Outbox
from replyd.domain.text import split_reply
from replyd.flows.account import Account
from replyd.flows.workbench import Turn
from replyd.ports import ModelReply

# Where a part carries why it is a fixed text, and no answer of the model.
FIXED = "fixed"
# What a part is, whichever turn it goes out in.
_LASTING = (
    "role", "content", "response_id", "model", "input_tokens", "output_tokens", "cached_tokens",
    "microdollars", "tools", FIXED,
)  # fmt: skip

Draft = tuple[Entry, ...]


def draft_from(text: str, reply: ModelReply, account: Account) -> Draft:
    """The parts of the model's answer, as `text`. The costs are those of the whole turn."""
    parts: list[Entry] = [{"role": "assistant", "content": part} for part in split_reply(text)]
    if reply.thread_id:
        for part in parts:
            part["response_id"] = reply.thread_id
    # Counted once, though the reply may be several messages.
    parts[0] |= {
        "model": reply.model,
        "input_tokens": account.input_tokens,
        "output_tokens": account.output_tokens,
    }
    if account.cached_tokens:
        parts[0]["cached_tokens"] = account.cached_tokens
    if account.microdollars:
        parts[0]["microdollars"] = account.microdollars
    if account.tools:
        parts[0]["tools"] = list(account.tools)
    return tuple(parts)


def fixed_draft(text: str, why: str) -> Draft:
    """A text from the settings instead of an answer."""
    return tuple({"role": "assistant", "content": t, FIXED: why} for t in split_reply(text))


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
