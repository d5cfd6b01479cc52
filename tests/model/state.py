"""A state of the model, and its canonical form, in which workers have no names."""

from typing import NamedTuple

from tests.model.bounds import Budget
from tests.model.requests import Apply, Json

NONE = -1
# The receipt of a wake-up that has been deleted.
GONE = -2


class Slot(NamedTuple):
    """A worker's buffer entry. `at`: where its turn waits, NONE without one. `wakeup`, `held_seq`:
    the wake-up that it holds. `seq`: the newest it knows of. `kept`: a draft that outlived its
    turn."""

    at: int = NONE
    seq: int = 0
    held_seq: int = 0
    kept: tuple[tuple[str, ...], ...] = ()
    # Last, because slots are sorted: a name must not decide.
    wakeup: int = NONE


class Wakeup(NamedTuple):
    id: int
    seq: int
    visible: bool


class Part(NamedTuple):
    """A message to the customer, written to the channel or accepted by it."""

    text: str
    turn_id: str
    entry: int


class Delivery(NamedTuple):
    """A webhook under way. `seq`: of the wake-up that it has yet to send; 0 before STAGE."""

    message: int
    seq: int


class Ghost(NamedTuple):
    """A write that is still on its way, though nobody waits for it. `message`: of a STAGE."""

    step: Apply
    token: str
    late: bool
    message: int = 0


class State(NamedTuple):
    """`coming`: the next message that the customer sends. `louder`: parts accepted since people or
    STOP silenced the AI. `people`: (SID, reason, whether they were told what was sent)."""

    item: Json
    workers: tuple[Slot, ...]
    queue: tuple[Wakeup, ...]
    deliveries: tuple[Delivery, ...]
    coming: int
    acked: frozenset[int]
    flight: tuple[Part, ...]
    accepted: tuple[Part, ...]
    people: frozenset[tuple[str, str, bool]]
    louder: int
    ghosts: tuple[Ghost, ...]
    budget: Budget


def canonical(state: State) -> State:
    """One representative of all states that differ in the names of workers and wake-ups."""
    seqs = {wakeup.id: wakeup.seq for wakeup in state.queue}
    slots = sorted(
        (s._replace(wakeup=GONE) if s.wakeup >= 0 and s.wakeup not in seqs else s)
        for s in state.workers
    )
    names: dict[int, int] = {}
    for slot in slots:
        if slot.wakeup >= 0:
            names.setdefault(slot.wakeup, len(names))
    free = sorted((seq, i) for i, seq in seqs.items() if i not in names)
    names |= {i: len(names) + n for n, (_, i) in enumerate(free)}
    if any(old != new for old, new in names.items()):
        slots = [s._replace(wakeup=names.get(s.wakeup, s.wakeup)) for s in slots]
    return State(
        state.item,
        tuple(slots),
        tuple(sorted(Wakeup(names[i], seq, visible) for i, seq, visible in state.queue)),
        tuple(sorted(state.deliveries)) if state.deliveries else (),
        state.coming,
        state.acked,
        tuple(sorted(state.flight)) if state.flight else (),
        tuple(sorted(state.accepted)) if state.accepted else (),
        state.people,
        state.louder,
        state.ghosts,
        state.budget,
    )
