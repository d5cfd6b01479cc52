"""Voice notes, pictures and documents: what the model gets of them, and when."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from replyd.domain.events import FileRead, ModelAsked, TurnEnded
from replyd.domain.messages import InboundMessage, Media
from replyd.errors import Ambiguous, DependencyError, Permanent, Temporary
from replyd.flows.contents import MAX_BYTES_OF_TURN
from tests.support.faults import FaultyStore
from tests.support.world import KEY, Worker, World, message, received_file, without_times

WORDS = "two loaves for Saturday, please"
LATE = "[sent a voice note (audio/ogg); it could not be read in time]"
UNREAD = "[sent a voice note (audio/ogg); it could not be read]"
TIMEOUT = Temporary("openai", "no answer in time")
DOWN = Temporary("dynamodb", "no answer")


def sent(number: int, *media: Media, body: str = "") -> InboundMessage:
    """A message with files, and without text unless it is given."""
    return replace(message(number), body=body, media=media)


def voice_note(world: World, number: int = 1) -> Media:
    return world.put(received_file(number, "audio/ogg"))


def picture(world: World, number: int) -> Media:
    return world.put(received_file(number, "image/jpeg"), b"picture %d" % number)


def asked(world: World) -> list[str]:
    return [without_times(request.turn) for request in world.model.requests]


def given(world: World) -> list[bytes]:
    """The files of the last request."""
    return [file.data for file in world.model.requests[-1].files]


def read(world: World) -> list[tuple[str, str]]:
    return [(e.kind, e.outcome) for e in world.events(FileRead)]


async def seconds_until_reply(world: World, one: InboundMessage) -> float:
    world.converse()
    async with world.running() as worker:
        started = world.clock.now()
        await worker.accept(one)
        await asyncio.sleep(60)
    return float(world.events(TurnEnded)[-1].at - started) / 1000


# --- voice notes -------------------------------------------------------------------------------


async def test_a_voice_note_is_answered_as_soon_as_a_text() -> None:
    slow = {"quiet_seconds": 5, "max_wait_seconds": 10}
    texts, voices = World(window=slow), World(window=slow)
    voices.transcriber.seconds = 3
    plain = await seconds_until_reply(texts, message(1))
    spoken = await seconds_until_reply(voices, sent(1, voice_note(voices)))
    assert spoken == pytest.approx(plain, abs=0.01)
    assert asked(voices) == [f"[voice note] {WORDS}"]
    assert read(voices) == [("audio", "read")]


async def test_the_history_holds_the_words() -> None:
    world = World()
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert world.history() == [
        ("user", f"[voice note] {WORDS}"),
        ("assistant", f"You said: [voice note] {WORDS}"),
    ]


async def test_text_and_several_voice_notes_of_one_message_keep_their_order() -> None:
    world = World()
    world.transcriber.words = lambda file: file.name[-1]
    notes = [voice_note(world, number) for number in (1, 2)]
    await seconds_until_reply(world, sent(1, *notes, body="listen"))
    assert asked(world) == ["listen\n[voice note] 1\n[voice note] 2"]


async def test_a_voice_note_without_words_says_so() -> None:
    world = World()
    world.transcriber.words = lambda _: " "
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == ["[sent a voice note without words]"]


def another_process(world: World) -> Worker:
    """One that takes webhooks and gets no wake-up."""
    front = world.worker()
    world.workers.clear()
    return front


async def test_the_words_reach_the_process_that_answers_and_are_heard_once() -> None:
    world = World()
    world.converse()
    front = another_process(world)
    one = sent(1, voice_note(world), voice_note(world, 2))
    async with world.running():
        await front.accept(one)
        await asyncio.sleep(20)
    assert len(world.transcriber.recordings) == 2
    assert asked(world) == [f"[voice note] {WORDS}\n[voice note] {WORDS}"]
    for place in (0, 1):
        kept = world.store.side[f"heard#{one.sid}#{place}"]
        assert kept["words"] == WORDS
        assert kept["expires_at"] > world.clock.now() // 1000


async def test_a_message_that_twilio_delivers_to_two_processes_is_heard_once() -> None:
    world = World()
    world.transcriber.seconds = 0.5
    world.converse()
    front, one = another_process(world), sent(1, voice_note(world))
    async with world.running() as worker:
        await front.accept(one)
        await asyncio.sleep(1)
        await worker.accept(one)
        await asyncio.sleep(20)
    assert len(world.transcriber.recordings) == 1
    assert asked(world) == [f"[voice note] {WORDS}"]


async def test_a_process_that_crashed_while_it_listened_costs_no_words() -> None:
    world = World()
    world.transcriber.seconds = 1.5
    world.converse()
    front = another_process(world)
    async with world.running():
        await front.accept(sent(1, voice_note(world)))
        front.wires.cut = True
        await asyncio.sleep(20)
    assert asked(world) == [f"[voice note] {WORDS}"]


class NoReading(FaultyStore):
    async def get_side(self, *_: Any) -> None:
        raise DOWN


class NoWriting(FaultyStore):
    async def put_side(self, *_: Any, **__: Any) -> None:
        raise DOWN


@pytest.mark.parametrize("store", [NoReading, NoWriting])
async def test_words_that_cannot_be_kept_are_heard_again(store: type[FaultyStore]) -> None:
    world = World()
    world.store = store()
    world.converse()
    front = another_process(world)
    async with world.running():
        await front.accept(sent(1, voice_note(world)))
        await asyncio.sleep(20)
    assert asked(world) == [f"[voice note] {WORDS}"]
    assert len(world.transcriber.recordings) == 2


async def test_a_turn_waits_for_the_words_no_longer_than_it_may() -> None:
    world = World(voice={"wait_seconds": 4})
    world.transcriber.seconds = 60
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == [LATE]
    # The window, the wait.
    (event,) = world.events(ModelAsked)
    claimed = world.events(TurnEnded)[0].at - world.events(TurnEnded)[0].total_ms
    assert event.at - claimed == pytest.approx(4_000, abs=10)
    assert read(world)[0] == ("audio", "late")
    assert world.history()[0] == ("user", LATE)


async def test_words_that_came_too_late_serve_a_later_attempt() -> None:
    world = World(voice={"wait_seconds": 4})
    world.transcriber.seconds = 8
    world.model.failures = [TIMEOUT]
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == [LATE, f"[voice note] {WORDS}"]
    assert len(world.transcriber.recordings) == 1
    assert world.history()[0] == ("user", f"[voice note] {WORDS}")


async def test_a_voice_note_that_never_can_be_read_names_the_reason_and_is_heard_once() -> None:
    world = World()
    failure = Permanent("openai", "the recording is damaged")
    world.transcriber.failures = [failure]
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == ["[sent a voice note (audio/ogg); the recording is damaged]"]
    assert len(world.transcriber.recordings) == 1
    assert world.outcomes() == ["replied"]
    # What is kept of the failure does not keep the recording in memory.
    assert failure.__traceback__ is None


async def test_a_voice_note_that_is_gone_names_the_reason() -> None:
    world = World()
    await seconds_until_reply(world, sent(1, received_file(1, "audio/ogg")))
    assert asked(world) == ["[sent a voice note (audio/ogg); there is no such file]"]
    assert world.transcriber.recordings == []


async def test_a_failure_while_the_window_is_open_is_made_good_in_the_turn() -> None:
    world = World()
    world.transcriber.failures = [TIMEOUT]
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == [f"[voice note] {WORDS}"]


async def test_a_voice_note_that_fails_for_now_is_tried_again_at_the_next_attempt() -> None:
    world = World()
    world.transcriber.failures = [TIMEOUT, TIMEOUT]
    world.model.failures = [TIMEOUT]
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == [UNREAD, f"[voice note] {WORDS}"]
    assert ("audio", "failed") in read(world)


@pytest.mark.parametrize("silence", [{"handoff_to_human": True}, {"reply_opted_out": 1}])
async def test_what_no_ai_answers_is_not_transcribed(silence: dict[str, Any]) -> None:
    world = World()
    world.converse(**silence)
    async with world.running() as worker:
        await worker.accept(sent(1, voice_note(world)))
        await asyncio.sleep(20)
    assert world.recordings.requests == []
    assert world.outcomes() == ["handed_over"]


async def test_people_get_the_message_as_it_came() -> None:
    world = World()
    world.model.failures = [Permanent("openai", "refused")]
    one = sent(1, voice_note(world))
    await seconds_until_reply(world, one)
    (body,) = world.handed_over()
    assert body["message"] == one.as_dict()
    assert world.history() == [("user", f"[voice note] {WORDS}")]


async def test_a_process_that_only_takes_webhooks_transcribes_nothing() -> None:
    world = World()
    world.converse()
    async with world.running():
        await world.webhook()(sent(1, voice_note(world)))
        await asyncio.sleep(1.9)
        assert world.recordings.requests == []
        await asyncio.sleep(20)
    assert asked(world) == [f"[voice note] {WORDS}"]


async def test_voice_notes_can_be_left_unread() -> None:
    world = World(voice={"enabled": False})
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert asked(world) == ["[sent a voice note (audio/ogg); its contents cannot be seen here]"]
    assert world.recordings.requests == []


async def test_no_more_voice_notes_at_once_than_allowed() -> None:
    world = World(voice={"concurrency": 1})
    world.transcriber.seconds = 2
    world.converse()
    async with world.running() as worker:
        await worker.accept(sent(1, voice_note(world), voice_note(world, 2)))
        await asyncio.sleep(2)
        assert len(world.recordings.requests) == 1
        await asyncio.sleep(20)
    assert asked(world) == [f"[voice note] {WORDS}\n[voice note] {WORDS}"]


# --- pictures and documents --------------------------------------------------------------------


async def test_files_are_numbered_across_a_burst_in_the_order_they_came() -> None:
    world = World()
    world.converse()
    paper = world.put(received_file(3, "application/pdf"), b"paper")
    async with world.running() as worker:
        await worker.accept(sent(1, picture(world, 1), picture(world, 2), body="look"))
        await worker.accept(sent(2, voice_note(world)))
        await worker.accept(sent(3, paper))
        assert world.library.requests == []
        await asyncio.sleep(20)
    assert asked(world)[0].splitlines() == [
        "look",
        "[sent a picture (image/jpeg): file 1]",
        "[sent a picture (image/jpeg): file 2]",
        f"[voice note] {WORDS}",
        "[sent a PDF document (application/pdf): file 3]",
    ]
    assert given(world) == [b"picture 1", b"picture 2", b"paper"]
    assert sorted(read(world)) == [
        ("audio", "read"),
        ("document", "read"),
        ("image", "read"),
        ("image", "read"),
    ]


async def test_files_beyond_the_limit_are_named_and_not_fetched() -> None:
    world = World(media={"max_files": 2})
    world.converse()
    async with world.running() as worker:
        await worker.accept(sent(1, picture(world, 1)))
        await worker.accept(sent(2, picture(world, 2), picture(world, 3)))
        await asyncio.sleep(20)
    assert asked(world)[0].splitlines() == [
        "[sent a picture (image/jpeg): file 1]",
        "[sent a picture (image/jpeg): file 2]",
        "[sent a picture (image/jpeg); too many files came at once]",
    ]
    assert given(world) == [b"picture 1", b"picture 2"]
    assert len(world.library.requests) == 2


@pytest.mark.parametrize(
    ("content_type", "setting", "named"),
    [
        ("image/jpeg", {"images": False}, "a picture"),
        ("IMAGE/PNG; x=y", {"images": False}, "a picture"),
        ("application/pdf", {"documents": False}, "a PDF document"),
        ("video/mp4", {}, "a video"),
        ("application/zip", {}, "a file"),
        ("image/tiff", {}, "a picture"),
    ],
)
async def test_what_the_model_cannot_take_is_named(
    content_type: str, setting: dict[str, Any], named: str
) -> None:
    world = World(ai=setting)
    file = world.put(received_file(1, content_type))
    await seconds_until_reply(world, sent(1, file))
    assert asked(world) == [f"[sent {named} ({content_type}); its contents cannot be seen here]"]
    assert given(world) == []
    assert world.library.requests == []


async def test_each_profile_takes_its_own_kinds_of_files() -> None:
    world = World(ai={"images": False, "profiles": {"sees": {"images": True}}})
    world.converse(ai_profile="sees")
    async with world.running() as worker:
        await worker.accept(sent(1, picture(world, 1)))
        await asyncio.sleep(20)
    assert given(world) == [b"picture 1"]


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        (Permanent("twilio", "the file is too large"), "the file is too large"),
        (Temporary("twilio", "HTTP 503 instead of the file"), "it could not be read"),
    ],
)
async def test_a_file_that_cannot_be_had_is_named_with_the_reason(
    failure: DependencyError, note: str
) -> None:
    world = World()
    world.library.failures = [failure]
    await seconds_until_reply(world, sent(1, picture(world, 1), picture(world, 2)))
    assert asked(world) == [
        f"[sent a picture (image/jpeg); {note}]\n[sent a picture (image/jpeg): file 1]"
    ]
    assert given(world) == [b"picture 2"]
    assert sorted(read(world)) == [("image", "failed"), ("image", "read")]
    assert world.outcomes() == ["replied"]


async def test_a_file_that_takes_too_long_is_named() -> None:
    world = World(media={"timeout_seconds": 3})
    world.library.seconds = 60
    await seconds_until_reply(world, sent(1, picture(world, 1)))
    assert asked(world) == ["[sent a picture (image/jpeg); it could not be read in time]"]
    assert read(world) == [("image", "late")]


async def test_files_and_words_are_waited_for_side_by_side() -> None:
    world = World(voice={"wait_seconds": 5}, media={"timeout_seconds": 5})
    world.library.seconds = world.transcriber.seconds = 60
    await seconds_until_reply(world, sent(1, voice_note(world), picture(world, 2)))
    (ended,) = world.events(TurnEnded)
    (event,) = world.events(ModelAsked)
    assert event.at - (ended.at - ended.total_ms) == pytest.approx(5_000, abs=10)


async def test_a_restart_with_newer_messages_has_all_files() -> None:
    world = World()
    world.model.seconds = 5
    world.converse()
    async with world.running() as worker:
        await worker.accept(sent(1, picture(world, 1), voice_note(world)))
        await asyncio.sleep(4)
        await worker.accept(sent(2, picture(world, 2)))
        await asyncio.sleep(20)
    assert len(world.channel.accepted) == 1
    assert asked(world)[-1].splitlines() == [
        "[sent a picture (image/jpeg): file 1]",
        f"[voice note] {WORDS}",
        "[sent a picture (image/jpeg): file 2]",
    ]
    assert given(world) == [b"picture 1", b"picture 2"]
    assert len(world.transcriber.recordings) == 1
    assert [role for role, _ in world.history()] == ["user", "user", "assistant"]


async def test_files_come_with_a_message_that_lies_in_an_item_of_its_own() -> None:
    world = World()
    one = sent(1, picture(world, 1), voice_note(world), body="x" * 9_000)
    await seconds_until_reply(world, one)
    assert given(world) == [b"picture 1"]
    assert asked(world)[0].endswith(f"file 1]\n[voice note] {WORDS}")


# --- turns that come back ----------------------------------------------------------------------


async def test_the_history_holds_the_words_of_a_reply_that_was_sent_late() -> None:
    """The answer is kept while the channel is down, and nothing is read a second time for it."""
    world = World()
    world.channel.failures = [Temporary("twilio", "throttled")]
    await seconds_until_reply(world, sent(1, voice_note(world), picture(world, 1)))
    assert len(world.model.requests) == 1
    assert world.history()[0] == (
        "user",
        f"[voice note] {WORDS}\n[sent a picture (image/jpeg): file 1]",
    )


async def test_the_history_holds_the_words_of_a_reply_that_was_sent_again() -> None:
    world = World()
    world.channel.failures = [Ambiguous("twilio", "no answer")]
    world.channel.arrivals = [None]
    await seconds_until_reply(world, sent(1, voice_note(world)))
    assert len(world.channel.accepted) == 1
    assert world.history()[0] == ("user", f"[voice note] {WORDS}")


async def test_the_history_holds_the_words_when_another_process_sends_again() -> None:
    world = World()
    world.converse()
    world.channel.failures = [Ambiguous("twilio", "no answer")]
    world.channel.arrivals = [None]
    async with world.running(2):
        await world.workers[0].accept(sent(1, voice_note(world)))
        while not world.store.applied.count("intend_reply"):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await world.crash(next(w for w in world.workers if w.buffer.running))
        await asyncio.sleep(300)
    assert len(world.channel.accepted) == 1
    assert world.history()[0] == ("user", f"[voice note] {WORDS}")


async def test_files_that_are_too_much_together_are_named() -> None:
    world = World()
    world.converse()
    half = MAX_BYTES_OF_TURN // 2
    pictures = tuple(
        world.put(received_file(n, "image/png"), b"x" * size)
        for n, size in ((1, half), (2, half), (3, 1))
    )
    async with world.running() as worker:
        await worker.accept(message(1, "look", media=pictures))
        await asyncio.sleep(30)
    (request,) = world.model.requests
    assert len(request.files) == 2
    assert request.turn.endswith("[sent a picture (image/png); too much came at once]")


async def test_turns_that_hold_files_wait_for_one_another() -> None:
    """Files are large: a flood of pictures must not fill the memory."""
    world = World()
    world.model.seconds = 10
    keys = [KEY.__class__(f"+4477009000{n:02d}", f"c-{n}") for n in range(20)]
    for key in keys:
        world.converse(key)
    picture = world.put(received_file(1, "image/png"))
    async with world.running() as worker:
        for n, key in enumerate(keys):
            sender = f"whatsapp:{key.partition}"
            await worker.accept(message(n, "look", sender=sender, media=(picture,)))
        await asyncio.sleep(8)
        assert len(world.model.requests) == 8
        await asyncio.sleep(60)
    assert len(world.channel.accepted) == 20


async def test_a_contact_is_read_as_text() -> None:
    world = World()
    world.converse()
    card = world.put(received_file(1, "text/vcard"), b"FN:Ann Baker\nTEL:+44 7700 900123\n")
    async with world.running() as worker:
        await worker.accept(message(1, "call her", media=(card,)))
        await asyncio.sleep(30)
    (request,) = world.model.requests
    assert request.turn == "call her\n[shared a contact: Ann Baker, +44 7700 900123]"
    assert request.files == ()
