"""What people do with a conversation: answer in it, take it from the AI, give it back."""

import asyncio
from collections.abc import Collection
from contextlib import suppress

from replyd.domain import effects, person_steps, recovery, steps, turn
from replyd.domain.content_template import ContentTemplate
from replyd.domain.events import PersonActed
from replyd.domain.expressions import Applied, Step
from replyd.domain.messages import ConversationKey, InboundMessage
from replyd.domain.record import Conversation, Outbox
from replyd.domain.window import delay_seconds
from replyd.errors import Ambiguous, DependencyError, Permanent, ReplydError, Temporary
from replyd.flows import outside_window
from replyd.flows.account import Account
from replyd.flows.lease import Lease
from replyd.flows.person_answer import (
    BUSY,
    KEY_USED,
    NO_CONVERSATION,
    OPTED_OUT,
    Answered,
    Declined,
    Request,
    as_recorded,
    part_of,
)
from replyd.flows.person_route import Routes
from replyd.flows.send import Route, Sent, send
from replyd.flows.settle import settle_person
from replyd.flows.workbench import Turn, Workbench
from replyd.ports import WakeupQueue

# How long a person waits for the AI to end its turn.
WAIT_SECONDS = 20.0
_LOOK_EVERY_SECONDS = 1.0
_TRIES = 3
_RELEASE_SECONDS = 3.0


class People:
    """Never raises a DependencyError from `reply` once something may have been sent; else as the
    store does. `accounts`: the account SIDs of the settings."""

    def __init__(self, bench: Workbench, accounts: Collection[str], wakeups: WakeupQueue) -> None:
        self._bench = bench
        self._wakeups = wakeups
        self._routes = Routes(bench.channel, accounts)

    async def hand_off(self, key: ConversationKey, *, author: str, reason: str) -> bool:
        """People have the conversation; false when it does not exist. Raises as the store does."""
        step = person_steps.take_over(author, reason, self._bench.clock.now())
        return await self._apply("handoff", key, author, step)

    async def release(self, key: ConversationKey, *, author: str) -> bool:
        """The AI answers what comes next; else as `hand_off`."""
        step = person_steps.give_back(self._bench.clock.now())
        return await self._apply("release", key, author, step)

    async def _apply(self, action: str, key: ConversationKey, author: str, step: Step) -> bool:
        done = isinstance(await self._bench.store.apply(key, step), Applied)
        self._acted(key, action, author, "done" if done else "no_conversation")
        return done

    async def reply(self, key: ConversationKey, request: Request) -> Answered | Declined:
        """Sends the text, once for each key, and takes the conversation from the AI. Waits up to
        WAIT_SECONDS for a turn of the AI's to end. Raises as the store does, while nothing can
        have been sent."""
        try:
            answer = await self._reply(key, request)
        except DependencyError:
            self._acted(key, "reply", request.author, "failed")
            raise
        if isinstance(answer, Declined):
            outcome: str = answer.reason
        else:
            outcome = "again" if answer.again else answer.delivery
        self._acted(key, "reply", request.author, outcome, request.turn_id)
        return answer

    async def _reply(self, key: ConversationKey, request: Request) -> Answered | Declined:
        item = await self._bench.store.read(key)
        conversation = self._bench.read(key, Applied(item)) if item is not None else None
        if conversation is None:
            return NO_CONVERSATION
        # Before the lease is asked for: who cannot answer should not keep the AI waiting.
        if (known := self._known(conversation, request)) is not None:
            return known
        held = await self._take(key)
        if isinstance(held, Declined):
            return held
        try:
            return await self._carry_out(held, request)
        except DependencyError as error:
            self._bench.failed("person", error)
            await self._release(held)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._release(held))
            raise

    def _known(self, conversation: Conversation, request: Request) -> Answered | Declined | None:
        """What can be said without sending anything."""
        said = person_steps.said_in(conversation, request.turn_id)
        if said or conversation.last_turn == request.turn_id:
            if not {e.get("content") for e in said} <= set(request.parts):
                return KEY_USED
            return Answered(request.turn_id, as_recorded(said, request.parts), again=True)
        if conversation.opted_out:
            return OPTED_OUT
        form = self._form(conversation, request)
        return form if isinstance(form, Declined) else None

    def _form(
        self, conversation: Conversation, request: Request
    ) -> ContentTemplate | Declined | None:
        """Outside of WhatsApp's window the template, else None; or why nothing can be sent."""
        route = self._routes(conversation, request)
        if isinstance(route, Declined):
            return route
        return outside_window.of_person(self._bench, conversation, request, route)

    # --- TAKE ------------------------------------------------------------------------------------

    async def _take(self, key: ConversationKey) -> Turn | Declined:
        """Waits for the AI to end its turn. Raises as the store does."""
        bench = self._bench
        deadline = bench.clock.elapsed() + WAIT_SECONDS
        failure: Temporary | None = None
        while True:
            lease = Lease(bench.store, bench.clock, key, bench.ids.fresh(), bench.policy.lease_ms)
            try:
                taken = await self._try_take(key, lease)
            except Temporary as error:
                bench.failed("person", error)
                taken, failure = None, error
            if isinstance(taken, Turn | Declined):
                return taken
            if bench.clock.elapsed() + _LOOK_EVERY_SECONDS > deadline:
                if failure is not None:
                    raise failure
                return BUSY
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _try_take(self, key: ConversationKey, lease: Lease) -> Turn | Declined | None:
        bench, policy = self._bench, self._bench.policy
        item = await bench.store.read(key)
        conversation = bench.read(key, Applied(item)) if item is not None else None
        if conversation is None:
            return NO_CONVERSATION
        now = bench.clock.now()
        if not person_steps.is_to_be_had(conversation, now=now, skew_ms=policy.skew_ms):
            return None
        for attempt in range(1, _TRIES + 1):
            lease.expiry()
            now = bench.clock.now()
            step = person_steps.take(
                lease.token, bench.owner, now, lease_ms=policy.lease_ms, skew_ms=policy.skew_ms
            )
            try:
                result = await bench.store.apply(key, step)
            except Temporary as error:
                # It may have held: the same token finds that out.
                if attempt == _TRIES:
                    raise
                bench.failed("person", error)
                continue
            answer = person_steps.after_take(
                result, bench.read(key, result), token=lease.token, now=now, skew_ms=policy.skew_ms
            )
            if isinstance(answer, turn.NoSuchConversation):
                return NO_CONVERSATION
            if isinstance(answer, turn.HeldElsewhere):
                return None
            lease.extended()
            return await self._usable(Turn(bench, lease, answer.conversation, Account(now)))
        return None

    async def _usable(self, held: Turn) -> Turn | None:
        """None when the conversation is not a person's to go on with yet."""
        if effects.has_apologised(held.conversation):
            await self._release(held)
            return None
        if (found := held.conversation.outbox) is None:
            return held
        # A process ended while it sent a person's answer: it counts as sent.
        await settle_person(held, recovery.unknown_delivery(found))
        return None

    # --- INTENT, SEND, COMMIT --------------------------------------------------------------------

    async def _carry_out(self, held: Turn, request: Request) -> Answered | Declined:
        outbox = self._outbox(held.conversation, request)
        await self._insure(held, request)
        intended = await self._intend(held, outbox, request)
        if not isinstance(intended, Route):
            return intended
        try:
            sent = await send(held, outbox, {}, route=intended)
        except DependencyError as error:
            # An ARM that failed, behind parts that were accepted in order.
            sids = dict(zip((i for i, _ in outbox.parts), held.account.reply_sids, strict=False))
            sent = Sent(sids, error)
        if not held.may_have_sent:
            return await self._nothing_sent(held, sent)
        unsure = None
        if isinstance(sent.stopped, Ambiguous):
            unsure = next(i for i, _ in outbox.parts if i not in sent.sids)
        known = person_steps.with_fates(outbox, sent.sids, unsure=unsure)
        if isinstance(sent.stopped, DependencyError):
            self._bench.failed("send", sent.stopped)
        # Where it does not hold, whoever comes next finds the outbox, and writes it down.
        await settle_person(held, known)
        return Answered(request.turn_id, tuple(map(part_of, known.entries)), why=_why(sent))

    async def _insure(self, held: Turn, request: Request) -> None:
        """A wake-up for the time when the lease has run out: should this process end while it
        sends, a worker writes down what it did. Best effort: the customer's next message leads
        there too."""
        conversation, policy = held.conversation, self._bench.policy
        free_at = self._bench.clock.now() + policy.lease_ms + 2 * policy.skew_ms
        body = self._bench.codec.encode(
            key=held.key,
            # Without a seq it would be a message to stage.
            seq=max(1, conversation.seq),
            received_at=self._bench.clock.now(),
            message=InboundMessage(
                request.turn_id, conversation.customer, conversation.company_tel
            ),
            conversation_id=conversation.conversation_id,
            company_tel=conversation.company_tel,
        )
        try:
            await self._wakeups.send(body, delay_seconds(free_at, self._bench.clock.now()))
        except DependencyError as error:
            self._bench.failed("person", error)

    def _outbox(self, conversation: Conversation, request: Request) -> Outbox:
        now = self._bench.clock.now()
        entries = person_steps.entries_of(
            request.parts, author=request.author, turn_id=request.turn_id, now=now
        )
        form = self._form(conversation, request)
        if isinstance(form, ContentTemplate):
            entries = outside_window.filled(form, conversation, entries)
        return Outbox(request.turn_id, person_steps.PERSON, (), entries, now, delivery={})

    async def _intend(
        self, held: Turn, outbox: Outbox, request: Request
    ) -> Route | Answered | Declined:
        """Where to send, once the answer is written down."""
        bench, lease, conversation = self._bench, held.lease, held.conversation
        for attempt in range(1, _TRIES + 1):
            if (known := self._known(conversation, request)) is not None:
                await self._release(held)
                return known
            step = person_steps.intend_person(
                lease.token,
                outbox,
                lease.expiry(),
                bench.clock.now(),
                known=len(conversation.messages),
            )
            held.intended = person_steps.PERSON
            try:
                result = await bench.store.apply(held.key, step)
            except Temporary as error:
                if attempt == _TRIES:
                    raise
                bench.failed("person", error)
                continue
            answer = person_steps.after_intend_person(
                result, held.read(result), token=lease.token, turn_id=outbox.turn_id
            )
            match answer:
                case turn.Holds():
                    lease.extended()
                    route = self._routes(conversation, request)
                    assert isinstance(route, Route)
                    return route
                case person_steps.Changed(conversation):
                    continue
                case turn.Silenced():
                    await self._release(held)
                    return OPTED_OUT
                case turn.LeaseLost():
                    return BUSY
        await self._release(held)
        return BUSY

    async def _nothing_sent(self, held: Turn, sent: Sent) -> Declined:
        await self._release(held)
        match sent.stopped:
            case Permanent() as error:
                return Declined("not_sent", error.reason, error.code)
            case DependencyError() as error:
                self._bench.failed("send", error)
                text = f"it was not sent: {error.reason}; send it again in a moment"
                return Declined("try_again", text, error.code)
            case _:
                return BUSY

    async def _release(self, held: Turn) -> None:
        """Without it the lease runs out by itself, and the outbox counts as sent."""
        step = steps.release(
            held.lease.token,
            give_back_attempt=False,
            drop_outbox=bool(held.intended) and not held.may_have_sent,
        )
        with suppress(ReplydError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._bench.store.apply(held.key, step)

    def _acted(
        self, key: ConversationKey, action: str, author: str, outcome: str, turn_id: str = ""
    ) -> None:
        now = self._bench.clock.now()
        self._bench.telemetry.emit(
            PersonActed(key, key.sort or key.partition, action, author, outcome, now, turn_id)
        )


def _why(sent: Sent) -> str:
    match sent.stopped:
        case DependencyError() as error:
            return error.reason
        case turn.Silenced():
            return "the customer has opted out meanwhile"
        case turn.LeaseLost():
            return "another process has taken the conversation over"
        case _:
            return ""
