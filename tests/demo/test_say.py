"""`replyd demo --say`: a burst, its one reply and the record, without the page."""

import asyncio
import json
import re
from typing import Any

from replyd.demo.openai_double import OpenAIDouble
from tests.demo.running import COMMAND, environ

TEXTS = ("hi", "are you open on sunday?")


async def say(**env: str) -> tuple[list[str], dict[str, Any]]:
    """The transcript's lines, and the record."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *(argument for text in TEXTS for argument in ("--say", text)),
        env=environ(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    transcript, _, rest = out.decode().partition("\n\nThe record:\n")
    return transcript.splitlines(), json.loads(rest)


def assert_one_turn(record: dict[str, Any], answer: str) -> None:
    opening, *turn = record["messages"]
    assert opening["role"] == "assistant"
    assert [(m["role"], m["content"]) for m in turn] == [
        ("user", TEXTS[0]),
        ("user", TEXTS[1]),
        ("assistant", answer),
    ]
    assert {m["turn_id"] for m in turn} == {record["reply_last_turn"]}
    assert record["conversation_status"] == "ai_response_sent"
    assert record["reply_pending"] == []


async def test_a_burst_gets_one_reply_and_one_turn() -> None:
    lines, record = await say()
    assert lines[:2] == [f"Lee: {text}" for text in TEXTS]
    (reply,) = lines[2:]
    name, _, answer = reply.partition(": ")
    assert name == "Mill Lane Bakery"
    assert "On Sundays we are open" in answer
    assert_one_turn(record, answer)


async def test_with_a_key_it_asks_openai() -> None:
    async with OpenAIDouble(api_key="sk-test", replies=str.upper) as openai:
        lines, record = await say(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=openai.api_url)
    name, _, answer = "\n".join(lines[2:]).partition(": ")
    assert name == "Mill Lane Bakery"
    # Each message of a burst comes with its time.
    asked = "\n".join(rf"\[\d\d:\d\d:\d\d\] {re.escape(text.upper())}" for text in TEXTS)
    assert re.fullmatch(asked, answer)
    assert_one_turn(record, answer)
    (request,) = openai.requests
    assert "On Sundays we are open" in request["instructions"]
    assert {tool["name"] for tool in request["tools"]} == {"order_status", "hand_over"}
