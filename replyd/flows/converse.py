"""The model's side of a turn: what it reads, the tools it calls, and how its answer ended."""

from collections.abc import Sequence
from dataclasses import replace

from replyd.domain import address, effects, formatting, output, prompt, turn, usage
from replyd.domain.events import ModelAnswered, ModelAsked
from replyd.domain.record import Conversation
from replyd.domain.tools import HAND_OVER, hand_over_arguments
from replyd.errors import Busy, DependencyDown, KeepsFailing, Permanent
from replyd.flows.compose import Draft, draft_from, fixed_draft
from replyd.flows.tools import called, run_tools
from replyd.flows.workbench import Turn
from replyd.ports import File, Line, ModelReply, ModelRequest


async def converse(held: Turn) -> Draft | effects.HandOver:
    """The reply as it goes out, or that people get the conversation. Raises as the model and the
    store do, TurnOverError, and Permanent for an answer that never comes."""
    reader, messages = held.bench.contents, [t.message for t in held.taken]
    if reader is None or not any(message.media for message in messages):
        return await _converse(held, ())
    images, documents = held.profile.images, held.profile.documents
    async with reader.reading(messages, images=images, documents=documents) as contents:
        # The texts then tell what is in the files, or why they do not.
        held.read_as(contents.notes)
        return await _converse(held, contents.files)


async def _converse(held: Turn, files: Sequence[File]) -> Draft | effects.HandOver:
    asked = "\n".join(t.text for t in held.taken)
    if (stopped := await _moderated(held, "input", asked)) is not None:
        return stopped
    first, again = _request(held, files), False
    while True:
        reply = await _with_tools(held, first)
        if not isinstance(reply, ModelReply):
            return reply
        finish, answer = _read_answer(held, reply)
        if answer.handoff:
            return await _by_ai(held, answer.content, answer.reason, answer.summary)
        if finish == "complete":
            break
        remedy = held.profile.remedies.get(finish, "handoff")
        if remedy != "retry" or again:
            return _without_answer(held, finish, remedy)
        again, first = True, replace(first, again=True)
    if (stopped := await _moderated(held, "output", answer.content)) is not None:
        return stopped
    held.account.answer = answer.content
    return draft_from(_as_sent(held, answer.content), reply, held.account)


async def _with_tools(held: Turn, first: ModelRequest) -> ModelReply | effects.HandOver:
    """The model's last word, behind as many rounds of tools as it wants and may have."""
    request, rounds = first, 0
    while True:
        reply = await _respond(held, request)
        if not reply.calls:
            return reply
        if rounds == held.profile.max_tool_rounds:
            reason = f"the model called tools {rounds} times and did not answer"
            raise Permanent("model", reason, code="tool_rounds")
        rounds += 1
        own = [c for c in reply.calls if c.name != HAND_OVER.name]
        results = await run_tools(held, held.profile, own)
        if len(own) < len(reply.calls):
            return await _handed_over(held, reply)
        request = replace(first, state=reply.state, results=results)


def _without_answer(held: Turn, finish: str, remedy: str) -> Draft | effects.HandOver:
    if remedy == "text":
        return fixed_draft(held.profile.fallback_text, finish)
    detail = f"the model's answer was {finish}"
    held.bench.failed("model", Permanent("model", detail, code=finish))
    return effects.give_up(held.conversation, held.pending, turn.FAILED, detail, held.bench.policy)


def _request(held: Turn, files: Sequence[File]) -> ModelRequest:
    conversation = held.conversation
    kept, thread_id = conversation.messages, conversation.thread_id
    history = kept[max(0, len(kept) - held.bench.history_messages) :]
    unseen = [
        *prompt.undelivered(kept, thread_id),
        *prompt.lines(prompt.unseen_by_thread(kept, thread_id)),
    ]
    return ModelRequest(
        turn=prompt.burst([(t.pending.received_at, t.text) for t in held.taken]),
        thread_id=thread_id,
        unseen=tuple(Line(*line) for line in unseen),
        history=tuple(Line(*line) for line in prompt.lines(history)),
        conversation_id=_known_outside(conversation),
        sids=held.sids,
        customer=conversation.customer,
        business=conversation.company_tel,
        profile=held.profile.name,
        files=tuple(files),
        again=conversation.attempts > 1 or held.account.restarts > 0,
    )


def _known_outside(conversation: Conversation) -> str:
    """The conversation's id, for the vendor's metadata; nothing where it would tell the number:
    tables without a sort key have no other id."""
    named = conversation.conversation_id
    return "" if address.tells(named, conversation.customer) else named


async def _respond(held: Turn, request: ModelRequest) -> ModelReply:
    """One call of the model, counted as what is reserved until its answer tells."""
    bench, account = held.bench, held.account
    started = bench.clock.now()
    bench.telemetry.emit(ModelAsked(held.key, held.sids, started))
    account.calls_open += 1
    try:
        reply = await bench.model.respond(request)
    except KeepsFailing:
        # It may have been carried out: what was reserved stays.
        raise
    except (Busy, DependencyDown, Permanent):
        # Refused, so that nothing was spent.
        account.calls_open -= 1
        raise
    account.calls_open -= 1
    price = usage.price_of(reply.model, bench.prices)
    cost = price.of(
        input_tokens=reply.input_tokens,
        cached_tokens=reply.cached_tokens,
        output_tokens=reply.output_tokens,
    )
    account.answered(reply, cost)
    now = bench.clock.now()
    bench.telemetry.emit(
        ModelAnswered(
            key=held.key,
            sids=held.sids,
            model=reply.model,
            duration_ms=now - started,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            at=now,
            cached_tokens=reply.cached_tokens,
            microdollars=cost,
        )
    )
    return reply


def _read_answer(held: Turn, reply: ModelReply) -> tuple[str, output.Answer]:
    """How it ended, and what it says. A structured answer that is broken says nothing."""
    answer = output.parse(reply.text) if held.profile.structured else output.Answer(reply.text)
    # Markdown can be all marks, of which nothing is left.
    if reply.finish == "complete" and not _as_sent(held, answer.content).strip():
        return "empty", answer
    return reply.finish, answer


def _as_sent(held: Turn, text: str) -> str:
    """In the marks of the channel that the newest message came by, which takes the reply."""
    if not held.profile.formatted:
        return text
    on_whatsapp = held.taken[-1].message.channel == "whatsapp"
    return formatting.whatsapp(text) if on_whatsapp else formatting.plain(text)


async def _handed_over(held: Turn, reply: ModelReply) -> effects.HandOver:
    """The model has called `hand_over`, whatever its arguments look like."""
    call = next(c for c in reply.calls if c.name == HAND_OVER.name)
    reason, summary = hand_over_arguments(call.arguments)
    words = output.parse(reply.text).content if held.profile.structured else reply.text
    return await _by_ai(held, words, reason, summary)


async def _by_ai(held: Turn, words: str, reason: str, summary: str) -> effects.HandOver:
    farewell, withheld = _as_sent(held, words).strip(), ""
    if categories := await _flagged(held, "output", words):
        farewell = _instead(held, "output")
        withheld = f"What the AI wrote to the customer was not sent: {', '.join(categories)}."
    else:
        held.account.answer = words
    return effects.HandOver(
        turn.BY_AI,
        held.pending,
        farewell=farewell,
        # Both are the model's own words, and may quote the customer: for people only.
        summary="\n\n".join(filter(None, (reason, summary, withheld, called(held)))),
        raise_flag=True,
    )


async def _moderated(held: Turn, which: str, text: str) -> Draft | effects.HandOver | None:
    categories = await _flagged(held, which, text)
    if not categories:
        return None
    if instead := _instead(held, which):
        return fixed_draft(instead, turn.FLAGGED)
    return effects.HandOver(turn.FLAGGED, held.pending, f"{which}: {', '.join(categories)}")


async def _flagged(held: Turn, which: str, text: str) -> Sequence[str]:
    """The categories that a text falls into, where somebody wants to know."""
    rules = held.bench.moderation
    if rules is None or rules.outcome(which) == "off" or not text.strip():
        return ()
    return await rules.moderator.flagged(text)


def _instead(held: Turn, which: str) -> str:
    """What is sent instead of a flagged text, or of the answer to one; empty for nothing."""
    rules = held.bench.moderation
    return rules.text if rules is not None and rules.outcome(which) == "text" else ""
