"""What workers do in their turns, answer by answer."""

from collections.abc import Iterator

from tests.model import safety
from tests.model.bounds import BEFORE, NOW, Bounds
from tests.model.buffers import Buffers, Move, part_of, placed, visible_again
from tests.model.item import built, executed, facts
from tests.model.names import smallest_unused
from tests.model.requests import (
    Answer,
    Apply,
    AskModel,
    At,
    Await,
    Done,
    Ended,
    Failed,
    Fresh,
    GiveToPeople,
    Grace,
    Json,
    ListSent,
    Never,
    Reaction,
    Unclear,
    WaitWindow,
    Write,
    frozen,
)
from tests.model.sending import sid_of_part
from tests.model.state import Ghost, Part, Slot, State

RENEW = Apply("renew")


def spent(state: State, what: str) -> State:
    left = getattr(state.budget, what) - 1
    return state._replace(budget=state.budget._replace(**{what: left}))


def after_accepting(state: State, part: Part) -> State:
    safety.part_accepted(state, part)
    return state._replace(
        flight=tuple(p for p in state.flight if p != part),
        accepted=(*state.accepted, part),
        louder=min(1, state.louder + facts(state.item).silenced),
    )


class Turns(Buffers):
    """Remembers what every worker does with every answer, so that it is computed once."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self._resumed: dict[tuple[int, Reaction], At | Ended] = {}
        self._executed: dict[tuple[Json, Apply, str, bool], tuple[Json, bool, Json]] = {}

    def _resume(self, state: State, worker: int, answer: Reaction) -> Iterator[tuple[str, State]]:
        number = state.workers[worker].at
        known = self._resumed.get((number, answer))
        if known is None:
            known = self.worker.resume(self.at(number), answer)
            self._resumed[number, answer] = known
        if isinstance(known, Ended):
            yield from self.finished(state, worker, known)
            return
        slot = state.workers[worker]._replace(at=self.number(known))
        state = placed(state, worker, slot)
        if isinstance(known.request, Fresh):
            fresh = Done(smallest_unused("n", self._used(state)))
            yield from self._resume(state, worker, fresh)
        else:
            yield "", state

    def _execute(
        self, item: Json, request: Apply, token: str, *, late: bool
    ) -> tuple[Json, bool, Json]:
        key = (item, request, token, late)
        if key not in self._executed:
            step = built(request, token, BEFORE if late else NOW, self.bounds)
            self._executed[key] = executed(item, step, self.bounds)
        return self._executed[key]

    def worker_moves(self, state: State, worker: int) -> Iterator[Move]:
        at = self.at(state.workers[worker].at)
        name, budget = f"worker {worker}", state.budget
        match at.request:
            case Apply() as step:
                moves = self._applies(state, at, step)
            case Await(part):
                moves = self._awaits(state, part_of(part))
            case _:
                moves = self._effects(state, at)
        for what, cost, answer, after in moves:
            if cost and not getattr(budget, cost):
                continue
            paid = spent(after, cost) if cost else after
            for then, final in self._resume(paid, worker, answer):
                yield f"{name}: {what}{then}", bool(cost), final
        yield from self._ends(state, worker, at)

    def _applies(
        self, state: State, at: At, step: Apply
    ) -> Iterator[tuple[str, str, Reaction, State]]:
        budget, name = state.budget, step.step.upper()
        token = at.held.token or self.fresh_token(state)
        for late in (True, False) if at.late else (False,):
            item, applied, shown = self._execute(state.item, step, token, late=late)
            if applied:
                safety.step_taken(state, item, step.step, token)
            after = state._replace(item=item)
            words = f"{name}{' (late)' * late}{'' if applied else ' refused'}"
            yield words, "", Answer(applied, shown, token, late), after
            if not budget.lost:
                continue
            if applied:
                yield f"{words}, answer lost", "lost", Failed(), after
                second = self._execute(item, step, token, late=late)
                if second != (item, applied, shown):
                    twice = after._replace(item=second[0])
                    if second[1]:
                        safety.step_taken(after, second[0], step.step, token)
                    answer = Answer(second[1], second[2], token, late)
                    yield f"{words}, again by the SDK", "lost", answer, twice
        yield f"{name} fails", "lost", Failed(), state
        ghost = Ghost(step, token, at.late)
        if budget.ghosts:
            yield f"{name} is late", "ghosts", Failed(), haunted(state, ghost)
        item, applied, shown = self._execute(state.item, step, token, late=at.late)
        if budget.repeats and applied:
            answer = Answer(applied, shown, token, at.late)
            twice = haunted(state._replace(item=item), ghost)
            yield f"{name}, which will arrive again", "repeats", answer, twice

    def _awaits(self, state: State, part: Part) -> Iterator[tuple[str, str, Reaction, State]]:
        if part in state.accepted:
            yield f"{part.text} was sent", "", Done(sid_of_part(part.text)), state
        elif part in state.flight:
            rest = state._replace(flight=tuple(p for p in state.flight if p != part))
            yield f"{part.text} refused for now", "refusals", Failed(give_back=True), rest
            yield f"{part.text} refused", "refusals", Never(), rest
        yield f"{part.text} unclear", "lost", Unclear(), state

    def _effects(self, state: State, at: At) -> Iterator[tuple[str, str, Reaction, State]]:
        match at.request:
            case AskModel():
                draft = smallest_unused("d", self._used(state))
                yield f"the model answers {draft}", "", Done(draft), state
                yield "the model is busy", "refusals", Failed(give_back=True), state
                yield "the model refuses", "refusals", Never(), state
                yield from self._renews(state, at)
            case WaitWindow():
                yield "the window has closed", "", Done(), state
                yield from self._renews(state, at)
            case Write() as part:
                if at.held.live:
                    flying = (*state.flight, part_of(part))
                    yield f"sends {part.text}", "", Done(), state._replace(flight=flying)
                else:
                    yield "too little of the lease is left", "", Failed(), state
            case Grace():
                if not state.flight:
                    yield "the grace is over", "", Done(), state
            case ListSent():
                texts = sorted(part.text for part in state.accepted)
                yield f"the list shows {texts}", "", Done(frozen(texts)), state
                yield "the list fails", "lost", Failed(), state
                if self.bounds.on_ambiguous == "handoff":
                    yield "the list cannot be read", "refusals", Never(), state
            case GiveToPeople() as given:
                safety.given_to_people(state, given)
                more = {(sid, given.reason, given.told) for sid in given.sids}
                after = state._replace(people=state.people | more)
                what = f"people get {','.join(given.sids)} ({given.reason})"
                yield what, "", Done(), after
                yield f"{what}, answer lost", "lost", Failed(), after
                yield "people's queue fails", "lost", Failed(), state

    def _renews(self, state: State, at: At) -> Iterator[tuple[str, str, Reaction, State]]:
        token = at.held.token
        item, applied, shown = self._execute(state.item, RENEW, token, late=False)
        if applied:
            safety.step_taken(state, item, "renew", token)
        yield "RENEW", "", Answer(applied, shown, token), state._replace(item=item)

    # --- the end of a worker -------------------------------------------------------------------

    def _ends(self, state: State, worker: int, at: At) -> Iterator[Move]:
        budget, slot = state.budget, state.workers[worker]
        name = f"worker {worker}"
        if budget.redeliveries and visible_again(state, slot) != state:
            shown = spent(visible_again(state, slot), "redeliveries")
            yield f"{name}: its wake-up becomes visible", True, shown
        step = at.request if isinstance(at.request, Apply) else None
        if budget.crashes:
            gone = spent(placed(visible_again(state, slot), worker, Slot()), "crashes")
            yield f"{name}: ends", True, gone
            if step and budget.ghosts:
                late = spent(haunted(gone, Ghost(step, at.held.token, at.late)), "ghosts")
                yield f"{name}: ends, its {step.step} is late", True, late
        if budget.drains:
            yield from self._drains(spent(state, "drains"), worker, at, step)

    def _drains(self, state: State, worker: int, at: At, step: Apply | None) -> Iterator[Move]:
        """The turn is cancelled wherever it waits, and lets go of its lease."""
        befores = [state]
        token = at.held.token or self.fresh_token(state)
        if step:
            item, applied, _ = self._execute(state.item, step, token, late=False)
            if applied:
                safety.step_taken(state, item, step.step, token)
                befores.append(state._replace(item=item))
        for before in befores:
            after = placed(visible_again(before, before.workers[worker]), worker, Slot())
            what = f"worker {worker}: is cancelled"
            if step is None or step.step != "claim":
                drop = at.held.intended == "reply" and not at.held.may_have_sent
                release = Apply("release", (True, drop))
                item, applied, _ = self._execute(after.item, release, at.held.token, late=False)
                if applied:
                    safety.step_taken(after, item, "release", at.held.token)
                after = after._replace(item=item)
            yield what, True, after


def haunted(state: State, ghost: Ghost) -> State:
    return state._replace(ghosts=(*state.ghosts, ghost))
