"""Which record a message belongs to, under whichever of its names a customer writes.

A WhatsApp customer has a business-scoped id and perhaps a number. A message that shows both is
remembered in an alias item (`alias#<id>`), so that one that shows the id alone finds the record
that is kept under the number.
"""

from collections import OrderedDict

from replyd.domain import address, record, routing
from replyd.domain.events import DependencyFailed
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.routing import Route
from replyd.errors import DependencyError
from replyd.flows.lookup import CachedLookup
from replyd.ports import Clock, ConversationStore, Telemetry

_REMEMBERED = 10_000


class FindConversation:
    """Raises as the store does."""

    def __init__(
        self,
        store: ConversationStore,
        clock: Clock,
        telemetry: Telemetry,
        lookup_cache_seconds: float,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._lookup = CachedLookup(store, clock, lookup_cache_seconds)
        # Ids that this process has put an alias for, or knows to have none to put.
        self._noted: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, message: InboundMessage) -> Route | None:
        """None for somebody who has no conversation with this business."""
        names = address.names_of(message.sender, message.param("ExternalUserId"))
        for name in names:
            if (route := await self._under(name, message)) is not None:
                return route
        if any(address.is_number(name) for name in names):
            return None
        alias = await self._store.get_side(_alias(message.customer))
        number = str((alias or {}).get(record.RECIPIENT_TEL, ""))
        return await self._under(number, message) if number else None

    async def _under(self, name: str, message: InboundMessage) -> Route | None:
        return routing.choose(await self._lookup(name, message.sid), message.business)

    async def remember(self, message: InboundMessage) -> None:
        """Both names of a customer, once they are seen together. The message does not depend on
        it: the next one that shows both is another chance."""
        number, *others = address.names_of(message.sender, message.param("ExternalUserId"))
        if not others or not address.is_number(number) or self._noted.get(others[0]) == number:
            return
        try:
            await self._store.put_side(_alias(others[0]), {record.RECIPIENT_TEL: number}, None)
        except DependencyError as error:
            self._telemetry.emit(DependencyFailed.of(error, "alias"))
            return
        self._noted[others[0]] = number
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


def _alias(name: str) -> str:
    return f"alias#{name}"
