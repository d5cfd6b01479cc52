"""The table, shared by all instances of a run: a step happens at one instant."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from replyd.adapters.memory.store import MemoryStore, holds, perform
from replyd.domain.expressions import Applied, DropHead, Refused, Step, StepResult
from replyd.domain.messages import ConversationKey

T = TypeVar("T")
Item = dict[str, Any]
# Who, key, step, the item before, the item after.
StepObserver = Callable[[str, ConversationKey, Step, Item, Item], None]


class Table(MemoryStore):
    """The in-memory store without its copies: items are never changed in place, so that they can
    be handed out as they are. A run spends most of its time here."""

    def __init__(self, observer: StepObserver) -> None:
        super().__init__()
        self._observer = observer

    def apply_now(self, who: str, key: ConversationKey, step: Step) -> StepResult:
        item = self.items.get(key)
        if not holds(step.condition, item):
            return Refused(item)
        before = self._keyed(key) if item is None else item
        after = _writable(before, step)
        touched = perform(step.actions, after, copied=_as_it_is)
        self.items[key] = after
        self._observer(who, key, step, before, after)
        if step.returns == "item":
            return Applied(after)
        if step.returns == "touched":
            return Applied({name: after[name] for name in touched if name in after})
        return Applied({})


def _as_it_is(value: Any) -> Any:
    return value


def _writable(item: Item, step: Step) -> Item:
    """A copy as deep as the step's actions write."""
    fresh = dict(item)
    for action in step.actions:
        path = action.path if isinstance(action, DropHead) else action.path[:-1]
        parent: Any = fresh
        for name in path:
            try:
                child = parent[name]
            except (KeyError, IndexError):
                break
            parent[name] = list(child) if isinstance(child, list) else dict(child)
            parent = parent[name]
    return fresh


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Run an in-memory twin's coroutine, which only yields to the loop, without the loop."""
    while True:
        try:
            call.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
