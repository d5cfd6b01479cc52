"""Which record a message belongs to, under whichever of its names a customer writes.

A WhatsApp customer has a business-scoped id and perhaps a number. A message that shows both is
remembered in an alias item (`alias#<id>`), so that one that shows the id alone finds the record
that is kept under the number. A part of `alias#<number>` says the same the other way round, for
who looks for all names of a customer.
"""

from collections import OrderedDict

from replyd.domain import address, routing
from replyd.domain.events import DependencyFailed
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.retention import FOR_EVER, Retention
from replyd.domain.routing import Route
from replyd.errors import DependencyError
from replyd.flows.lookup import CachedLookup
from replyd.ports import Clock, ConversationStore, Telemetry

# In an alias item: the number. Not by the record's name for it, which may be the table's key.
ALIAS_OF = "alias_of"
_REMEMBERED = 10_000
_DAY_MS = 24 * 60 * 60 * 1000
_NO_END = 1 << 62


class FindConversation:
    """Raises as the store does."""

    def __init__(
        self,
        store: ConversationStore,
        clock: Clock,
        telemetry: Telemetry,
        lookup_cache_seconds: float,
        retention: Retention = FOR_EVER,
    ) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._telemetry = telemetry
        self._lookup = CachedLookup(store, clock, lookup_cache_seconds)
        # Ids that this process has put an alias for: the number, for which record, and until when
        # that will do. The alias of a record that was erased went with it.
        self._noted: OrderedDict[str, tuple[str, ConversationKey, int]] = OrderedDict()

    async def __call__(self, message: InboundMessage) -> Route | None:
        """None for somebody who has no conversation with this business."""
        names = address.names_of(message.sender, message.param("ExternalUserId"))
        for name in names:
            if (route := await self._under(name, message)) is not None:
                return route
        if any(address.is_number(name) for name in names):
            return None
        alias = await self._store.get_side(alias_name(message.customer))
        number = str((alias or {}).get(ALIAS_OF, ""))
        return await self._under(number, message) if number else None

    async def _under(self, name: str, message: InboundMessage) -> Route | None:
        return routing.choose(await self._lookup(name, message.sid), message.business)

    async def remember(self, message: InboundMessage, key: ConversationKey) -> None:
        """Both names of a customer, once they are seen together. The message does not depend on
        it: the next one that shows both is another chance."""
        number, *others = address.names_of(message.sender, message.param("ExternalUserId"))
        if not others or not address.is_number(number):
            return
        now = self._clock.now()
        known = self._noted.get(others[0])
        if known is not None and known[:2] == (number, key) and now < known[2]:
            return
        until = self._retention.alias_until(now)
        try:
            # In this order: whoever finds the first one finds the second by it.
            await self._store.put_side(alias_name(number), {}, until, part=others[0])
            await self._store.put_side(alias_name(others[0]), {ALIAS_OF: number}, until)
        except DependencyError as error:
            self._telemetry.emit(DependencyFailed.of(error, "alias"))
            return
        good_until = _NO_END if until is None else now + _DAY_MS
        self._noted[others[0]] = number, key, good_until
        while len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)

    def staged(self, message: InboundMessage, key: ConversationKey) -> None:
        """This record has accepted the message."""
        for name in self._names(message):
            self._lookup.staged(name, key)

    def forget(self, message: InboundMessage) -> None:
        """What is known of the customer may be wrong."""
        for name in self._names(message):
            self._lookup.forget(name)

    def _names(self, message: InboundMessage) -> tuple[str, ...]:
        return address.names_of(message.sender, message.param("ExternalUserId"))


def alias_name(name: str) -> str:
    return f"alias#{name}"
