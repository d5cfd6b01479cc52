"""The main job by a real process: sockets, ministack, and doubles of the vendors."""

import asyncio
import json
import os
import signal
import sys

import pytest

from replyd.domain import record, steps
from replyd.domain.messages import ConversationKey
from tests.process.conftest import BUSINESS, COMMAND, CUSTOMER, KEY, Town

# Than a test lasts.
LATER = (600.0, 600.0)


async def test_a_message_is_answered_with_seven_requests(town: Town) -> None:
    # The report that the reply was delivered costs one more.
    town.twilio.callback_delays = LATER
    await town.converse()
    process = await town.serve(*COMMAND, "serve", REPLYD_QUEUES__DEPTH_SECONDS="0")
    await town.count()
    assert (await town.twilio.receive(CUSTOMER, "are you open on sunday?")).status == 200
    item = await town.settled(2)
    # The lookup; STAGE, CLAIM, INTENT and COMMIT; the wake-up and its end.
    assert await town.counted() == {
        "Query": 1,
        "UpdateItem": 4,
        "SendMessage": 1,
        "DeleteMessageBatch": 1,
    }
    assert [m["role"] for m in item[record.MESSAGES]] == ["user", "assistant"]
    assert [line.text for line in town.twilio.sent] == [item[record.MESSAGES][1]["content"]]
    assert item[record.MESSAGES][1]["message_id"] == town.twilio.sent[0].sid
    (request,) = town.openai.requests
    assert request["input"][-1]["content"] == "are you open on sunday?"
    (turn,) = [line for line in process.lines if line["event"] == "turn_ended"]
    assert turn["outcome"] == "replied"
    assert turn["messages"] == 1


async def test_a_burst_of_three_is_one_turn_with_eleven_requests(town: Town) -> None:
    town.twilio.callback_delays = LATER
    await town.converse()
    await town.serve(REPLYD_QUEUES__DEPTH_SECONDS="0")
    await town.count()
    for text in ("hi", "I have a question", "are you open on sunday?"):
        assert (await town.twilio.receive(CUSTOMER, text)).status == 200
        await asyncio.sleep(1)
    item = await town.settled(4)
    assert await town.counted() == {
        "Query": 1,
        "UpdateItem": 6,
        "SendMessage": 3,
        "DeleteMessageBatch": 1,
    }
    assert len(town.openai.requests) == 1
    assert len(town.twilio.sent) == 1
    assert [m["content"] for m in item[record.MESSAGES][:3]] == [
        "hi",
        "I have a question",
        "are you open on sunday?",
    ]


async def test_the_next_turn_goes_on_with_the_thread(town: Town) -> None:
    await town.converse(thread_id="thread_of_the_assistants_api")
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    await town.twilio.receive(CUSTOMER, "hi")
    first = await town.settled(2)
    await town.twilio.receive(CUSTOMER, "and on monday?")
    second = await town.settled(4)
    assert first[record.THREAD_ID].startswith("resp_")
    assert second[record.THREAD_ID] != first[record.THREAD_ID]
    before, after = town.openai.requests
    assert "previous_response_id" not in before
    assert after["previous_response_id"] == first[record.THREAD_ID]


async def test_the_flag_gives_messages_to_people(town: Town) -> None:
    await town.converse()
    await town.serve()
    await town.store.apply(KEY, steps.set_handoff(True))
    await town.twilio.receive(CUSTOMER, "I want to talk to a person")
    (body,) = await town.handed_over(1)
    assert body["handoff_reason"] == "requested"
    assert body["message"]["body"] == "I want to talk to a person"
    assert body["message"]["params"]["ProfileName"] == "Lee"
    item = await town.settled(1)
    assert item[record.STATUS] == "handed_to_human"
    assert town.twilio.sent == []


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "dropped"])
async def test_a_send_without_an_answer_is_looked_up_in_the_list(
    town: Town, accepted: bool
) -> None:
    await town.converse()
    process = await town.serve(
        REPLYD_WINDOW__QUIET_SECONDS="0.2", REPLYD_TWILIO__TIMEOUT_SECONDS="1"
    )
    town.twilio.drop_next(accept=accepted)
    await town.twilio.receive(CUSTOMER, "hi")
    item = await town.settled(2)
    assert item[record.STATUS] == "ai_response_sent"
    (sent,) = town.twilio.sent
    assert item[record.MESSAGES][-1]["message_id"] == sent.sid
    assert len(town.openai.requests) == 1
    (line,) = [line for line in process.lines if line["event"] == "send_reconciled"]
    assert line["outcome"] == ("accepted" if accepted else "sent_again")
    _, metrics = await process.get("/metrics")
    assert f'replyd_sends_reconciled_total{{outcome="{line["outcome"]}"}} 1.0' in metrics


async def test_a_list_that_cannot_be_read_leaves_an_unclear_send_to_people(town: Town) -> None:
    await town.converse()
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2", REPLYD_TWILIO__TIMEOUT_SECONDS="1")
    town.twilio.drop_next(accept=True)
    town.twilio.fail_list_next(status=403, code=20403)
    await town.twilio.receive(CUSTOMER, "hi")
    (body,) = await town.handed_over(1)
    assert body["handoff_reason"] == "ambiguous"
    assert town.twilio.sent[0].text in body["handoff_summary"]
    item = await town.settled(2)
    assert item[record.STATUS] == "reply_failed"
    assert item[record.FAILURE]["reason"] == "ambiguous"
    assert len(town.twilio.sent) == 1


async def test_a_reply_that_was_not_delivered_reaches_people(town: Town) -> None:
    await town.converse()
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    town.twilio.fail_delivery_next(code=63016)
    await town.twilio.receive(CUSTOMER, "hi")
    (body,) = await town.handed_over(1)
    (sent,) = town.twilio.sent
    assert (body["handoff_reason"], body["handoff_summary"]) == ("undelivered", sent.text)
    assert body["message"]["body"] == "hi"
    item = await town.settled(2)
    assert item[record.MESSAGES][-1]["delivery"] == "undelivered"
    await town.logged(process, "delivery_reported", status="undelivered", people_told=True)


async def test_a_customer_is_told_once_that_no_answer_will_come(town: Town) -> None:
    await town.converse()
    await town.serve(
        REPLYD_WINDOW__QUIET_SECONDS="0.2",
        REPLYD_TURN__MAX_ATTEMPTS="1",
        REPLYD_TURN__APOLOGY_TEXT="Sorry, a colleague will answer you.",
    )
    town.openai.fail_next(9, status=500)
    await town.twilio.receive(CUSTOMER, "hi")
    (body,) = await town.handed_over(1)
    assert body["handoff_reason"] == "failed"
    assert "HTTP 500" in body["handoff_detail"]
    assert [line.text for line in town.twilio.sent] == ["Sorry, a colleague will answer you."]
    item = await town.settled(2)
    assert item[record.FAILURE]["detail"] == body["handoff_detail"]


async def test_a_newer_message_cancels_the_call_of_the_model(town: Town) -> None:
    await town.converse()
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.5")
    town.openai.delay = 4
    await town.twilio.receive(CUSTOMER, "one")
    await town.logged(process, "model_asked")
    await town.twilio.receive(CUSTOMER, "two")
    await town.logged(process, "model_interrupted", reason="newer_messages")
    town.openai.delay = 0
    await town.settled(3)
    assert len(town.twilio.sent) == 1
    assert len(town.openai.requests) == 2


async def test_two_instances_answer_one_burst_once(town: Town) -> None:
    await town.converse()
    first, second = await town.serve(), await town.serve()
    for number in range(6):
        town.twilio.deliver_to = (first, second)[number % 2].webhooks
        await town.twilio.receive(CUSTOMER, f"message {number}")
    item = await town.settled(7)
    contents = [m["content"] for m in item[record.MESSAGES]]
    assert contents[:6] == [f"message {number}" for number in range(6)]
    assert len(town.twilio.sent) == 1
    assert len(town.openai.requests) == 1


async def test_a_business_scoped_id_and_a_location_are_answered(town: Town) -> None:
    key = ConversationKey("US.ABC123", "c-2")
    await town.converse(key)
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    delivery = await town.twilio.receive(
        "US.ABC123", "", Latitude="51.5", Longitude="-0.1", Label="Home", MessageType="location"
    )
    assert delivery.status == 200
    item = await town.settled(2, key)
    assert item[record.MESSAGES][0]["content"] == "[shared a location: Home, 51.5, -0.1]"
    assert [line.customer for line in town.twilio.sent] == ["US.ABC123"]


async def test_delivery_reports_reach_the_record(town: Town) -> None:
    await town.converse()
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    town.twilio.fail_delivery_next(code=63016)
    await town.twilio.receive(CUSTOMER, "hi")
    await town.settled(2)
    await town.twilio.settle()
    entry = (await town.item())[record.MESSAGES][1]
    assert (entry["delivery"], entry["delivery_error"]) == ("undelivered", "63016")
    assert all(delivery.status == 204 for _, delivery in town.twilio.callbacks)


async def test_sigterm_finishes_the_turn_and_exits_0(town: Town) -> None:
    await town.converse()
    process = await town.serve(*COMMAND, "serve", REPLYD_WINDOW__QUIET_SECONDS="0.2")
    town.openai.delay = 2
    await town.twilio.receive(CUSTOMER, "hi")
    async with asyncio.timeout(20):
        while not town.openai.requests:
            await asyncio.sleep(0.02)
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert len(town.twilio.sent) == 1
    assert len((await town.item())[record.MESSAGES]) == 2
    assert process.lines[-1]["event"] == "drained"


async def test_what_waits_at_sigterm_is_answered_by_the_next_process(town: Town) -> None:
    await town.converse()
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="4")
    await town.twilio.receive(CUSTOMER, "hi")
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert town.twilio.sent == []
    await town.serve(REPLYD_WINDOW__QUIET_SECONDS="4")
    await town.settled(2)
    assert len(town.twilio.sent) == 1


async def test_the_operations_port_tells_the_state(town: Town) -> None:
    await town.converse()
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    for path in ("/livez", "/readyz", "/healthz"):
        assert (await process.get(path))[0] == 200
    await town.twilio.receive(CUSTOMER, "hi")
    await town.twilio.receive("+447700900999", "who am I?")
    await town.settled(2)
    status, metrics = await process.get("/metrics")
    assert status == 200
    for line in (
        "replyd_messages_accepted_total 1.0",
        'replyd_messages_dropped_total{reason="unknown_sender"} 1.0',
        'replyd_turns_total{outcome="replied",reason=""} 1.0',
        "replyd_window_wait_seconds_count 1.0",
        "replyd_model_seconds_count 1.0",
        "replyd_send_seconds_count 1.0",
        "replyd_replies_oldest_seconds ",
        'replyd_queue_messages{queue="replies",state="visible"} 0.0',
        'replyd_queue_messages{queue="handoff_dlq",state="visible"} 0.0',
    ):
        assert line in metrics, line
    town.proxy.fail["GetItem"] = 100
    async with asyncio.timeout(20):
        while (await process.get("/readyz"))[0] != 503:
            await asyncio.sleep(0.05)
    assert (await process.get("/livez"))[0] == 200
    town.proxy.fail.clear()


async def test_no_number_text_or_secret_reaches_the_log_or_the_metrics(town: Town) -> None:
    await town.converse()
    await town.converse(ConversationKey("+447700900002", "c-2"), handoff_to_human=True)
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2")
    town.twilio.fail_next(1, status=400, code=63032)
    await town.twilio.receive(CUSTOMER, "my secret question")
    await town.twilio.receive("+447700900002", "my secret question")
    await town.twilio.receive("+447700900999", "my secret question")
    await town.handed_over(2)
    metrics = (await process.get("/metrics"))[1]
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    written = "".join(process.raw) + metrics
    secrets = (CUSTOMER, "0900002", "0900999", BUSINESS, "secret question", "sk-secret")
    assert [s for s in (*secrets, town.twilio.auth_token) if s in written] == []
    assert "turn_ended" in written
    assert all(line for line in process.lines)
    assert len(process.lines) == len(process.raw)


@pytest.mark.parametrize("bodies", ["true", "false"])
async def test_texts_are_logged_only_when_asked(town: Town, bodies: str) -> None:
    await town.converse()
    process = await town.serve(REPLYD_WINDOW__QUIET_SECONDS="0.2", REPLYD_LOGGING__BODIES=bodies)
    await town.twilio.receive(CUSTOMER, "a question to find")
    await town.settled(2)
    process.process.send_signal(signal.SIGTERM)
    await process.ended()
    assert ("a question to find" in "".join(process.raw)) is (bodies == "true")


async def test_a_port_in_use_is_said_and_exits_69(town: Town) -> None:
    process = await town.serve()
    port = process.webhooks.rpartition(":")[2]
    code, _, err = await town.run("serve", REPLYD_SERVER__PORT=port)
    assert code == 69
    assert port in err
    assert len(err.splitlines()) == 1


async def test_each_wrong_setting_is_one_line_and_exits_78(town: Town) -> None:
    code, out, err = await town.run(
        "serve",
        REPLYD_SERVER__PUBLIC_URL="",
        REPLYD_QUEUES__REPLIES_URL="",
        REPLYD_WINDOW__QUIET="3",
        REPLYD_WINDOW__QUIET_SECONDS="soon",
    )
    assert code == 78
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    for name in (
        "server.public_url",
        "queues.replies_url",
        "REPLYD_WINDOW__QUIET",
        "window.quiet_seconds",
    ):
        assert any(name in line for line in lines), name


async def test_check_says_what_is_right_and_what_is_wrong(town: Town) -> None:
    code, out, _ = await town.run("check")
    assert code == 0, out
    code, out, _ = await town.run("check", REPLYD_CONVERSATIONS__TABLE="nowhere")
    assert code == 69
    assert "does not exist" in out
    code, out, _ = await town.run("check", OPENAI_API_KEY="sk-wrong")
    assert code == 69
    assert "sk-wrong" not in out
    code, out, _ = await town.run("check", TWILIO_AUTH_TOKEN="wrong")
    assert code == 69
    code, out, _ = await town.run("check", REPLYD_SERVER__PUBLIC_URL="")
    assert code == 78
    assert "server.public_url" in out


async def test_check_knows_profiles_tools_and_what_conversations_name(town: Town) -> None:
    await town.converse(assistant_id="asst_left_behind", ai_profile="sales")
    await town.converse(ConversationKey("+447700900002", "c-2"), assistant_id="asst_left_behind")
    town.openai.assistants.gone = True
    old = {"backend": "assistants", "assistant_id": "asst_old"}
    profile = ("--set", f"ai.profiles={json.dumps({'old': old})}")
    code, out, _ = await town.run("check", *profile)
    assert code == 0, out
    assert "the Assistants API is gone" in out
    assert "asst_left_behind: 2 conversations" in out
    assert "sales: 1 conversation" in out
    code, out, _ = await town.run("check", *profile, "--set", "ai.assistants.on_gone=handoff")
    assert code == 69, out
    code, out, _ = await town.run("check")
    assert "asst_left_behind" not in out
    code, out, _ = await town.run("check", "--assistants")
    assert "asst_left_behind: 2 conversations" in out
    tool = {"description": "Finds.", "python": "nowhere.at_all:find"}
    code, out, _ = await town.run("check", "--set", f"tools.find={json.dumps(tool)}")
    assert code == 78
    assert "tools.find cannot be used" in out


async def test_init_can_be_repeated(town: Town) -> None:
    first = await town.run("init", "--prefix", f"again{os.getpid()}")
    second = await town.run("init", "--prefix", f"again{os.getpid()}")
    assert (first[0], second[0]) == (0, 0)
    assert "created" in first[1]
    assert "created" not in second[1]
    paste = first[1].partition("[")[2]
    assert paste
    assert paste == second[1].partition("[")[2]


async def test_healthcheck_asks_the_running_process(town: Town) -> None:
    process = await town.serve()
    port = process.ops.rpartition(":")[2]
    assert (await town.run("healthcheck", REPLYD_OPS__PORT=port))[0] == 0
    process.process.send_signal(signal.SIGTERM)
    await process.ended()
    code, _, err = await town.run("healthcheck", REPLYD_OPS__PORT=port)
    assert code == 69
    assert "/livez" in err


async def test_a_reader_who_has_seen_enough_is_no_error(town: Town) -> None:
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m replyd check | true; exit ${{PIPESTATUS[0]}}",
        env=town.environ(REPLYD_SERVER__PUBLIC_URL=""),
        executable="/bin/bash",
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    # No traceback; the exit code says that not everything could be written.
    assert err == b""
