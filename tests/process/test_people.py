"""People's tools against a running `replyd serve`: real HTTP, ministack, Twilio's double."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp

from replyd.domain import record
from tests.process.conftest import CUSTOMER, Process, Town

TOKEN = "a-token-for-peoples-tools"
TEXT = "hello, Ann here: your loaf is ready"
ONE = f"/operator/conversations/{CUSTOMER}/c-1"


async def ask(
    process: Process, method: str, path: str, body: Any = None, *, key: str = "", token: str = TOKEN
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, process.ops + path, json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_person_works_on_what_the_ai_was_asked(town: Town) -> None:
    await town.converse()
    process = await town.serve(
        REPLYD_OPS__TOKEN=TOKEN,
        REPLYD_LOGGING__LEVEL="INFO",
        REPLYD_DELIVERY__RECORD='["delivered", "undelivered", "failed"]',
    )
    assert (await ask(process, "GET", ONE, token="x" * 20))[0] == 401
    status, page = await ask(process, "GET", "/operator/conversations")
    assert [c["conversation_id"] for c in page["conversations"]] == ["c-1"]
    assert status == 200

    status, found = await ask(process, "POST", ONE + "/handoff", {"author": "Ann"})
    assert (status, found) == (200, {"handoff_to_human": True})
    await town.twilio.receive(CUSTOMER, "is my loaf ready?")
    (body,) = await town.handed_over(1)
    assert body["handoff_reason"] == "requested"
    _, page = await ask(process, "GET", "/operator/conversations?waiting=true")
    assert [c["conversation_id"] for c in page["conversations"]] == ["c-1"]
    _, shown = await ask(process, "GET", ONE)
    assert [e["text"] for e in shown["history"]["tail"]] == ["is my loaf ready?"]

    reply = {"text": TEXT, "author": "Ann"}
    first = await ask(process, "POST", ONE + "/reply", reply, key="k-1")
    assert first[0] == 200
    assert first[1]["delivery"] == "accepted"
    again = await ask(process, "POST", ONE + "/reply", reply, key="k-1")
    assert again[1] == first[1] | {"again": True, "parts": again[1]["parts"]}
    assert [line.text for line in town.twilio.sent] == [TEXT]
    _, page = await ask(process, "GET", "/operator/conversations?waiting=true")
    assert page["conversations"] == []
    await delivered(town)

    assert (await ask(process, "POST", ONE + "/release", {"author": "Ann"}))[0] == 200
    await town.twilio.receive(CUSTOMER, "thank you")
    item = await town.settled(4)
    assert [e["role"] for e in item[record.MESSAGES]] == ["user", "human", "user", "assistant"]
    line = await town.logged(process, "person_acted", action="reply", outcome="accepted")
    assert line["author"] == "Ann"
    _, metrics = await process.get("/metrics")
    told = 'replyd_person_actions_total{action="reply",outcome="accepted"} 1.0'
    assert told in metrics
    assert not [raw for raw in process.raw if TEXT in raw or CUSTOMER[1:] in raw or TOKEN in raw]


async def delivered(town: Town) -> None:
    """Twilio's report finds the answer in the record."""
    async with asyncio.timeout(30):
        while (await town.item())[record.MESSAGES][-1]["delivery"] != "delivered":
            await asyncio.sleep(0.1)


async def test_the_commands_do_the_same_without_a_process(town: Town) -> None:
    await town.converse()
    who = ("--author", "Ann")
    code, out, err = await town.run("conversation", "handoff", CUSTOMER, *who)
    assert (code, out) == (0, "people have it: the AI is silent\n"), err
    said = ("conversation", "reply", CUSTOMER, *who, "--text", TEXT, "--key", "k-1", "--json")
    for again in (False, True):
        code, out, err = await town.run(*said)
        assert code == 0, err
        found = json.loads(out)
        assert (found["delivery"], found["again"]) == ("accepted", again)
        assert TEXT not in err
    assert [line.text for line in town.twilio.sent] == [TEXT]
    code, out, err = await town.run("conversation", "list", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["conversations"]
    assert (row["handoff_to_human"], row["waiting"], row["last_role"]) == (True, False, "human")
    code, out, _ = await town.run("conversation", "release", CUSTOMER, *who)
    assert (code, out) == (0, "the AI answers what comes next\n")
    assert (await town.item())[record.HANDOFF] is False


async def test_the_token_may_be_in_a_file(town: Town, tmp_path: Path) -> None:
    await town.converse()
    secret = tmp_path / "token"
    secret.write_text(TOKEN + os.linesep)
    process = await town.serve(REPLYD_OPS__TOKEN=f"file:{secret}")
    assert (await ask(process, "GET", ONE))[0] == 200
