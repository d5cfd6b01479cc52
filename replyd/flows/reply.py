"""RUN, INTENT, SEND, COMMIT: ask the model once for the burst and send its answer."""

from collections import OrderedDict
from dataclasses import replace

from replyd.domain import prompt, record, routing, steps, turn
from replyd.domain.events import ModelAnswered, ModelAsked
from replyd.domain.record import Entry, Outbox
from replyd.domain.text import split_reply
from replyd.errors import Ambiguous, Permanent, Temporary
from replyd.flows.hand_over import hand_over
from replyd.flows.send import Sent, parts_of, send
from replyd.flows.settle import settle
from replyd.flows.workbench import Account, Outcome, Retry, Settled, Turn
from replyd.ports import Line, ModelReply, ModelRequest

_MAX_DRAFTS = 1_000


class Reply:
    """One instance for all turns of a process."""

    def __init__(self) -> None:
        # Answers that could not be sent yet, by the messages they answer: an outage of the
        # channel must not buy the same answer again at each attempt.
        self._drafts: OrderedDict[tuple[str, ...], ModelReply] = OrderedDict()

    async def __call__(self, held: Turn) -> Outcome:
        """Raises Temporary and its kinds only while nothing can have been sent."""
        while True:
            try:
                reply = await self._ask(held)
            except Permanent as error:
                return await _give_up(held, error, "model")
            outbox = _outbox(held, reply)
            match await _intend(held, outbox):
                case turn.Holds():
                    return await self._send_and_settle(held, outbox, reply)
                case turn.LeaseLost():
                    held.ended("lease_lost", detail="before the reply was sent")
                    return Retry()
                case turn.Silenced(reason):
                    return await hand_over(held, turn.HandOver(reason, held.pending))
                case turn.NewerMessages(conversation):
                    held.account.restarts += 1
                    held.conversation = conversation
                    await held.take(conversation.pending[: turn.MAX_TAKEN])

    async def _ask(self, held: Turn) -> ModelReply:
        bench, account = held.bench, held.account
        if (draft := self._drafts.pop(held.sids, None)) is not None:
            _note(account, draft)
            return draft
        started = bench.clock.now()
        bench.telemetry.emit(ModelAsked(held.key, held.sids, started))
        async with held.lease.kept():
            reply = await bench.model.respond(_request(held))
        if not reply.text.strip():
            raise Permanent("model", "the model answered without text")
        now = bench.clock.now()
        account.model_ms += now - started
        _note(account, reply)
        bench.telemetry.emit(
            ModelAnswered(
                key=held.key,
                sids=held.sids,
                model=reply.model,
                duration_ms=now - started,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                at=now,
            )
        )
        return reply

    async def _send_and_settle(self, held: Turn, outbox: Outbox, reply: ModelReply) -> Outcome:
        sent = await send(held, outbox)
        noted = _with_sids(outbox, sent)
        match sent.stopped:
            case turn.LeaseLost():
                held.ended("lease_lost", detail=f"after {len(sent.sids)} parts were sent")
                return Retry()
            case Ambiguous() as error:
                held.bench.failed("send", error)
                return await hand_over(
                    held, turn.HandOver(turn.AMBIGUOUS, held.pending, error.reason, noted)
                )
            case Permanent() as error if not sent.sids:
                return await _give_up(held, error, "send")
            case Temporary() as error if not sent.sids:
                self._keep_draft(held, reply)
                raise error
        return await _settle(held, noted, sent, reply)

    def _keep_draft(self, held: Turn, reply: ModelReply) -> None:
        self._drafts[held.sids] = reply
        while len(self._drafts) > _MAX_DRAFTS:
            self._drafts.popitem(last=False)


async def _intend(
    held: Turn, outbox: Outbox
) -> turn.Holds | turn.LeaseLost | turn.Silenced | turn.NewerMessages:
    bench, lease = held.bench, held.lease
    held.account.turn_id = outbox.turn_id
    restart = held.account.restarts < bench.policy.max_restarts
    seq = held.conversation.seq if restart else None
    step = steps.intend_reply(lease.token, outbox, lease.expiry(), seq=seq)
    held.intended = "reply"
    result = await bench.store.apply(held.key, step)
    answer = turn.after_intent(
        result, held.read(result), token=lease.token, turn_id=outbox.turn_id, seq=seq
    )
    if isinstance(answer, turn.Holds):
        lease.extended()
    return answer


async def _settle(held: Turn, noted: Outbox, sent: Sent, reply: ModelReply) -> Outcome:
    """COMMIT what was accepted, all of it or the first parts."""
    accepted = tuple(
        e for e in noted.entries if e.get("role") != "assistant" or e.get("message_id")
    )
    whole = sent.stopped is None
    status = record.AI_RESPONSE_SENT if whole else record.REPLY_FAILED
    if not await settle(held, noted, accepted, status=status, thread_id=reply.thread_id):
        held.ended("lease_lost", detail="the reply was sent, COMMIT did not hold")
        return Retry()
    if sent.stopped is None:
        held.ended("replied")
    else:
        detail = f"{len(sent.sids)} of {len(parts_of(noted))} parts were sent"
        held.ended("partly_sent", reason=getattr(sent.stopped, "reason", ""), detail=detail)
    return Settled(max(noted.seqs))


async def _give_up(held: Turn, error: Permanent, operation: str) -> Outcome:
    """Nothing was sent and repeating cannot help: people answer."""
    held.bench.failed(operation, error)
    return await hand_over(held, turn.HandOver(turn.FAILED, held.pending, str(error)))


def _note(account: Account, reply: ModelReply) -> None:
    account.model, account.answer = reply.model, reply.text
    account.input_tokens += reply.input_tokens
    account.output_tokens += reply.output_tokens


def _request(held: Turn) -> ModelRequest:
    conversation = held.conversation
    history = conversation.messages[-held.bench.history_messages :]
    unseen = prompt.unseen_by_thread(history, conversation.thread_id)
    return ModelRequest(
        turn=prompt.burst(t.message for t in held.taken),
        thread_id=conversation.thread_id,
        unseen=tuple(Line(*line) for line in prompt.lines(unseen)),
        history=tuple(Line(*line) for line in prompt.lines(history)),
        conversation_id=conversation.conversation_id,
    )


def _outbox(held: Turn, reply: ModelReply) -> Outbox:
    """The turn as it will stand in the history, parts without a SID yet."""
    turn_id, now = held.bench.ids.fresh(), held.bench.clock.now()
    rows = [(t.message.sid, t.pending.received_at, t.text) for t in held.taken]
    users = routing.user_entries(rows, turn_id)
    parts: list[Entry] = [
        {
            "role": "assistant",
            "content": text,
            "timestamp": record.iso(now),
            "turn_id": turn_id,
            "response_id": reply.thread_id,
        }
        for text in split_reply(reply.text)
    ]
    # Counted once, though the reply may be several messages.
    parts[0] |= {
        "model": reply.model,
        "input_tokens": held.account.input_tokens,
        "output_tokens": held.account.output_tokens,
    }
    return Outbox(
        turn_id=turn_id,
        kind="reply",
        seqs=tuple(p.seq for p in held.pending),
        entries=(*users, *parts),
        at=now,
        delivery={},
    )


def _with_sids(outbox: Outbox, sent: Sent) -> Outbox:
    return replace(
        outbox,
        entries=tuple(
            {**e, "message_id": sent.sids[i], "delivery": "accepted"} if i in sent.sids else e
            for i, e in enumerate(outbox.entries)
        ),
    )
