"""The flows and the runtime, wired to parts of the outside world."""

from dataclasses import dataclass
from functools import partial

from replyd.adapters import aws
from replyd.adapters.twilio.failures import delivery_failure, pauses_sender
from replyd.adapters.twilio.listing import LIST_REQUESTS
from replyd.bootstrap.parts import Parts
from replyd.bootstrap.policies import (
    body_codec,
    longest_turn_seconds,
    new_key,
    policies,
    prices,
    profiles,
    retention,
    session,
)
from replyd.bootstrap.traces import traced
from replyd.domain.callback import status_callback
from replyd.domain.catch_up import CatchUpPolicy
from replyd.domain.routing import OptOutWords, UnknownSenderPolicy
from replyd.domain.session_window import CLOSED_CODE
from replyd.flows.accept_message import AcceptMessage
from replyd.flows.answer_conversation import AnswerConversation
from replyd.flows.catch_up import ArrivalClock, CatchUp, Lately, Verdict
from replyd.flows.contents import ContentReader
from replyd.flows.person import People
from replyd.flows.send_pace import PacedChannel, PacePolicy, SendPace
from replyd.flows.tell_people import TellPeople
from replyd.flows.track_delivery import TrackDelivery
from replyd.flows.workbench import Moderation, Workbench
from replyd.ports import LocalBuffer, Telemetry, Tracing
from replyd.runtime.buffer import Buffer
from replyd.runtime.catch_up import CatchUpService
from replyd.runtime.consumer import ADOPT_SECONDS, Consumer
from replyd.runtime.no_buffer import NoBuffer
from replyd.runtime.progress import REQUEST_SECONDS, Progress
from replyd.settings import Settings


@dataclass(frozen=True, slots=True)
class Daemon:
    """The parts of one process, wired. Without its HTTP servers it is `accept`, and what runs
    when `buffer.run` and each consumer's `run` do."""

    accept: AcceptMessage
    answer: AnswerConversation
    track: TrackDelivery
    buffer: Buffer
    consumers: tuple[Consumer, ...]
    progress: Progress
    catch_up: CatchUpService
    people: People


def daemon(
    settings: Settings, parts: Parts, telemetry: Telemetry, tracing: Tracing | None = None
) -> Daemon:
    """Wire the flows and the runtime to these parts."""
    if tracing is not None:
        parts, telemetry = traced(settings, parts, telemetry, tracing)
    window, policy = policies(settings)
    codec = body_codec(settings)
    contents = _contents(settings, parts, telemetry)
    pace = SendPace(parts.clock, _pace_policy(settings))
    bench = Workbench(
        store=parts.store,
        handoffs=parts.handoffs,
        model=parts.model,
        channel=parts.channel,
        clock=parts.clock,
        ids=parts.ids,
        telemetry=telemetry,
        codec=codec,
        window=window,
        policy=policy,
        owner=parts.owner,
        pace=pace,
        typing=settings.sending.typing,
        session=session(settings),
        send_margin_seconds=settings.watchdog_seconds + settings.twilio.timeout_seconds,
        grace_seconds=settings.grace_seconds,
        status_callback=partial(status_callback, settings.server.public_url),
        address_attribute=settings.conversations.address_attribute,
        history_messages=settings.ai.history_messages,
        keep_messages=settings.history.keep_messages,
        seen_keep=settings.history.seen_keep,
        seen_horizon_ms=settings.history.seen_days * 24 * 60 * 60 * 1000,
        retention=retention(settings),
        apology_text=settings.turn.apology_text,
        stop_text=settings.opt_out.stop_text,
        part_wait_seconds=settings.sending.part_wait_seconds,
        toolbox=parts.toolbox,
        contents=contents,
        profiles=profiles(settings),
        prices=prices(settings),
        moderation=_moderation(settings, parts),
        profile_attribute=settings.ai.profile_attribute,
        assistant_attribute=settings.ai.assistants.attribute,
        bodies=settings.logging.bodies,
    )
    answer = AnswerConversation(bench)
    progress = Progress(parts.clock.elapsed)
    buffer = Buffer(
        answer=answer,
        wakeups=parts.wakeups,
        clock=parts.clock,
        ids=parts.ids,
        telemetry=telemetry,
        progress=progress,
        concurrency=settings.turn.concurrency,
        per_tenant=settings.concurrency_per_business,
        max_held=settings.turn.max_held,
        visibility_seconds=settings.visibility_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        quiet_seconds=settings.window.quiet_seconds,
        turn_seconds=longest_turn_seconds(settings),
        tracing=tracing,
    )
    role = settings.server.role
    local: LocalBuffer = NoBuffer() if role == "webhook" else buffer
    accepting = partial(
        AcceptMessage,
        store=parts.store,
        wakeups=parts.wakeups,
        channel=PacedChannel(parts.channel, pace),
        buffer=local,
        window=window,
        codec=codec,
        unknown=UnknownSenderPolicy(
            settings.unknown_sender.policy, settings.unknown_sender.notice_text
        ),
        new_key=partial(new_key, settings),
        lookup_cache_seconds=settings.conversations.lookup_cache_seconds,
        retention=retention(settings),
        prepare=contents.begin if contents is not None and role != "webhook" else None,
    )
    stop_words, start_words = settings.opt_out.stop_words, settings.opt_out.start_words
    lately = Lately(telemetry)
    accept = accepting(
        clock=parts.clock, telemetry=lately, words=OptOutWords(stop_words, start_words)
    )
    arrival, verdict = ArrivalClock(parts.clock), Verdict(lately)
    catch_up = CatchUp(
        store=parts.store,
        channel=parts.channel,
        clock=parts.clock,
        telemetry=telemetry,
        accept=accepting(clock=arrival, telemetry=verdict, words=OptOutWords(stop_words, ())),
        arrival=arrival,
        verdict=verdict,
        lately=lately,
        policy=_catch_up_policy(settings),
        interval_seconds=settings.catchup.interval_seconds,
    )
    consumers = tuple(
        Consumer(
            wakeups=parts.wakeups,
            buffer=buffer,
            codec=codec,
            channel=parts.channel,
            accept=accept,
            clock=parts.clock,
            ids=parts.ids,
            telemetry=telemetry,
            progress=progress,
            poll_seconds=aws.TRIES * settings.queues.wait_seconds + REQUEST_SECONDS,
            tracing=tracing,
        )
        for _ in range(0 if role == "webhook" else settings.queues.receivers)
    )
    track = TrackDelivery(
        parts.store,
        TellPeople(
            store=parts.store,
            handoffs=parts.handoffs,
            codec=codec,
            address_attribute=settings.conversations.address_attribute,
            explain=partial(_failure, settings),
        ),
        parts.clock,
        telemetry,
        frozenset(settings.delivery.record),
        partial(_throttled, pace),
    )
    catching_up = CatchUpService(
        catch_up=catch_up,
        # Where turns run: who finds messages should be able to answer them.
        accounts=() if role == "webhook" else _accounts(settings),
        interval_seconds=settings.catchup.interval_seconds,
        step_seconds=ADOPT_SECONDS + LIST_REQUESTS * settings.twilio.timeout_seconds,
        progress=progress,
        start_seconds=settings.catchup.start_seconds,
    )
    people = People(bench, _accounts(settings), parts.wakeups)
    return Daemon(accept, answer, track, buffer, consumers, progress, catching_up, people)


def _accounts(settings: Settings) -> tuple[str, ...]:
    twilio = settings.twilio
    return (*twilio.accounts, *(a for a in twilio.account_sids if a not in twilio.accounts))


def _catch_up_policy(settings: Settings) -> CatchUpPolicy:
    catchup = settings.catchup
    return CatchUpPolicy(
        max_age_ms=round(catchup.max_age_seconds * 1000),
        first_ms=round(catchup.first_look_back_seconds * 1000),
        look_back_ms=round(catchup.look_back_seconds * 1000),
        overlap_ms=round(catchup.overlap_seconds * 1000),
        settle_ms=round(catchup.settle_seconds * 1000),
    )


def _failure(settings: Settings, code: str) -> str:
    """What the code means, for people, and what they can do."""
    failure = delivery_failure(code)
    if code == CLOSED_CODE and settings.sending.template_sid:
        failure += "; a person's answer goes out as the template"
    return failure


def _throttled(pace: SendPace, account_sid: str, sender: str, code: str) -> None:
    if pauses_sender(code):
        pace.throttled(account_sid, sender)


def _pace_policy(settings: Settings) -> PacePolicy:
    sending = settings.sending
    return PacePolicy(
        per_second=sending.messages_per_second,
        burst=sending.burst,
        conversation_seconds=sending.per_conversation_seconds,
        instances=sending.instances,
    )


def _contents(settings: Settings, parts: Parts, telemetry: Telemetry) -> ContentReader | None:
    if parts.recordings is None or parts.library is None:
        return None
    return ContentReader(
        recordings=parts.recordings,
        library=parts.library,
        transcriber=parts.transcriber,
        store=parts.store,
        clock=parts.clock,
        telemetry=telemetry,
        words_wait_seconds=settings.voice.wait_seconds,
        file_wait_seconds=settings.media.timeout_seconds,
        max_files=settings.media.max_files,
        concurrency=settings.voice.concurrency,
    )


def _moderation(settings: Settings, parts: Parts) -> Moderation | None:
    rules = settings.moderation
    if parts.moderator is None:
        return None
    return Moderation(parts.moderator, rules.input, rules.output, rules.text)
