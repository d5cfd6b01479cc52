"""What workers do with wake-ups, as `runtime.buffer`, and where their turns wait."""

from collections.abc import Iterator

from tests.model.bounds import Bounds
from tests.model.names import ids_in, in_order, renamed, smallest_unused
from tests.model.requests import At, Await, Ended, PassOn, Settled, Write
from tests.model.state import NONE, Part, Slot, State, Wakeup, canonical
from tests.model.worker import Worker

# What happens, whether it is a fault, and the state after it.
Move = tuple[str, bool, State]


class Buffers:
    """Numbers the places where turns wait, so that states are small."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.worker = Worker(bounds)
        self._ats: list[At] = []
        self._numbers: dict[At, int] = {}
        self._ids: list[tuple[str, ...]] = []

    def at(self, number: int) -> At:
        return self._ats[number]

    def number(self, at: At) -> int:
        if at not in self._numbers:
            self._numbers[at] = len(self._ats)
            self._ats.append(at)
            self._ids.append(ids_in(at))
        return self._numbers[at]

    def part_awaited(self, number: int) -> Part | None:
        if number == NONE:
            return None
        request = self._ats[number].request
        return part_of(request.part) if isinstance(request, Await) else None

    def _used(self, state: State) -> list[str]:
        """Every id in the state, in a fixed order."""
        used = [*ids_in(state.item)]
        for slot in state.workers:
            if slot.at != NONE:
                used += self._ids[slot.at]
            if slot.kept:
                used += ids_in(slot.kept)
        for rest in (state.flight, state.accepted, state.ghosts):
            if rest:
                used += ids_in(rest)
        return used

    def canonical(self, state: State) -> State:
        names = in_order(self._used(state))
        return canonical(self._renamed(state, names) if names else state)

    def _renamed(self, state: State, names: dict[str, str]) -> State:
        slots = [
            s._replace(at=s.at if s.at == NONE else self.number(renamed(self._ats[s.at], names)))
            for s in state.workers
        ]
        return state._replace(
            item=renamed(state.item, names),
            workers=tuple(s._replace(kept=renamed(s.kept, names)) for s in slots),
            flight=renamed(state.flight, names),
            accepted=renamed(state.accepted, names),
            ghosts=renamed(state.ghosts, names),
        )

    def fresh_token(self, state: State) -> str:
        return smallest_unused("t", self._used(state))

    # --- the buffer ----------------------------------------------------------------------------

    def begun(self, state: State, worker: int, slot: Slot) -> State:
        """A turn for this entry."""
        at = self.number(self.worker.start(slot.seq, slot.kept))
        return placed(state, worker, slot._replace(at=at, kept=()))

    def receptions(self, state: State, worker: int) -> Iterator[Move]:
        for wakeup in state.queue:
            if wakeup.visible:
                name = f"worker {worker}: receives wake-up {wakeup.seq}"
                yield name, False, self._offered(state, worker, wakeup)

    def _offered(self, state: State, worker: int, wakeup: Wakeup) -> State:
        slot = state.workers[worker]
        hidden = _replaced(state, wakeup, wakeup._replace(visible=False))
        if slot.wakeup not in (NONE, wakeup.id):
            if wakeup.seq < slot.held_seq:
                return _replaced(state, wakeup, None)
            hidden = deleted(hidden, slot.wakeup)
        seq = max(slot.seq, wakeup.seq)
        slot = slot._replace(wakeup=wakeup.id, held_seq=wakeup.seq, seq=seq)
        return self.begun(hidden, worker, slot) if slot.at == NONE else placed(hidden, worker, slot)

    def finished(self, state: State, worker: int, ended: Ended) -> Iterator[tuple[str, State]]:
        slot = state.workers[worker]._replace(at=NONE, kept=ended.kept)
        state = placed(state, worker, slot)
        match ended.outcome:
            case Settled(seq):
                if slot.wakeup != NONE and slot.held_seq <= seq:
                    state = deleted(state, slot.wakeup)
                    slot = slot._replace(wakeup=NONE, held_seq=0)
                if slot.wakeup == NONE and slot.seq <= seq:
                    yield f", done up to {seq}", closed(state, worker, slot)
                    return
            case PassOn() if slot.wakeup != NONE:
                yield ", passes on", closed(_passed_on(state, slot), worker, slot)
                return
        yield ", looks again", self.begun(state, worker, slot)


def part_of(part: Write) -> Part:
    return Part(part.text, part.turn_id, part.entry)


def placed(state: State, worker: int, slot: Slot) -> State:
    workers = (*state.workers[:worker], slot, *state.workers[worker + 1 :])
    return state._replace(workers=workers)


def closed(state: State, worker: int, slot: Slot) -> State:
    return placed(state, worker, Slot(kept=slot.kept))


def deleted(state: State, number: int) -> State:
    return state._replace(queue=tuple(w for w in state.queue if w.id != number))


def _replaced(state: State, old: Wakeup, new: Wakeup | None) -> State:
    queue = [w for w in state.queue if w != old]
    return state._replace(queue=(*queue, new) if new else tuple(queue))


def _next_id(state: State) -> int:
    held = [slot.wakeup for slot in state.workers]
    return max([*(w.id for w in state.queue), *held, NONE]) + 1


def _passed_on(state: State, slot: Slot) -> State:
    fresh = Wakeup(_next_id(state), slot.held_seq, visible=True)
    rest = deleted(state, slot.wakeup)
    return rest._replace(queue=(*rest.queue, fresh))


def visible_again(state: State, slot: Slot) -> State:
    queue = tuple(w._replace(visible=True) if w.id == slot.wakeup else w for w in state.queue)
    return state._replace(queue=queue)
