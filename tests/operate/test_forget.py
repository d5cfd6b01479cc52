"""`replyd forget` from its arguments to the exit code."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from replyd.cli import main
from replyd.domain import record
from replyd.errors import DependencyDown
from replyd.flows.forget import Reach
from replyd.operate import forget
from replyd.operate.arguments import add_forget
from tests.support.forgetting import Office, stop
from tests.support.world import CUSTOMER, KEY, World, message

Printed = pytest.CaptureFixture[str]
SECRET = "my card is 4929"


class Counter:
    """The command's parser, and a world whose table outlives a command."""

    def __init__(self) -> None:
        self.world = World()
        self.office = Office(self.world)
        self.parser = argparse.ArgumentParser("replyd")
        add_forget(
            self.parser.add_subparsers(), lambda arguments: forget.run(arguments, self._open)
        )

    async def run(self, *arguments: str) -> int:
        parsed = self.parser.parse_args(["forget", *arguments])
        # As `run` does, but in this loop.
        return await forget._forget(parsed, self._open)

    @asynccontextmanager
    async def _open(self, _: argparse.Namespace) -> AsyncIterator[Reach]:
        yield self.office.reach

    def converse(self) -> None:
        said = {"message_id": message(1).sid, "role": "user", "content": SECRET}
        self.world.converse(thread_id="resp_1", messages=[said])
        self.office.keep(message(1).sid)
        self.office.chain("resp_1")


@pytest.fixture
def counter() -> Counter:
    return Counter()


def items(printed: Printed) -> dict[str, Any]:
    found = json.loads(printed.readouterr().out)
    return {f"{i['where']} {i['what']}": i for i in found["items"]}


async def test_without_yes_it_only_shows(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    assert await counter.run(CUSTOMER) == 2
    out, err = capsys.readouterr()
    assert "Twilio    messages       1" in out
    assert "nothing is erased without --yes" in err
    assert "shared with whoever starts conversations" in err
    assert SECRET not in out + err
    assert counter.world.item()[record.MESSAGES]
    assert await counter.run(CUSTOMER, "--json") == 2
    assert items(capsys)["twilio messages"] == {
        "where": "twilio",
        "what": "messages",
        "found": 1,
    }


async def test_the_receipt(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    assert await counter.run(CUSTOMER, "--yes") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("erased", "gone before", "point-in-time recovery", "35 days", "dead-letter"):
        assert words in out
    assert counter.world.store.items == {}
    assert await counter.run(CUSTOMER, "--yes") == 1
    assert "there is nothing of +447700900001" in capsys.readouterr().err


async def test_the_receipt_for_scripts(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    assert await counter.run(f"whatsapp:{CUSTOMER}", "--yes", "--json") == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["customer"], receipt["left"], receipt["refused"]) == (CUSTOMER, [], None)
    assert {"where": "openai", "what": "responses", "found": 1, "erased": 1, "gone": 0} in (
        receipt["items"]
    )
    assert {"where", "what", "lasts"} == set(receipt["not_reached"][0])


async def test_what_is_left_is_said(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    counter.office.messages.failures = [DependencyDown("twilio", "the credentials are refused")]
    assert await counter.run(CUSTOMER, "--yes") == 69
    out, err = capsys.readouterr()
    assert "the credentials are refused" in out
    assert "run this again" in err
    assert KEY in counter.world.store.items


async def test_what_waits_for_an_answer(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    await counter.world.worker().accept(message(2))
    assert await counter.run(CUSTOMER) == 2
    assert "1 message waits for an answer" in capsys.readouterr().err
    assert await counter.run(CUSTOMER, "--yes", "--wait", "0") == 69
    assert "nothing is erased: 1 message waits" in capsys.readouterr().err
    assert await counter.run(CUSTOMER, "--yes", "--even-unanswered") == 0


async def test_a_stop_is_kept_and_said(counter: Counter, capsys: Printed) -> None:
    counter.converse()
    stop(counter.world)
    assert await counter.run(CUSTOMER, "--yes") == 0
    assert "kept: the customer has said STOP" in capsys.readouterr().out
    assert await counter.run(CUSTOMER) == 1
    assert "see --forget-opt-out" in capsys.readouterr().err
    assert await counter.run(CUSTOMER, "--yes", "--forget-opt-out") == 0
    assert counter.world.store.items == {}


def test_what_it_needs(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert main(["forget", CUSTOMER]) == 78
    err = capsys.readouterr().err
    assert "conversations.table is missing" in err
    assert "twilio.accounts is missing" in err
    with pytest.raises(SystemExit) as usage:
        main(["forget", "no address"])
    assert usage.value.code == 2


def test_the_command_runs_a_loop_of_its_own(counter: Counter, capsys: Printed) -> None:
    parsed = counter.parser.parse_args(["forget", CUSTOMER])
    assert parsed.run(parsed) == 1
    assert "there is nothing of" in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
