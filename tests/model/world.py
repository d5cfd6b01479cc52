"""Every transition of a state: what customers, people, the channel and time do. What workers do is
in `turns`."""

import json
from collections.abc import Iterator
from dataclasses import replace

from replyd.domain import callback, delivery, steps, turn
from replyd.domain.expressions import Applied, Refused
from tests.model import safety
from tests.model.bounds import BEFORE, NOW, Bounds
from tests.model.buffers import Move, placed, visible_again
from tests.model.item import (
    EMPTY,
    aged,
    built,
    executed,
    facts,
    sid_of,
    staging,
    window_closed,
)
from tests.model.requests import KEY, Apply, At, Json
from tests.model.sending import sid_of_part
from tests.model.state import NONE, Delivery, Ghost, Part, Slot, State, Wakeup
from tests.model.turns import Turns, after_accepting, spent

STAGE = Apply("stage")


class World(Turns):
    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self._aged: dict[Json, Json] = {}

    def first(self) -> State:
        return State(
            item=EMPTY,
            workers=(Slot(),) * self.bounds.workers,
            queue=(),
            deliveries=(),
            coming=1,
            acked=frozenset(),
            flight=(),
            accepted=(),
            people=frozenset(),
            louder=0,
            ghosts=(),
            budget=self.bounds.budget,
        )

    def settled(self, state: State) -> bool:
        """Everything has come to rest, and every message was answered or given to people."""
        return (
            state.coming > self.bounds.messages
            and len(state.acked) == self.bounds.messages
            and not (state.queue or state.deliveries or state.flight or state.ghosts)
            and all(slot.at == NONE for slot in state.workers)
            and facts(state.item).at_rest
        )

    def moves(self, state: State) -> Iterator[Move]:
        yield from self._webhooks(state)
        for number, slot in enumerate(state.workers):
            yield from self.receptions(state, number)
            if slot.at != NONE:
                yield from self.worker_moves(state, number)
        yield from self._channel(state)
        yield from self._people(state)
        yield from self._time(state)
        yield from self._ghosts(state)

    # --- webhooks ------------------------------------------------------------------------------

    def _webhooks(self, state: State) -> Iterator[Move]:
        if state.coming <= self.bounds.messages:
            started = _delivering(state, state.coming)._replace(coming=state.coming + 1)
            yield f"webhook: {sid_of(state.coming)} comes", False, started
        for number in range(1, state.coming):
            under_way = any(d.message == number for d in state.deliveries)
            again = f"webhook: {sid_of(number)} comes again"
            if number not in state.acked and not under_way:
                yield again, False, _delivering(state, number)
            elif state.budget.redeliveries:
                yield again, True, spent(_delivering(state, number), "redeliveries")
        for coming in dict.fromkeys(state.deliveries):
            rest = list(state.deliveries)
            rest.remove(coming)
            without = state._replace(deliveries=tuple(rest))
            yield from self._delivery(without, coming)
            name = f"webhook: {sid_of(coming.message)}'s"
            if state.budget.crashes:
                yield f"{name} process ends", True, spent(without, "crashes")

    def _delivery(self, state: State, coming: Delivery) -> Iterator[Move]:
        number = coming.message
        name, lost = f"webhook: {sid_of(number)}", state.budget.lost
        if coming.seq:
            woken = woke(state, coming.seq)
            yield f"{name}: wake-up, 200", False, _acked(woken, number)
            if lost:
                yield f"{name}: wake-up sent, not known, 503", True, spent(woken, "lost")
                failed = f"{name}: wake-up not sent, 503"
                yield failed, True, spent(state, "lost")
                for worker, slot in enumerate(state.workers):
                    if slot.at == NONE:
                        hinted = self.begun(state, worker, slot._replace(seq=coming.seq))
                        yield f"{failed}, local hint", True, spent(hinted, "lost")
            return
        after, answer = self._stage(state, number)
        yield f"{name}: STAGE", False, self._staged(after, number, answer)
        if lost:
            yield f"{name}: STAGE held, not known, 503", True, spent(after, "lost")
            yield f"{name}: STAGE failed, 503", True, spent(state, "lost")
            if answer[0]:
                again, second = self._stage(after, number)
                retried = self._staged(again, number, second)
                yield f"{name}: STAGE, again by the SDK", True, spent(retried, "lost")
        if state.budget.ghosts:
            ghost = Ghost(STAGE, "", False, number)
            late = spent(state._replace(ghosts=(*state.ghosts, ghost)), "ghosts")
            yield f"{name}: STAGE is late, 503", True, late

    def _stage(self, state: State, number: int) -> tuple[State, tuple[bool, Json]]:
        after, applied, shown = executed(
            state.item, staging(state.item, number, self.bounds), self.bounds
        )
        if applied:
            safety.step_taken(state, after, "stage", "")
            safety.staged_once(after)
        return state._replace(item=after), (applied, shown)

    def _staged(self, state: State, number: int, answer: tuple[bool, Json]) -> State:
        item = json.loads(answer[1])
        result = Applied(item) if answer[0] else Refused(item)
        match turn.after_stage(result, sid_of(number)):
            case turn.Staged(seq):
                waiting = Delivery(number, seq)
                return state._replace(deliveries=(*state.deliveries, waiting))
            case turn.AlreadySettled():
                return _acked(state, number)
        raise safety.Violation("P1: STAGE was refused without a reason")

    # --- the channel ---------------------------------------------------------------------------

    def _channel(self, state: State) -> Iterator[Move]:
        awaited = {self.part_awaited(slot.at) for slot in state.workers}
        for part in state.flight:
            accepted = after_accepting(state, part)
            yield f"channel: accepts {part.text}", False, accepted
            if part not in awaited:
                rest = tuple(p for p in state.flight if p != part)
                yield f"channel: drops {part.text}", False, state._replace(flight=rest)
        if state.budget.callbacks:
            for part in state.accepted:
                reported = self._report(state.item, part)
                if reported != state.item:
                    after = spent(state._replace(item=reported), "callbacks")
                    yield f"channel: reports {part.text}", True, after

    def _report(self, item: Json, part: Part) -> Json:
        """As `flows.track_delivery`, in one go."""
        report = {"message_id": sid_of_part(part.text), "delivery": "sent"}
        step = delivery.report_in_outbox(part.turn_id, part.entry, report)
        after, applied, _ = executed(item, step, self.bounds)
        if applied:
            return after
        place = callback.Part(KEY, part.turn_id, part.entry, sid_of_part(part.text))
        found = callback.find(json.loads(item), place)
        if found is None or found.index is None or not delivery.replaces("sent", found.entry):
            return item
        step = delivery.report_in_history(found.index, place.sid, report, turn_id=part.turn_id)
        return executed(item, step, self.bounds)[0]

    # --- people and time -----------------------------------------------------------------------

    def _people(self, state: State) -> Iterator[Move]:
        if state.budget.flags:
            up = not facts(state.item).handoff
            after, _, _ = executed(state.item, steps.set_handoff(up), self.bounds)
            louder = state.louder if facts(after).silenced else 0
            flipped = spent(state._replace(item=after, louder=louder), "flags")
            yield f"people: the flag goes {'up' if up else 'down'}", True, flipped

    def _time(self, state: State) -> Iterator[Move]:
        """A lease runs out. No send is under way then: the channel takes or drops it sooner, and
        its sender ends rather than stand still that long."""
        if self.bounds.window:
            item = window_closed(state.item)
            if item != state.item:
                yield "time: the window closes", False, state._replace(item=item)
        working = [s.at for s in state.workers if s.at != NONE]
        if state.flight or any(self.part_awaited(at) for at in working):
            return
        if state.item not in self._aged:
            self._aged[state.item] = aged(state.item, self.bounds)
        item, held = self._aged[state.item], facts(state.item).holder
        stalled = any(self.at(at).held.token == held for at in working)
        if not held or (stalled and not state.budget.stalls):
            return
        ghosts = tuple(ghost._replace(late=True) for ghost in state.ghosts)
        after = state._replace(item=item, ghosts=ghosts)
        if stalled:
            # Who else waits for an answer stands still, too; without a stall they just ask later.
            # Nobody keeps their wake-ups invisible meanwhile.
            for number, slot in enumerate(after.workers):
                if slot.at != NONE:
                    late = self.number(_stood_still(self.at(slot.at)))
                    after = visible_again(placed(after, number, slot._replace(at=late)), slot)
            after = spent(after, "stalls")
        yield "time: the lease runs out", stalled, after

    def _ghosts(self, state: State) -> Iterator[Move]:
        for index, ghost in enumerate(state.ghosts):
            rest = state.ghosts[:index] + state.ghosts[index + 1 :]
            without = state._replace(ghosts=rest)
            name = f"table: a late {ghost.step.step}"
            yield f"{name} never arrives", False, without
            if ghost.message:
                yield f"{name} arrives", False, self._stage(without, ghost.message)[0]
                continue
            token = ghost.token or self.fresh_token(without)
            step = built(ghost.step, token, BEFORE if ghost.late else NOW, self.bounds)
            after, applied, _ = executed(state.item, step, self.bounds)
            if applied:
                safety.step_taken(state, after, ghost.step.step, token)
                yield f"{name} arrives", False, without._replace(item=after)


def woke(state: State, seq: int) -> State:
    number = max((w.id for w in state.queue), default=NONE) + 1
    return state._replace(queue=(*state.queue, Wakeup(number, seq, visible=True)))


def _delivering(state: State, number: int) -> State:
    return state._replace(deliveries=(*state.deliveries, Delivery(number, 0)))


def _acked(state: State, number: int) -> State:
    return state._replace(acked=state.acked | {number})


def _stood_still(at: At) -> At:
    return replace(at, held=replace(at.held, live=False), late=True)
