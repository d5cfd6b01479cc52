"""`replyd init` and `replyd check` against SQS and DynamoDB stand-ins."""

import asyncio
import json
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import rich
from moto.server import ThreadedMotoServer

from replyd.adapters import aws
from replyd.adapters.memory import MemoryStore
from replyd.adapters.memory.operations import MemoryTable
from replyd.adapters.provisioning import Provisioning, QueueFacts, TableFacts, open_provisioning
from replyd.bootstrap.connections import table_scan
from replyd.bootstrap.tools import toolbox
from replyd.demo.local_aws import LocalAws
from replyd.errors import ConfigError, DependencyDown, Permanent
from replyd.provision import (
    CheckResult,
    Names,
    Report,
    check,
    exit_code,
    init,
    render,
    render_report,
    settings_result,
)
from replyd.provision.assignments import about_assignments
from replyd.provision.checks import Inspector
from replyd.settings import Ai, Conversations, Queues, Server, Settings

SID = "AC0123456789abcdef0123456789abcdef"
FIVE = {"created": 5}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["ministack", "moto"])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    url: str = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return url


@pytest.fixture
async def provisioning(endpoint: str) -> AsyncIterator[Provisioning]:
    async with open_provisioning("us-east-1") as opened:
        yield opened


@pytest.fixture
async def sqs(endpoint: str) -> AsyncIterator[Any]:
    async with aws.create_client("sqs", region="us-east-1") as client:
        yield client


@pytest.fixture
async def dynamodb(endpoint: str) -> AsyncIterator[Any]:
    async with aws.create_client("dynamodb", region="us-east-1") as client:
        yield client


@pytest.fixture
def names() -> Names:
    return Names.with_prefix(f"t{uuid4().hex[:12]}")


def states(report: Report) -> dict[str, int]:
    found = [outcome.state for outcome in report.outcomes]
    return {state: found.count(state) for state in found}


def notes(report: Report) -> str:
    return "\n".join(f"{o.kind} {note}" for o in report.outcomes for note in o.notes)


def settings_for(report: Report, **twilio: Any) -> Settings:
    return Settings.model_validate({
        **tomllib.loads(report.toml),
        "server": Server(public_url="https://hooks.example.com"),
        "twilio": {"accounts": {SID: "token"}, **twilio},
    })  # fmt: skip


async def attributes(sqs: Any, name: str) -> dict[str, str]:
    url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
    answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


# --- init --------------------------------------------------------------------------------------


async def test_it_makes_all_that_is_missing(
    provisioning: Provisioning, sqs: Any, dynamodb: Any, names: Names
) -> None:
    report = await init(provisioning, Conversations(), names)
    assert states(report) == FIVE
    for queue, dead in ((names.replies, names.replies_dlq), (names.handoff, names.handoff_dlq)):
        made, dead_made = await attributes(sqs, queue), await attributes(sqs, dead)
        policy = json.loads(made["RedrivePolicy"])
        assert policy["deadLetterTargetArn"] == dead_made["QueueArn"]
        assert int(policy["maxReceiveCount"]) == 10
        assert made["MessageRetentionPeriod"] == "345600"
        assert dead_made["MessageRetentionPeriod"] == "1209600"
    table = (await dynamodb.describe_table(TableName=names.table))["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "recipient_tel", "KeyType": "HASH"},
        {"AttributeName": "conversation_id", "KeyType": "RANGE"},
    ]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert await provisioning.ttl_attribute(names.table) == "expires_at"


async def test_it_prints_settings_that_work(provisioning: Provisioning, names: Names) -> None:
    report = await init(provisioning, Conversations(), names)
    settings = settings_for(report)
    assert settings.queues.replies_url.endswith(f"/{names.replies}")
    assert settings.queues.handoff_url.endswith(f"/{names.handoff}")
    assert settings.conversations.table == names.table


async def test_a_second_run_changes_nothing(
    provisioning: Provisioning, sqs: Any, names: Names
) -> None:
    first = await init(provisioning, Conversations(), names)
    before = await attributes(sqs, names.replies)
    second = await init(provisioning, Conversations(), names)
    assert states(second) == {"existed": 5}
    assert second.toml == first.toml
    assert await attributes(sqs, names.replies) == before


async def test_two_at_once(provisioning: Provisioning, names: Names) -> None:
    runs = [init(provisioning, Conversations(), names) for _ in range(4)]
    reports = await asyncio.gather(*runs)
    assert len({report.toml for report in reports}) == 1
    last = await init(provisioning, Conversations(), names)
    assert states(last) == {"existed": 5}, notes(last)


async def test_a_run_that_was_cut_off_is_completed(
    provisioning: Provisioning, sqs: Any, names: Names
) -> None:
    retention = {"MessageRetentionPeriod": "1209600"}
    await sqs.create_queue(QueueName=names.replies_dlq, Attributes=retention)
    report = await init(provisioning, Conversations(), names)
    assert states(report) == {"created": 4, "existed": 1}


async def test_what_exists_and_differs_is_reported_and_left_alone(
    provisioning: Provisioning, sqs: Any, dynamodb: Any, names: Names
) -> None:
    await sqs.create_queue(QueueName=names.replies)
    await sqs.create_queue(QueueName=names.handoff_dlq)
    await dynamodb.create_table(
        TableName=names.table,
        KeySchema=[{"AttributeName": "phone", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "phone", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    report = await init(provisioning, Conversations(), names)
    assert report.differs
    text = notes(report)
    assert "queue has no redrive policy" in text
    assert "dead-letter queue keeps messages for 4 days" in text
    assert 'table has the partition key "phone"' in text
    assert 'table has no time to live on "expires_at"' in text
    assert "RedrivePolicy" not in await attributes(sqs, names.replies)
    assert await provisioning.ttl_attribute(names.table) == ""
    # The settings to paste fit the table that is there.
    conversations = settings_for(report).conversations
    assert (conversations.partition_key, conversations.sort_key) == ("phone", "")


async def test_keys_and_index_come_from_the_settings(
    provisioning: Provisioning, names: Names
) -> None:
    wanted = Conversations(
        partition_key="id", sort_key="", lookup_index="by_phone", lookup_key="phone"
    )
    report = await init(provisioning, wanted, names)
    assert states(report) == FIVE
    facts = await provisioning.table(names.table)
    assert facts is not None
    assert (facts.partition_key, facts.sort_key) == ("id", "")
    assert facts.indexes == {"by_phone": "phone"}
    again = settings_for(report).conversations
    assert again.address_attribute == "phone"
    assert states(await init(provisioning, again, names)) == {"existed": 5}


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with open_provisioning("us-east-1") as provisioning:
        with pytest.raises(DependencyDown):
            await provisioning.table("conversations")


def test_the_default_names() -> None:
    assert Names.with_prefix("replyd") == Names()
    assert Names.with_prefix("replyd", table="crm").table == "crm"


async def test_the_report_can_be_printed(
    provisioning: Provisioning, names: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    rich.print(render_report(await init(provisioning, Conversations(), names)))
    assert names.replies_dlq in capsys.readouterr().out


# --- check -------------------------------------------------------------------------------------


class _Answer:
    """A model and a channel that are fine, or fail, or never answer."""

    def __init__(self, error: Exception | None = None, *, never: bool = False) -> None:
        self._error = error
        self._never = never

    async def check(self) -> None:
        if self._never:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error

    async def check_account(self, account_sid: str) -> None:
        assert account_sid == SID
        await self.check()


async def checked(
    settings: Settings,
    inspector: Inspector,
    *,
    model: _Answer = _Answer(),  # noqa: B008 - it has no state
    channel: _Answer = _Answer(),  # noqa: B008
    **options: Any,
) -> list[CheckResult]:
    return await check(
        settings,
        inspector=inspector,
        models=dict.fromkeys(("", *settings.ai.names()), model),
        channel=channel,
        open_tools=partial(toolbox, settings),
        table=MemoryTable(MemoryStore()),
        **options,
    )


def by_name(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.name: result for result in results}


async def test_all_is_well(provisioning: Provisioning, names: Names) -> None:
    settings = settings_for(await init(provisioning, Conversations(), names))
    results = await checked(settings, provisioning)
    assert [(r.name, r.ok, r.mend) for r in results] == [
        ("settings", True, ""),
        ("public URL", True, ""),
        ("replies queue", True, ""),
        ("handoff queue", True, ""),
        ("table", True, ""),
        ("model", True, ""),
        ("tools", True, ""),
        ("Twilio AC01…cdef", True, ""),
    ]
    assert exit_code(results) == 0


async def test_each_thing_that_is_wrong_says_how_to_mend_it(
    provisioning: Provisioning, sqs: Any, names: Names
) -> None:
    report = await init(provisioning, Conversations(), names)
    settings = settings_for(report)
    plain = await sqs.create_queue(QueueName=f"{names.replies}-plain")
    settings = settings.model_copy(
        update={
            "queues": Queues(
                replies_url=plain["QueueUrl"], handoff_url=settings.queues.handoff_url + "-gone"
            ),
            "conversations": Conversations(table=names.table, sort_key="", lookup_index="by_phone"),
            "server": Server(public_url="http://hooks.example.com"),
        }
    )
    results = by_name(
        await checked(
            settings,
            provisioning,
            model=_Answer(Permanent("openai", "the model does not exist", code="model_not_found")),
            channel=_Answer(DependencyDown("twilio", "refuses the credentials (20003)")),
        )
    )
    assert "no redrive policy" in results["replies queue"].mend
    assert "the queue does not exist" in results["handoff queue"].found
    assert 'has the sort key "conversation_id"' in results["table"].mend
    assert 'has no index "by_phone"' in results["table"].mend
    found = "responses, gpt-6-luna: the model does not exist (model_not_found)"
    assert results["model"].found == found
    assert "ai.model" in results["model"].mend
    assert results["Twilio AC01…cdef"].found == "refuses the credentials (20003)"
    assert "twilio.accounts" in results["Twilio AC01…cdef"].mend
    assert "https" in results["public URL"].mend
    wrong = {name for name, result in results.items() if not result.ok}
    assert wrong == {"replies queue", "handoff queue", "table", "model", "Twilio AC01…cdef"}
    assert exit_code(list(results.values())) == 69


async def test_a_table_that_is_not_there(provisioning: Provisioning, names: Names) -> None:
    settings = settings_for(await init(provisioning, Conversations(), names))
    other = Conversations(table=f"{names.table}-other")
    settings = settings.model_copy(update={"conversations": other})
    results = await checked(settings, provisioning)
    table = by_name(results)["table"]
    assert (table.ok, table.found) == (False, "does not exist")
    assert "replyd init" in table.mend


@pytest.mark.parametrize(
    ("retention", "attribute", "advice"),
    [
        ({}, "", ""),
        ({"archive_days": 30}, "expires_at", ""),
        ({"archive_days": 30}, "", 'enable its time to live on "expires_at"'),
        ({"archive_days": 30}, "ttl", 'on "expires_at", it is on "ttl" instead'),
    ],
)
async def test_retention_needs_a_time_to_live(
    retention: dict[str, int], attribute: str, advice: str
) -> None:
    settings = Settings.model_validate({"ai": {"model": "m"}, "retention": retention})
    table = by_name(await checked(settings, _Inspector(attribute)))["table"]
    assert table.ok
    assert advice in table.mend
    assert bool(advice) == bool(table.mend)


async def test_a_time_to_live_is_read_from_the_table(
    provisioning: Provisioning, names: Names
) -> None:
    await init(provisioning, Conversations(), names)
    table = {"table": names.table}
    settings = Settings.model_validate({"conversations": table, "retention": {"archive_days": 1}})
    assert not by_name(await checked(settings, provisioning))["table"].mend


async def test_a_table_that_cannot_be_scanned_is_no_failure(endpoint: str) -> None:
    settings = Settings(conversations=Conversations(table=f"t{uuid4().hex[:12]}"))
    async with table_scan(settings) as table:
        assistants, profiles = await about_assignments(settings.ai, table, 10)
    for row in (assistants, profiles):
        assert row.ok
        assert row.found == "not read: the table or index does not exist"
        assert "dynamodb:Scan" in row.mend


class _Inspector:
    def __init__(self, ttl_attribute: str = "expires_at") -> None:
        self._ttl_attribute = ttl_attribute

    async def queue(self, url: str) -> QueueFacts:
        return QueueFacts(url, "arn:q", dead_letter_arn="arn:d", max_receives=10)

    async def table(self, name: str) -> TableFacts:
        return TableFacts(name, "ACTIVE", "recipient_tel", "conversation_id")

    async def ttl_attribute(self, _name: str) -> str:
        return self._ttl_attribute


async def test_what_does_not_answer_holds_nothing_up() -> None:
    settings = Settings(ai=Ai(model="m"))
    results = by_name(
        await checked(settings, _Inspector(), model=_Answer(never=True), timeout=0.01)
    )
    assert results["model"].found == "responses, m: no answer within 0.01 s"
    assert results["table"].ok
    assert results["replies queue"].ok


def test_wrong_settings_come_before_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        settings_result(["queues.replies_url is missing: set it under [queues]"]),
        CheckResult("table", False, "does not exist", "make it"),
    ]
    assert exit_code(results) == 78
    rich.print(render(results))
    # Not swallowed as markup.
    assert "[queues]" in capsys.readouterr().out


# --- the stand-in itself -----------------------------------------------------------------------


async def test_a_local_aws_ends_with_its_block() -> None:
    async with LocalAws() as local:
        port = int(local.endpoint_url.rpartition(":")[2])
        assert local.environ()["AWS_ENDPOINT_URL"] == local.endpoint_url
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_without_ministack_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ministack", None)
    with pytest.raises(ConfigError, match=r"pip install 'replyd\[demo\]'"):
        async with LocalAws():
            pass
