"""What a trace shows of a message, on virtual time: the real flows and buffer, OpenTelemetry's SDK,
its spans in memory."""

import asyncio
import json

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from replyd.adapters.memory import Recorder
from replyd.domain import record
from replyd.domain.events import DependencyFailed, Event
from replyd.domain.messages import ConversationKey
from replyd.domain.tools import ToolCall
from replyd.errors import Ambiguous, DependencyDown, Permanent, Temporary
from replyd.ports import NOT_TRACED, ModelReply, ModelRequest, TraceContext
from tests.support.spans import Spans, failure, ids_of, links_of, told, traceparent
from tests.support.world import BUSINESS, CUSTOMER, Worker, World, message

ANSWERED = """\
webhook
  replies send
    turn
      model
      twilio send
      commit"""


def traced(world: World, ratio: float = 1) -> Spans:
    spans = Spans(ratio)
    world.tracing = spans.tracing
    return spans


async def webhook(spans: Spans, worker: Worker, number: int, body: str = "") -> None:
    """What the HTTP server does with a request of Twilio's."""
    with spans.tracing.begin("webhook", "server", {}):
        await worker.accept(message(number, body))


async def test_one_message_is_one_trace() -> None:
    world = World()
    world.converse()
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(20)
    assert spans.trees() == [ANSWERED]
    assert len({ids_of(span)[0] for span in spans.all()}) == 1
    assert not any(failure(span) for span in spans.all())
    accepted, turn, model = spans.one("webhook"), spans.one("turn"), spans.one("model")
    assert told(accepted, "replyd.message_sid") == message(1).sid
    assert told(accepted, "replyd.conversation_id") == "c-1"
    assert told(turn, "replyd.outcome") == "replied"
    assert told(turn, "replyd.wake_up") == "Settled"
    assert told(turn, "replyd.attempt") == 1
    assert told(turn, "replyd.message_sids") == (message(1).sid,)
    assert told(turn, "replyd.reply_sids") == (
        told(spans.one("twilio send"), "messaging.message.id"),
    )
    assert told(model, "gen_ai.request.model") == world.settings.ai.model
    assert told(model, "gen_ai.response.model") == "memory"
    assert told(model, "gen_ai.usage.input_tokens") == 10
    assert told(model, "gen_ai.usage.output_tokens") == 5
    assert told(spans.one("commit"), "replyd.held") is True
    assert links_of(turn) == []


async def test_a_turn_of_three_messages_goes_on_from_one_and_links_the_others() -> None:
    world = World()
    world.converse()
    spans = traced(world)
    async with world.running() as worker:
        for number in (1, 2, 3):
            await webhook(spans, worker, number)
            await asyncio.sleep(0.5)
        await asyncio.sleep(20)
    sends, turn = spans.all("replies send"), spans.one("turn")
    assert turn.parent is not None
    parent = (turn.parent.trace_id, turn.parent.span_id)
    # The last wake-up came while the turn was running.
    assert parent in [ids_of(s) for s in sends]
    assert sorted([parent, *links_of(turn)]) == sorted(ids_of(s) for s in sends)
    assert len({trace_id for trace_id, _ in [parent, *links_of(turn)]}) == 3


async def test_the_next_turn_has_nothing_of_the_last_one() -> None:
    world = World()
    world.converse()
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(20)
        await webhook(spans, worker, 2)
        await asyncio.sleep(20)
    assert spans.trees() == [ANSWERED, ANSWERED]
    assert [links_of(turn) for turn in spans.all("turn")] == [[], []]


async def test_tools_run_between_two_calls_of_the_model() -> None:
    world = World(
        tools={
            "book": {"description": "Books.", "effects": True},
            "look": {"description": "Looks."},
        }
    )
    world.converse()
    spans = traced(world)

    def answer(request: ModelRequest) -> str | ModelReply:
        if request.results:
            return "Done."
        calls = (ToolCall("1", "look", "{}"), ToolCall("2", "book", "{}"))
        return ModelReply("", "resp_1", "memory", 10, 5, calls=calls)

    def no_answer(*_: object) -> str:
        raise Ambiguous("tools", "no answer", code="timeout")

    world.model.answer = answer
    world.toolbox.functions = {"look": lambda *_: "we are open", "book": no_answer}
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(20)
    turn = spans.one("turn")
    children = [s.name for s in spans.all() if s.parent and s.parent.span_id == ids_of(turn)[1]]
    assert children == ["model", "tool", "tool", "model", "twilio send", "commit"]
    look, book = spans.all("tool")
    assert (told(look, "gen_ai.tool.name"), failure(look)) == ("look", None)
    assert (told(book, "gen_ai.tool.name"), failure(book)) == ("book", "Ambiguous")
    assert told(book, "replyd.error_code") == "timeout"
    assert failure(turn) is None


async def test_a_handoff_carries_the_trace_to_people() -> None:
    world = World()
    world.converse(handoff_to_human=True)
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(20)
    (given,) = world.handoffs.traces
    handoff, turn = spans.one("handoff send"), spans.one("turn")
    assert given.traceparent.startswith(traceparent(handoff))
    assert handoff.parent is not None
    assert handoff.parent.span_id == ids_of(turn)[1]
    assert told(turn, "replyd.outcome") == "handed_over"
    assert told(turn, "replyd.reason") == "requested"
    assert len({ids_of(span)[0] for span in spans.all()}) == 1


async def test_a_worker_that_ends_and_the_one_that_goes_on_are_in_one_trace() -> None:
    world = World()
    world.converse()
    world.model.seconds = 5
    spans = traced(world)
    async with world.running(workers=2):
        await webhook(spans, world.workers[0], 1)
        await asyncio.sleep(4)
        await world.crash(next(w for w in world.workers if w.buffer.running))
        await asyncio.sleep(150)
    assert len({ids_of(span)[0] for span in spans.all()}) == 1
    *_, first, last = [t for t in spans.all("turn") if told(t, "replyd.attempt")]
    assert told(last, "replyd.outcome") == "replied"
    assert told(last, "replyd.attempt") == told(first, "replyd.attempt") + 1
    assert last.parent == first.parent


async def test_a_turn_that_comes_back_is_a_second_span_of_the_same_wake_up() -> None:
    world = World()
    world.converse()
    world.model.failures = [Temporary("openai", f"no answer for {CUSTOMER}", code="500")]
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(60)
    first, last = spans.all("turn")
    assert first.parent == last.parent
    assert (told(first, "replyd.outcome"), failure(first)) == ("retry", "retry")
    assert told(first, "replyd.reason") == "openai"
    assert (told(last, "replyd.outcome"), failure(last)) == ("replied", None)
    asked, answered = spans.all("model")
    assert (failure(asked), told(asked, "replyd.dependency")) == ("Temporary", "openai")
    assert failure(answered) is None


async def test_a_draft_that_newer_messages_end_is_cancelled_and_no_failure() -> None:
    world = World()
    world.converse()
    world.model.seconds = 5
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(4)
        await webhook(spans, worker, 2)
        await asyncio.sleep(30)
    turn, (first, last) = spans.one("turn"), spans.all("model")
    assert told(turn, "replyd.interrupted") == "newer_messages"
    assert told(turn, "replyd.restarts") == 1
    assert (told(first, "replyd.cancelled"), failure(first)) == (True, None)
    assert (told(last, "replyd.cancelled"), failure(last)) == (None, None)
    # The second message's wake-up came during the turn.
    (_, second) = spans.all("replies send")
    assert links_of(turn) == [ids_of(second)]


async def test_a_send_without_an_answer_shows_how_it_was_reconciled() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Ambiguous("twilio", "no answer in time")]
    spans = traced(world)
    async with world.running() as worker:
        await webhook(spans, worker, 1)
        await asyncio.sleep(60)
    assert failure(spans.one("twilio send")) == "Ambiguous"
    assert told(spans.one("turn"), "replyd.reconciled") == "accepted"
    assert failure(spans.one("turn")) is None


async def test_a_wake_up_that_is_passed_on_keeps_its_trace() -> None:
    """Another worker holds the lease, so that this one sends a fresh wake-up for later."""
    world = World()
    world.converse()
    spans = traced(world)
    worker = world.worker()
    await webhook(spans, worker, 1)
    expires_at = world.clock.now() + 30_000
    world.item()[record.LEASE] = {"token": "other", "owner": "other", "expires_at": expires_at}
    worker.start()
    await asyncio.sleep(60)
    await worker.stop()
    send, (first, *_, last) = spans.one("replies send"), spans.all("turn")
    assert told(first, "replyd.wake_up") == "PassOn"
    assert told(first, "replyd.outcome") is None
    assert told(last, "replyd.outcome") == "replied"
    assert {turn.parent and turn.parent.span_id for turn in (first, last)} == {ids_of(send)[1]}
    assert len(world.queue.sent) >= 2


async def test_a_wake_up_that_the_queue_did_not_take_goes_on_from_the_webhook() -> None:
    world = World()
    world.converse()
    world.queue.fail["send"] = [DependencyDown("sqs", "unreachable")]
    spans = traced(world)
    async with world.running() as worker:
        with pytest.raises(DependencyDown):
            await webhook(spans, worker, 1)
        await asyncio.sleep(20)
    assert failure(spans.one("replies send")) == "DependencyDown"
    assert failure(spans.one("webhook")) == "DependencyDown"
    turn = spans.one("turn")
    assert turn.parent is not None
    assert turn.parent.span_id == ids_of(spans.one("webhook"))[1]
    assert told(turn, "replyd.outcome") == "replied"


class Watching(Recorder):
    """Which span each failure happened in."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self.failed: dict[str, TraceContext] = {}
        self._spans = spans

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, DependencyFailed):
            self.failed[event.operation] = self._spans.tracing.context()


async def test_what_a_conversation_does_between_turns_is_of_no_trace() -> None:
    """Though a webhook opened it in the buffer, which is over by then."""
    world = World()
    world.converse()
    world.queue.fail["send"] = [DependencyDown("sqs", "unreachable")]
    world.queue.fail["delete"] = [Temporary("sqs", "throttled")]
    spans = traced(world)
    world.telemetry = watching = Watching(spans)
    async with world.running() as worker:
        with pytest.raises(DependencyDown):
            await webhook(spans, worker, 1)
        await webhook(spans, worker, 1)
        await asyncio.sleep(20)
    assert watching.failed == {"delete": NOT_TRACED}


async def test_a_bug_is_in_the_trace() -> None:
    world = World()
    world.converse()
    spans = traced(world)

    def bug(_: ModelRequest) -> str:
        raise ZeroDivisionError(f"{CUSTOMER} said hello")

    world.model.answer = bug
    with capture_logs(processors=[merge_contextvars]) as lines:
        async with world.running() as worker:
            await webhook(spans, worker, 1)
            await asyncio.sleep(10)
    turn = spans.one("turn")
    assert failure(turn) == "ZeroDivisionError"
    assert [line["trace_id"] for line in lines] == [f"{ids_of(turn)[0]:032x}"]
    assert failure(spans.one("model")) == "ZeroDivisionError"


async def test_what_another_handler_queued_goes_on_from_its_trace() -> None:
    """Two Lambdas and a tracing library, say."""
    world = World()
    world.converse()
    spans = traced(world)
    theirs = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1")
    body = json.dumps({"version": 1, "message": message(1).as_dict()})
    async with world.running():
        await world.queue.send(body, 0, theirs)
        await asyncio.sleep(20)
    assert {f"{ids_of(span)[0]:032x}" for span in spans.all()} == {"a" * 32}
    adopted = spans.one("adopt")
    assert adopted.parent is not None
    assert f"{adopted.parent.span_id:016x}" == "b" * 16
    assert told(spans.one("turn"), "replyd.outcome") == "replied"


async def test_a_trace_that_is_not_kept_leaves_no_spans_anywhere() -> None:
    """Who starts a trace decides for all instances."""
    world = World()
    world.converse()
    nothing = traced(world, ratio=0)
    worker = world.worker()
    everything = traced(world)
    world.worker().start()
    await webhook(nothing, worker, 1)
    await asyncio.sleep(20)
    assert world.outcomes() == ["replied"]
    assert nothing.all() == everything.all() == []
    await world.workers[1].stop()


@pytest.mark.parametrize("broken", ["", "no trace", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_a_wake_up_with_a_broken_trace_or_none_is_answered(broken: str) -> None:
    world = World()
    world.converse()
    await world.webhook()(message(1))
    for queued in world.queue.messages.values():
        queued.trace = TraceContext(broken, "=" * 600)
    spans = traced(world)
    async with world.running():
        await asyncio.sleep(20)
    assert told(spans.one("turn"), "replyd.outcome") == "replied"
    assert spans.one("turn").parent is None


async def test_no_span_tells_an_address_or_a_text() -> None:
    """Of a conversation that is named by the customer's number, and whose tool and reply fail."""
    key = ConversationKey(CUSTOMER, CUSTOMER.removeprefix("+"))
    world = World(
        tools={"look": {"description": "Looks."}}, turn={"apology_text": "Sorry, a person answers."}
    )
    world.converse(key)
    spans = traced(world)
    says = f"my number is {CUSTOMER}"

    def answer(request: ModelRequest) -> str | ModelReply:
        if request.results:
            return f"so {says}"
        calls = (ToolCall("1", "look", f'{{"of": "{says}"}}'),)
        return ModelReply("", "resp_1", "memory", 10, 5, calls=calls)

    def refused(*_: object) -> str:
        raise Permanent("tools", f"no {CUSTOMER}", code=CUSTOMER)

    world.model.answer, world.toolbox.functions = answer, {"look": refused}
    world.channel.failures = [Permanent("twilio", f"blocked: {CUSTOMER}", code=CUSTOMER)]
    async with world.running() as worker:
        await webhook(spans, worker, 1, says)
        await asyncio.sleep(60)
    (given,) = world.handed_over()
    assert given["message"]["body"] == says
    said = spans.said()
    assert "replyd.error_code" in said
    for hidden in (CUSTOMER, BUSINESS, "number", "Sorry", "Lee"):
        assert hidden.removeprefix("+") not in said
    assert told(spans.one("webhook"), "replyd.conversation_id") is None
