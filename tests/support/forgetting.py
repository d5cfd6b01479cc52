"""What there is of a customer of a World, at its vendors too, and who erases it."""

from typing import Any

from replyd.adapters.memory import CountingIds
from replyd.adapters.memory.erasure import MemoryMessages, MemoryThreads
from replyd.adapters.memory.operations import MemoryTable
from replyd.domain import record
from replyd.domain.messages import ConversationKey
from replyd.flows.forget import Choice, Forget, Reach, Receipt
from replyd.ports import Kept, KeptMessage
from tests.support.world import ACCOUNT, CUSTOMER, KEY, World

OTHER_ACCOUNT = "AC" + "9" * 32


class Office:
    """`messages` and `threads`: the vendors. `other_threads`: of another key."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.messages = MemoryMessages()
        self.threads = MemoryThreads()
        self.other_threads = MemoryThreads()
        self.told: list[tuple[str, int, int]] = []

    @property
    def reach(self) -> Reach:
        world, policy = self.world, self.world.settings.turn
        return Reach(
            store=world.store,
            table=MemoryTable(world.store),
            messages=self.messages,
            accounts=(ACCOUNT, OTHER_ACCOUNT),
            threads=(
                (frozenset({""}), self.threads),
                (frozenset({"sales"}), self.other_threads),
            ),
            profile_of=lambda conversation: conversation.profile,
            clock=world.clock,
            ids=CountingIds("eraser"),
            owner="eraser",
            lease_ms=round(policy.lease_seconds * 1000),
            skew_ms=round(policy.clock_skew_seconds * 1000),
            address_attribute=record.RECIPIENT_TEL,
            key_names=(record.RECIPIENT_TEL, record.CONVERSATION_ID),
        )

    def keep(self, sid: str, *, inbound: bool = True, name: str = CUSTOMER, files: int = 0) -> None:
        """Twilio keeps a message."""
        kept = KeptMessage(ACCOUNT, sid, inbound, files)
        self.messages.messages.setdefault(f"whatsapp:{name}", []).append(kept)

    def chain(self, *ids: str) -> None:
        """OpenAI keeps a chain of responses, oldest first."""
        self.threads.threads[ids[-1]] = [Kept("response", name) for name in ids]

    async def look(self, customer: str = CUSTOMER) -> Receipt:
        return await Forget(self.reach, Choice(), self._tell).look(customer)

    async def forget(self, customer: str = CUSTOMER, **choice: Any) -> Receipt:
        return await Forget(self.reach, Choice(**choice), self._tell).erase(customer)

    def _tell(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))

    def traces(self, *words: str) -> list[str]:
        """Where any of these words still is."""
        store = self.world.store
        places: list[object] = [*store.items.items(), *store.side.items()]
        places += [*self.messages.messages.items(), *self.threads.threads.items()]
        return [str(p) for p in places if any(w in str(p) for w in words) and not _is_empty(p)]


def _is_empty(place: object) -> bool:
    return isinstance(place, tuple) and place[1] == []


def stop(world: World, key: ConversationKey = KEY) -> None:
    """The customer has said STOP."""
    world.store.items[key][record.OPTED_OUT] = "2026-11-22T10:00:00.000Z"
