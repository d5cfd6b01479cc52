"""The commands from their arguments to the exit code, on twins in memory."""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replyd.adapters.memory.operations import MemoryDeadLetters
from replyd.domain.wakeup import BodyCodec
from replyd.flows.desk import Desk
from replyd.operate import commands
from replyd.operate.dlq import Morgue
from replyd.operate.people import Counter
from replyd.ports import DeadMessage
from tests.operate.conftest import desk
from tests.support.world import CUSTOMER, World


class Office:
    """A parser of these commands, with a table and one dead-letter queue behind it."""

    def __init__(self) -> None:
        self.world = World()
        self.letters = MemoryDeadLetters({"r": [DeadMessage("m-1", "", "no json", sent_at=1)]})
        self.parser = argparse.ArgumentParser("replyd")
        commands.add_to(
            self.parser.add_subparsers(),
            add_settings=lambda _: None,
            open_desk=self._desk,
            open_morgue=self._morgue,
            open_counter=self._counter,
        )

    def run(self, *arguments: str) -> int:
        parsed = self.parser.parse_args(arguments)
        code: int = parsed.run(parsed)
        return code

    @asynccontextmanager
    async def _desk(self, _: argparse.Namespace) -> AsyncIterator[Desk]:
        yield desk(self.world)

    @asynccontextmanager
    async def _counter(self, _: argparse.Namespace) -> AsyncIterator[Counter]:
        yield Counter(self.world.worker().people, desk(self.world))

    @asynccontextmanager
    async def _morgue(self, _: argparse.Namespace) -> AsyncIterator[Morgue]:
        urls = {"replies": "r", "handoff": "h"}
        yield Morgue(self.letters, urls, BodyCodec(), lambda: 1)


def test_a_purge_wants_to_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    assert office.run("dlq", "purge") == 2
    assert "r-dlq has about 1 messages: nothing is deleted without --yes" in capsys.readouterr().err
    assert len(office.letters.dead["r"]) == 1
    assert office.run("dlq", "purge", "--yes") == 0
    assert "replies: about 1 deleted" in capsys.readouterr().out
    assert office.letters.dead["r"] == []


def test_a_redrive_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    assert office.run("dlq", "redrive") == 0
    assert capsys.readouterr().out == "replies: 1 moved back\n"
    assert office.letters.moved == {"r": ["no json"]}


@pytest.mark.parametrize("command", ["redrive", "purge"])
def test_no_dead_letter_queue(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    yes = ["--yes"] if command == "purge" else []
    assert Office().run("dlq", command, "handoff", *yes) == 1
    assert "no dead-letter queue there" in capsys.readouterr().err


def test_a_scan_says_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    office.world.converse(reply_seen={"SM1": 1})
    assert office.run("explain", "SM1", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == "settled"
    assert "reading the whole table, about 1 items" in shown.err
    assert "1 items read, 0.5 read capacity units" in shown.err
    assert office.run("explain", "SM2", "--customer", CUSTOMER, "--json") == 1
    shown = capsys.readouterr()
    assert "none of the records of this customer know SM2" in shown.err
    assert json.loads(shown.out) is None
    assert "reading the whole table" not in shown.err


def test_a_customer_with_and_without_records(capsys: pytest.CaptureFixture[str]) -> None:
    office = Office()
    assert office.run("conversation", "show", CUSTOMER) == 1
    assert f"no record of {CUSTOMER} in the table\n" in capsys.readouterr().err
    assert office.run("conversation", "show", CUSTOMER.removeprefix("+"), "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["records"] == []
    assert "a phone number starts with +" in shown.err
    office.world.converse()
    assert office.run("conversation", "show", f"whatsapp:{CUSTOMER}") == 0
    assert f"{CUSTOMER}: 1 record" in capsys.readouterr().out
