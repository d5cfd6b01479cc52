"""Erasing a customer: everything that can be reached, and a receipt.

The order is what lets a run that was cut off be repeated: first what only the record leads to, the
record when nothing of that is left, and last the aliases, by which a customer's other names are
known. A record is held by its lease all the while, so that nobody answers from it.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

from replyd.domain import erasure, steps
from replyd.domain.expressions import Refused
from replyd.domain.messages import ConversationKey
from replyd.domain.record import Item
from replyd.errors import DependencyError, ReplydError
from replyd.flows.forget.at_once import at_once
from replyd.flows.forget.receipt import NOT_COMPLETE, Left, Receipt
from replyd.flows.forget.survey import (
    WHAT,
    Found,
    Reach,
    Side,
    Tell,
    look_apart,
    names_of,
    records_of,
    survey,
)
from replyd.flows.lease import Lease
from replyd.ports import Kept, ThreadEraser

__all__ = ["Choice", "Forget", "Left", "Reach", "Receipt", "Tell"]

_LOOK_EVERY_SECONDS = 1.0
_RELEASE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Choice:
    """`even_unanswered`: also while a message waits for its answer, which then never comes.
    `forget_opt_out`: leave no trace of STOP. `wait_seconds`: for turns under way to end."""

    even_unanswered: bool = False
    forget_opt_out: bool = False
    wait_seconds: float = 60.0


class Forget:
    """Raises as the store does; what the vendors refuse is left in the receipt. Both may be
    repeated, whatever became of the run before."""

    def __init__(self, reach: Reach, choice: Choice, tell: Tell = lambda *_: None) -> None:
        self._reach = reach
        self._choice = choice
        self._tell = tell

    async def look(self, customer: str) -> Receipt:
        """What there is; changes nothing."""
        reach = self._reach
        names, aliases = await names_of(reach, customer)
        receipt, items = Receipt(customer, names), {}
        for key in await records_of(reach, names):
            item = await reach.store.read(key)
            if item is not None and not self._is_done(item, receipt):
                items[key] = item
                receipt.waiting += len(reach.read(key, item).pending)
        found = await survey(reach, receipt, items, self._tell)
        receipt.find("table", "aliases", len(aliases))
        await look_apart(reach, receipt, found)
        return receipt

    async def erase(self, customer: str) -> Receipt:
        """Erases it. Nothing is touched while a turn is under way or a message waits."""
        reach = self._reach
        names, aliases = await names_of(reach, customer)
        receipt = Receipt(customer, names)
        keys = await records_of(reach, names)
        async with AsyncExitStack() as leases:
            held = await self._take(keys, receipt, leases)
            if receipt.refused:
                return receipt
            items = {key: item for key, (_, item) in held.items()}
            found = await survey(reach, receipt, items, self._tell)
            receipt.find("table", "aliases", len(aliases))
            await self._erase_threads(found, receipt)
            await self._erase_messages(found, receipt)
            await self._erase_sides([*found.sides, *found.archived], receipt)
            if not receipt.holds_back:
                await self._erase_records(held, receipt)
        if not receipt.left:
            for alias in aliases:
                await self._erase_side(alias, receipt)
        return receipt

    # --- the records ---------------------------------------------------------------------------

    async def _take(
        self, keys: list[ConversationKey], receipt: Receipt, leases: AsyncExitStack
    ) -> dict[ConversationKey, tuple[Lease, Item]]:
        """All of them or none: half a customer is not what anybody asked for."""
        clock = self._reach.clock
        deadline = clock.elapsed() + self._choice.wait_seconds
        held: dict[ConversationKey, tuple[Lease, Item]] = {}
        for done, key in enumerate(keys):
            self._tell("waiting for the conversations", done, len(keys))
            while True:
                refusal = await self._try_take(key, receipt, held, leases)
                if not refusal:
                    break
                if clock.elapsed() + _LOOK_EVERY_SECONDS > deadline:
                    receipt.refused = refusal
                    return {}
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
        return held

    async def _try_take(
        self,
        key: ConversationKey,
        receipt: Receipt,
        held: dict[ConversationKey, tuple[Lease, Item]],
        leases: AsyncExitStack,
    ) -> str:
        """Why it cannot be had now; empty once it is held, or there is nothing to hold."""
        reach = self._reach
        lease = Lease(reach.store, reach.clock, key, reach.ids.fresh(), reach.lease_ms)
        lease.expiry()
        now = reach.clock.now()
        step = erasure.take_to_erase(
            lease.token,
            reach.owner,
            now,
            lease_ms=reach.lease_ms,
            skew_ms=reach.skew_ms,
            even_unanswered=self._choice.even_unanswered,
        )
        item = await reach.store.read(key)
        if item is None or self._is_done(item, receipt):
            return ""
        result = await reach.store.apply(key, step)
        if result.item is None:
            return ""
        conversation = reach.read(key, result.item)
        ours = conversation.lease is not None and conversation.lease.token == lease.token
        if isinstance(result, Refused) and not ours:
            return _why_not(len(conversation.pending))
        lease.extended()
        leases.push_async_callback(self._release, key, lease)
        await leases.enter_async_context(lease.kept())
        held[key] = lease, result.item
        return ""

    def _is_done(self, item: Item, receipt: Receipt) -> bool:
        """Whether nothing is left of a record but STOP, which is to stay."""
        reach = self._reach
        if self._choice.forget_opt_out or not erasure.is_all_kept(
            item, reach.address_attribute, reach.key_names
        ):
            return False
        receipt.kept += 1
        return True

    async def _release(self, key: ConversationKey, lease: Lease) -> None:
        """Without it the lease runs out by itself. A record that is gone refuses it."""
        step = steps.release(lease.token, give_back_attempt=False)
        with suppress(ReplydError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await asyncio.shield(self._reach.store.apply(key, step))

    async def _erase_records(
        self, held: Mapping[ConversationKey, tuple[Lease, Item]], receipt: Receipt
    ) -> None:
        reach = self._reach
        for key, (lease, item) in held.items():
            conversation = reach.read(key, item)
            leaving = None
            if conversation.opted_out and not self._choice.forget_opt_out:
                leaving = erasure.kept_of(item, reach.address_attribute)
            condition = erasure.unchanged(lease.token, conversation.seq)
            result = await reach.store.erase(key, condition, leaving=leaving)
            after = result.item if isinstance(result, Refused) else None
            # An answer that was lost, and the request came once more.
            stays = after is not None and erasure.is_all_kept(
                after, reach.address_attribute, reach.key_names
            )
            if after is not None and not (leaving is not None and stays):
                again = reach.read(key, after).seq != conversation.seq
                receipt.leave("table", "conversations", _NEWER if again else _TAKEN)
                continue
            receipt.erase("table", "conversations")
            receipt.kept += leaving is not None

    # --- the rest ------------------------------------------------------------------------------

    async def _erase_sides(self, sides: list[Side], receipt: Receipt) -> None:
        await at_once(partial(self._erase_side, receipt=receipt), sides)

    async def _erase_side(self, side: Side, receipt: Receipt) -> None:
        if await self._reach.store.delete_side(side.name, part=side.part):
            receipt.erase("table", side.what)

    async def _erase_threads(self, found: Found, receipt: Receipt) -> None:
        """Each thread in its order, and no further where something stays."""
        total = sum(len(kept) for _, kept in found.threads)

        async def erase(thread: tuple[ThreadEraser, list[Kept]]) -> None:
            eraser, kept = thread
            for what in kept:
                name = WHAT[what.kind]
                try:
                    receipt.erase("openai", name, gone=not await eraser.erase(what))
                except DependencyError as error:
                    receipt.leave("openai", name, error.reason)
                    return
                self._tell("erasing at OpenAI", _done(receipt, "openai"), total)

        await at_once(erase, found.threads)

    async def _erase_messages(self, found: Found, receipt: Receipt) -> None:
        reach = self._reach
        known: list[tuple[tuple[str, ...], str, bool]] = [
            *(((m.account_sid,), m.sid, m.inbound) for m in found.messages.values()),
            *((tuple(reach.accounts), sid, True) for sid in sorted(found.unlisted)),
        ]

        async def erase(message: tuple[tuple[str, ...], str, bool]) -> None:
            accounts, sid, inbound = message
            try:
                for account in accounts:
                    fate = await reach.messages.erase(account, sid)
                    if fate == "not_yet":
                        # A customer's message that stays could come back by CATCH-UP.
                        what = "messages" if inbound else NOT_COMPLETE
                        receipt.leave("twilio", what, _NOT_YET)
                        return
                    if fate == "erased":
                        receipt.erase("twilio", "messages")
                        return
            except DependencyError as error:
                receipt.leave("twilio", "messages", error.reason)
                return
            finally:
                self._tell("erasing at Twilio", _done(receipt, "twilio"), len(known))
            receipt.erase("twilio", "messages", gone=True)

        await at_once(erase, known)


_NEWER = "a message came meanwhile: it is answered first, then run this again"
_TAKEN = "its lease was lost to another process: run this again"
_NOT_YET = "Twilio is not done with them, as a rule for some minutes: run this again then"


def _why_not(pending: int) -> str:
    if not pending:
        return "a turn is under way in a conversation of this customer"
    waits = "1 message waits" if pending == 1 else f"{pending} messages wait"
    return f"{waits} for an answer; --even-unanswered erases all the same, and nobody answers"


def _done(receipt: Receipt, where: str) -> int:
    counts = [*receipt.erased.items(), *receipt.gone.items()]
    return sum(count for (place, _), count in counts if place == where)
